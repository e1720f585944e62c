"""What a key may do when its user and its team have their word too."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from registry.access import EVERYTHING, Grant, Grants, Meet, Through
from registry.callers import keys as keys_module
from registry.callers.keys import Keys
from registry.callers.kin import are_kin, line
from registry.callers.levels import written
from registry.callers.teams import Teams
from registry.callers.users import Users
from registry.errors import Conflict, InvalidRequest, NotFound
from registry.identity import KeySpec, Principal, Role
from registry.members import check_email, check_user_name
from registry.sealed.secrets import digest
from registry.store.db import Database

GRANTS = ["model:*", "model:gpt-*", "model:gpt-4", "tool:github__*", "tool:*", "server:github", "server:*", "agent:a"]
NAMES = [
    ("model", "gpt-4"),
    ("model", "claude"),
    ("tool", "github__list"),
    ("tool", "time__now"),
    ("server", "github"),
    ("prompt", "github__p"),
    ("agent", "a"),
]
lists = st.lists(st.sampled_from(GRANTS), max_size=4)


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)


@pytest.fixture
def teams(database: Database, keys: Keys) -> Teams:
    return Teams(database, keys)


@pytest.fixture
def users(database: Database, keys: Keys) -> Users:
    return Users(database, keys)


async def holder(keys: Keys, secret: str) -> Principal | None:
    return await keys.find(digest(secret.encode()))


@given(st.lists(lists, min_size=1, max_size=3), lists)
def test_a_meet_allows_reaches_and_covers_what_all_its_parts_do(parts: list[list[str]], other: list[str]) -> None:
    levels = [Grants.parse(part) for part in parts]
    met, others = Meet.of(*levels), Grants.parse(other)
    for kind, name in NAMES:
        assert met.allow(kind, name) == all(level.allow(kind, name) for level in levels)
        assert not met.allow(kind, name) or met.reach(kind, name)
    assert met.cover(others) == all(level.cover(others) for level in levels)
    everything = [grant for kind in ("model", "tool", "server", "agent") for grant in met.named(Grant(kind, "*"))]
    assert all(met.cover(Grants((grant,))) for grant in everything)
    assert {str(grant) for grant in everything} >= set.intersection(*map(set, parts))


@given(lists, lists)
def test_a_meet_covers_only_what_it_allows(one: list[str], two: list[str]) -> None:
    met = Meet.of(Grants.parse(one), Grants.parse(two))
    for text, (kind, name) in itertools.product(GRANTS, NAMES):
        given = Grants.parse([text])
        if met.cover(given) and given.allow(kind, name):
            assert met.allow(kind, name)


def test_a_meet_is_itself_in_caches_and_no_other() -> None:
    one, two, three = (Grants.parse([text]) for text in ("model:*", "model:gpt-*", "model:gpt-4"))
    assert Meet.of(one, two) == Meet.of(one, two)
    assert hash(Meet.of(one, two)) == hash(Meet.of(one, two))
    assert Meet.of(one, two) != Meet.of(one, three)
    assert Meet.of(one, two) != Meet.of(one, two).parts[1]
    assert Meet.of(one) is one
    assert not Meet.of().allow("model", "gpt-4")


def test_grants_of_a_server_and_of_its_tools_meet_in_its_tools() -> None:
    server, tools = Grants.parse(["server:github"]), Grants.parse(["tool:github__list_*"])
    for met in (Meet.of(server, tools), Meet.of(tools, server), Through.of(server, tools, delegates=False)):
        assert met.allow("tool", "github__list_all")
        assert not met.allow("tool", "github__delete")
        assert not met.allow("server", "github")


def test_what_is_used_through_an_agent_stays_within_every_level_of_its_caller() -> None:
    caller = Meet.of(Grants.parse(["tool:*"]), Grants.parse(["tool:github__*"]))
    through = Through.of(Grants.parse(["tool:*"]), caller, delegates=False)
    assert through.allow("tool", "github__x")
    assert not through.allow("tool", "time__now")


LEVELS: list[tuple[Any, Any, Any, list[str]]] = [
    (["model:*"], None, None, ["gpt-4", "claude"]),
    (["model:*"], ["model:gpt-*"], None, ["gpt-4"]),
    (["model:*"], None, ["model:claude"], ["claude"]),
    (["model:*"], ["model:gpt-*"], ["model:claude"], []),
    (None, ["model:gpt-*"], None, ["gpt-4"]),
    (None, ["model:gpt-*", "model:claude"], ["model:claude"], ["claude"]),
    (None, None, None, []),
    ([], None, None, []),
    ([], ["model:*"], ["model:*"], []),
    (["model:*"], [], None, []),
]


@pytest.mark.parametrize(("own", "user", "team", "may"), LEVELS)
async def test_a_key_may_what_all_levels_that_say_something_allow(
    keys: Keys, users: Users, teams: Teams, own: Any, user: Any, team: Any, may: list[str]
) -> None:
    await users.create("rita", allow=user)
    await teams.create("red", allow=team)
    await teams.put_member("red", "rita", "member")
    _, secret = await keys.create(KeySpec(name="k", allow=own, user="rita", team="red"))
    found = await holder(keys, secret)
    assert found is not None
    assert [name for name in ("gpt-4", "claude") if found.grants.allow("model", name)] == may


async def test_every_level_is_obeyed_from_the_next_request_on(keys: Keys, users: Users, teams: Teams) -> None:
    await users.create("rita")
    await teams.create("red")
    await teams.put_member("red", "rita", "member")
    _, secret = await keys.create(KeySpec(name="k", allow=("model:*",), user="rita", team="red"))

    async def may() -> bool:
        found = await holder(keys, secret)
        return found is not None and found.grants.allow("model", "gpt-4")

    assert await may()
    for change, back in (
        (lambda: users.change("rita", allow="[]"), lambda: users.change("rita", allow=None)),
        (lambda: teams.change("red", allow="[]"), lambda: teams.change("red", allow=written(["model:gpt-*"]))),
        (lambda: users.change("rita", disabled=True), lambda: users.change("rita", disabled=False)),
        (lambda: teams.remove_member("red", "rita"), lambda: teams.put_member("red", "rita", "viewer")),
        (lambda: keys.update("k", grants="[]"), lambda: keys.update("k", grants='["model:*"]')),
    ):
        await change()
        assert not await may()
        await back()
        assert await may()


@pytest.mark.attack("2.1/37")
async def test_a_key_whose_user_is_disabled_gone_or_not_in_its_team_is_nobodys(
    keys: Keys, users: Users, teams: Teams
) -> None:
    await users.create("rita")
    await teams.create("red")
    await teams.put_member("red", "rita", "member")
    made, secret = await keys.create(KeySpec(name="k", allow=("model:*",), user="rita", team="red"))
    _, loose = await keys.create(KeySpec(name="loose", allow=("model:*",), user="rita"))
    await teams.remove_member("red", "rita")
    assert await holder(keys, secret) is None
    assert made.id not in await keys.living([made.id])
    assert await holder(keys, loose) is not None
    await users.change("rita", disabled=True)
    assert await holder(keys, loose) is None
    await users.change("rita", disabled=False)
    await teams.put_member("red", "rita", "member")
    await users.delete("rita")
    assert (await users.create("rita")).id != made.user_id
    assert (await holder(keys, secret), await holder(keys, loose)) == (None, None)
    assert [one.user.name for one in await teams.members("red")] == []
    with pytest.raises(NotFound):
        await keys.revoke("k")


async def test_a_user_who_is_not_in_a_team_gets_no_key_in_it(keys: Keys, users: Users, teams: Teams) -> None:
    await users.create("rita")
    await teams.create("red")
    for spec in (KeySpec(name="k", allow=(), user="rita", team="red"), KeySpec(name="k", allow=(), user="nobody")):
        with pytest.raises(InvalidRequest):
            await keys.create(spec)
    await keys.create(KeySpec(name="k", allow=(), user="rita"))
    with pytest.raises(InvalidRequest, match="not in the team"):
        await keys.update("k", team="red")


async def test_a_key_of_the_file_waits_for_its_user_to_be_in_its_team(keys: Keys, users: Users, teams: Teams) -> None:
    await users.create("rita")
    await teams.create("red")
    spec = KeySpec(name="dev", allow=("model:*",), secret="s" * 20, user="rita", team="red")
    await keys.follow_file([spec])
    assert await holder(keys, "s" * 20) is None
    await teams.put_member("red", "rita", "member")
    assert await holder(keys, "s" * 20) is not None
    await teams.remove_member("red", "rita")
    await keys.follow_file([spec])
    assert await holder(keys, "s" * 20) is None
    for deletion in (users.delete("rita"), teams.delete("red")):
        with pytest.raises(Conflict, match="'dev'"):
            await deletion
    await keys.follow_file([])
    await users.delete("rita")


@pytest.mark.parametrize("role", ["viewer", "member", "admin"])
async def test_a_key_acts_in_its_users_role_only_if_its_own_list_says_so(
    keys: Keys, users: Users, teams: Teams, role: Role
) -> None:
    await users.create("rita", allow=("model:*",))
    await teams.create("red", allow=("model:*",))
    await teams.put_member("red", "rita", role)
    for name, allow, team, expected in (
        ("acting", ("admin:roles",), "red", role),
        ("calling", ("model:*",), "red", None),
        ("open", None, "red", None),
        ("without", ("admin:roles",), None, None),
    ):
        _, secret = await keys.create(KeySpec(name=name, allow=allow, user="rita", team=team))
        found = await holder(keys, secret)
        assert found is not None
        assert found.role == expected
        assert not found.grants.allow("admin", "roles")


async def test_users_are_renamed_and_a_new_one_of_an_old_name_inherits_nothing(keys: Keys, users: Users) -> None:
    rita = await users.create("rita", email="rita@example.com")
    _, secret = await keys.create(KeySpec(name="k", allow=("model:*",), user="rita"))
    await users.change("rita", name="margarita")
    with pytest.raises(NotFound):
        await users.find("rita")
    found = await holder(keys, secret)
    assert found is not None
    assert found.user_id == rita.id
    second = await users.create("rita", allow=())
    with pytest.raises(Conflict):
        await users.change("margarita", name="rita")
    assert (await holder(keys, secret)) == found
    assert [user.id for user in await users.page()] == [rita.id, second.id]
    assert [user.id for user in await users.page(after="margarita", limit=1)] == [second.id]
    assert (await users.find(rita.id)).name == "margarita"


async def test_a_rotated_key_takes_its_old_secret_for_a_while(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    made, first = await keys.create(KeySpec(name="k", allow=("model:*",)))
    now = keys_module.time.time()
    monkeypatch.setattr(keys_module.time, "time", lambda: now)
    _, second = await keys.rotate("k", 3600)
    for secret in (first, second):
        found = await holder(keys, secret)
        assert found is not None
        assert found.id == made.id
    monkeypatch.setattr(keys_module.time, "time", lambda: now + 3600)
    assert await holder(keys, first) is None
    assert await holder(keys, second) is not None
    _, third = await keys.rotate("k", 0)
    assert [await holder(keys, secret) is not None for secret in (first, second, third)] == [False, False, True]


async def test_who_rotates_a_key_is_kin_to_it_and_nobody_leaves_its_makers_by_it(
    keys: Keys, database: Database
) -> None:
    maker, _ = await keys.create(KeySpec(name="maker", allow=("model:*",)))
    key, _ = await keys.create(KeySpec(name="k", allow=("model:*",), created_by=maker.id))
    child, _ = await keys.create(KeySpec(name="child", allow=("model:*",), created_by=key.id))
    other, _ = await keys.create(KeySpec(name="other", allow=("model:*",)))

    async def makers() -> list[str]:
        return await database.read(lambda session: line(session, key.id))

    for by in (None, "admin", key.id, maker.id, child.id):
        await keys.rotate("k", 0, by=by)
        assert await makers() == [key.id, maker.id]
    await keys.rotate("k", 0, by=other.id)
    assert await makers() == [key.id, other.id]
    assert await database.read(lambda session: are_kin(session, other.id, child.id))


async def test_keys_of_one_user_are_kin(keys: Keys, users: Users, database: Database) -> None:
    await users.create("rita")
    await users.create("omar")
    made = [
        (await keys.create(KeySpec(name=f"k{at}", allow=(), user=user)))[0].id
        for at, user in enumerate(("rita", "rita", "omar", None, None))
    ]

    async def kin(one: int, other: int) -> bool:
        return await database.read(lambda session: are_kin(session, made[one], made[other]))

    assert [await kin(0, at) for at in range(5)] == [True, True, False, False, False]
    assert not await kin(3, 4)


async def test_a_second_rotation_ends_the_oldest_secret_and_revoking_ends_all(keys: Keys) -> None:
    _, first = await keys.create(KeySpec(name="k", allow=("model:*",)))
    _, second = await keys.rotate("k", 3600)
    _, third = await keys.rotate("k", 3600)
    assert [await holder(keys, secret) is not None for secret in (first, second, third)] == [False, True, True]
    with pytest.raises(Conflict, match="secret of another key"):
        await keys.follow_file([KeySpec(name="dev", allow=(), secret=second)])
    await keys.revoke("k")
    assert [await holder(keys, secret) for secret in (first, second, third)] == [None, None, None]


async def test_a_key_that_is_not_cached_costs_one_query_that_scans_nothing(
    keys: Keys, users: Users, teams: Teams, database: Database
) -> None:
    await users.create("rita")
    await teams.create("red")
    await teams.put_member("red", "rita", "member")
    _, secret = await keys.create(KeySpec(name="k", allow=("model:*",), user="rita", team="red"))
    said: list[tuple[str, Any]] = []
    event.listen(database.engine, "before_cursor_execute", lambda *told: said.append((told[2], told[3])))
    await holder(keys, secret)
    queries = [(text, values) for text, values in said if text.startswith("SELECT")]
    assert len(queries) == 1
    for _ in range(3):
        await holder(keys, secret)
    assert len([text for text, _ in said if text.startswith("SELECT")]) == 1
    await holder(keys, "sk-unknown")
    queries = [(text, values) for text, values in said if text.startswith("SELECT")]
    assert len(queries) == 3

    def plans(session: Any) -> list[str]:
        connection = session.connection()
        found = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values) for text, values in queries]
        return [str(row[3]) for rows in found for row in rows]

    assert not [step for step in await database.read(plans) if step.startswith("SCAN")]


def test_everything_is_held_by_who_holds_everything() -> None:
    assert Meet.of(EVERYTHING, EVERYTHING).cover(EVERYTHING)
    assert not Meet.of(EVERYTHING, Grants.parse(["model:*"])).cover(EVERYTHING)


@pytest.mark.parametrize("name", ["", "Rita", "a/b", "a b", "user_x", "-a", "x" * 129, "ä", "rita\n"])
def test_a_users_name_that_could_be_taken_for_another_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        check_user_name(name)


@pytest.mark.parametrize("text", ["rita", "@x", "a@", "a b@c", "a@b\nc", "a@b,c@d", "<a@b>"])
def test_an_email_that_is_more_or_less_than_one_address_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        check_email(text)
