import pytest
from sqlmodel import select

from registry.callers import keys as keys_module
from registry.callers.keys import STALE_AFTER_S, Keys
from registry.callers.levels import grants_of
from registry.errors import Conflict, NotFound, Overloaded
from registry.identity import ADMIN_ID, KeySpec
from registry.sealed.secrets import digest
from registry.store.db import Database, open_database
from registry.store.tables.callers import ApiKey
from registry.store.tables.hub import Change


def hashed(secret: str) -> str:
    return digest(secret.encode())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(database: Database, clock: Clock) -> Keys:
    return Keys(database, clock=clock)


def file_key(name: str, secret: str, *allow: str) -> KeySpec:
    return KeySpec(name=name, allow=allow or ("model:*",), secret=secret)


async def test_a_key_opens_what_it_was_granted(keys: Keys) -> None:
    made, secret = await keys.create(KeySpec(name="rita", allow=("model:gpt-*",), requests_per_minute=3))
    found = await keys.find(hashed(secret))
    assert found is not None
    assert (found.id, found.name, found.requests_per_minute, found.is_admin) == (made.id, "rita", 3, False)
    assert found.grants.allow("model", "gpt-4o")
    assert not found.grants.allow("model", "claude")


@pytest.mark.attack("2.1/20", defence="registry.sealed.secrets:digest")
async def test_the_secret_is_256_random_bits_and_is_not_stored(keys: Keys, database: Database) -> None:
    made, secret = await keys.create(KeySpec(name="rita", allow=()))
    assert secret.startswith("sk-")
    assert len(secret) == 3 + 43
    row = await database.read(lambda session: session.get(ApiKey, made.id))
    assert row is not None
    assert secret not in str(row.model_dump())


async def test_a_wrong_key_opens_nothing_and_is_remembered(keys: Keys) -> None:
    assert await keys.find(hashed("sk-wrong")) is None
    assert hashed("sk-wrong") in keys._cache
    assert keys.cached(hashed("sk-wrong")) is None


async def test_a_key_that_was_asked_for_before_it_was_made_works_when_it_is_made(keys: Keys) -> None:
    secret = "sk-" + "a" * 40
    assert await keys.find(hashed(secret)) is None
    await keys.create(file_key("late", secret))
    assert await keys.find(hashed(secret)) is not None


async def test_a_revoked_key_is_refused_at_the_next_request(keys: Keys) -> None:
    _, secret = await keys.create(KeySpec(name="rita", allow=()))
    assert await keys.find(hashed(secret)) is not None
    await keys.revoke("rita")
    assert keys.cached(hashed(secret)) is None
    assert await keys.find(hashed(secret)) is None


async def test_a_key_revoked_by_another_process_is_refused_once_changes_are_read(keys: Keys, address: str) -> None:
    _, secret = await keys.create(KeySpec(name="rita", allow=()))
    assert await keys.find(hashed(secret)) is not None
    async with open_database(address) as other:
        await Keys(other).revoke("rita")
    keys.forget()
    assert await keys.find(hashed(secret)) is None


async def test_a_key_that_changes_while_it_is_read_is_read_again(keys: Keys, database: Database) -> None:
    _, secret = await keys.create(KeySpec(name="rita", allow=()))
    read, raced = database.read, []

    async def racing(query):
        found = await read(query)
        if not raced:
            raced.append(True)
            await keys.revoke("rita")
        return found

    database.read = racing
    assert await keys.find(hashed(secret)) is None


async def test_an_expired_key_is_refused_also_from_the_cache(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = await keys.create(KeySpec(name="rita", allow=(), expires_at=2_000_000_000.0))
    assert await keys.find(hashed(secret)) is not None
    monkeypatch.setattr(keys_module.time, "time", lambda: 2_000_000_001.0)
    assert keys.cached(hashed(secret)) is None
    assert await keys.find(hashed(secret)) is None


@pytest.mark.attack("2.1/37")
@pytest.mark.attack("2.2/10", defence="registry.callers.keys:Keys.check_fresh")
async def test_nothing_cached_is_believed_when_changes_cannot_be_read(keys: Keys, clock: Clock) -> None:
    _, secret = await keys.create(KeySpec(name="rita", allow=()))
    await keys.find(hashed(secret))
    clock.now += STALE_AFTER_S + 0.1
    with pytest.raises(Overloaded):
        keys.cached(hashed(secret))
    with pytest.raises(Overloaded):
        await keys.find(hashed(secret))
    keys.mark_fresh()
    assert keys.cached(hashed(secret)) is not None


@pytest.mark.attack("2.1/24")
async def test_a_flood_of_wrong_keys_costs_bounded_memory(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "MAX_CACHED", 10)
    for number in range(30):
        await keys.find(hashed(f"sk-{number}"))
    assert len(keys._cache) == 10


async def test_two_live_keys_do_not_share_a_name_and_a_revoked_name_is_free(keys: Keys) -> None:
    first, _ = await keys.create(KeySpec(name="rita", allow=()))
    with pytest.raises(Conflict):
        await keys.create(KeySpec(name="rita", allow=()))
    await keys.revoke("rita")
    second, _ = await keys.create(KeySpec(name="rita", allow=()))
    assert first.id != second.id


async def test_revoking_what_is_not_there_is_told(keys: Keys) -> None:
    with pytest.raises(NotFound):
        await keys.revoke("nobody")


async def test_the_files_keys_come_change_and_go_with_the_file(keys: Keys) -> None:
    await keys.follow_file([file_key("dev", "s" * 20)])
    first = await keys.find(hashed("s" * 20))
    await keys.follow_file([file_key("dev", "s" * 20, "tool:*")])
    changed = await keys.find(hashed("s" * 20))
    assert first is not None
    assert changed is not None
    assert changed.id == first.id
    assert changed.grants.allow("tool", "a__b")
    await keys.follow_file([])
    assert await keys.find(hashed("s" * 20)) is None


@pytest.mark.attack("2.2/6")
async def test_a_changed_secret_is_another_principal(keys: Keys) -> None:
    await keys.follow_file([file_key("dev", "s" * 20)])
    first = await keys.find(hashed("s" * 20))
    await keys.follow_file([file_key("dev", "t" * 20)])
    second = await keys.find(hashed("t" * 20))
    assert await keys.find(hashed("s" * 20)) is None
    await keys.follow_file([file_key("dev", "s" * 20)])
    third = await keys.find(hashed("s" * 20))
    assert len({found.id for found in (first, second, third) if found is not None}) == 3


async def test_a_key_of_the_file_is_changed_in_the_file_only(keys: Keys) -> None:
    await keys.follow_file([file_key("dev", "s" * 20)])
    with pytest.raises(Conflict, match="file"):
        await keys.revoke("dev")
    with pytest.raises(Conflict):
        await keys.create(KeySpec(name="dev", allow=()))


async def test_a_key_made_here_can_be_revoked_though_the_file_has_its_name(keys: Keys) -> None:
    _, secret = await keys.create(KeySpec(name="dev", allow=()))
    await keys.follow_file([file_key("dev", "s" * 20)])
    await keys.revoke("dev")
    assert await keys.find(hashed(secret)) is None
    assert await keys.find(hashed("s" * 20)) is not None


@pytest.mark.parametrize("is_revoked", [False, True])
async def test_the_file_cannot_take_the_secret_of_a_key_made_here(keys: Keys, is_revoked: bool) -> None:
    _, secret = await keys.create(KeySpec(name="rita", allow=()))
    if is_revoked:
        await keys.revoke("rita")
    with pytest.raises(Conflict, match="secret of another key"):
        await keys.follow_file([file_key("dev", secret)])


async def test_the_admin_key_is_made_once_and_told_once(keys: Keys) -> None:
    made = await keys.follow_admin_key(None)
    assert made is not None
    assert await keys.follow_admin_key(None) is None
    found = await keys.find(hashed(made))
    assert found is not None
    assert found.id == ADMIN_ID
    assert found.is_admin


async def test_a_configured_admin_key_replaces_the_one_before(keys: Keys) -> None:
    made = await keys.follow_admin_key(None)
    assert await keys.follow_admin_key("configured-admin-key") is None
    assert await keys.find(hashed(made or "")) is None
    assert await keys.find(hashed("configured-admin-key")) is not None


async def test_lists_show_live_keys_by_name(keys: Keys) -> None:
    for name in ("b", "a", "c"):
        await keys.create(KeySpec(name=name, allow=("model:*",)))
    await keys.revoke("c")
    found = await keys.all_live()
    assert [(key.name, grants_of(key)) for key in found] == [("a", ("model:*",)), ("b", ("model:*",))]


async def test_another_admin_key_is_a_change_that_other_processes_hear_of(keys: Keys, database: Database) -> None:
    async def changes() -> list[str]:
        return await database.read(lambda session: [one.name for one in session.exec(select(Change)).all()])

    await keys.follow_admin_key("configured-admin-key")
    assert await changes() == []
    await keys.follow_admin_key("configured-admin-key")
    assert await changes() == []
    await keys.follow_admin_key("another-admin-key-0")
    assert await changes() == ["admin"]


async def test_the_last_use_of_a_key_is_written_once_in_a_minute(keys: Keys, database: Database) -> None:
    made, _ = await keys.create(KeySpec(name="rita", allow=()))

    async def used() -> float | None:
        keys.last_use.flush()
        await database.committed()
        row = await database.read(lambda session: session.get(ApiKey, made.id))
        assert row is not None
        return row.last_used_at

    assert await used() is None
    keys.last_use.note(made.id)
    first = await used()
    assert first is not None
    assert first >= made.created_at
    await keys.update("rita", last_used_at=1.0)
    for _ in range(3):
        keys.last_use.note(made.id)
    assert await used() == 1.0
