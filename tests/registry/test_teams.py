import pytest

from registry.callers.keys import Keys
from registry.callers.teams import Teams
from registry.errors import Conflict, InvalidRequest, NotFound
from registry.identity import KeySpec
from registry.members import check_team_alias
from registry.sealed.secrets import digest
from registry.store.db import Database
from registry.store.tables.callers import Team

SECRET = "s" * 20


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)


@pytest.fixture
def teams(database: Database, keys: Keys) -> Teams:
    return Teams(database, keys)


async def team_of(keys: Keys, secret: str) -> str | None:
    found = await keys.find(digest(secret.encode()))
    assert found is not None
    return found.team_id


async def test_a_team_is_found_by_alias_and_by_id(teams: Teams) -> None:
    made = await teams.create("red")
    assert (await teams.find("red")).id == (await teams.find(made.id)).id == made.id
    with pytest.raises(NotFound):
        await teams.find("blue")


async def test_an_alias_is_one_teams_also_when_another_is_renamed(teams: Teams) -> None:
    red, blue = await teams.create("red"), await teams.create("blue")
    with pytest.raises(Conflict):
        await teams.create("red")
    with pytest.raises(Conflict):
        await teams.change("blue", alias="red")
    assert [(team.alias, team.id) for team in await teams.page()] == [("blue", blue.id), ("red", red.id)]
    await teams.change("red", alias="red")
    await teams.change("red", alias="crimson")
    await teams.change("blue", alias="red")
    assert [(team.alias, team.id) for team in await teams.page()] == [("crimson", red.id), ("red", blue.id)]


async def test_the_database_itself_keeps_an_alias_unique(database: Database, teams: Teams) -> None:
    await teams.create("red")
    with pytest.raises(Exception, match="UNIQUE"):
        await database.write(lambda session: session.add(Team(id="team_x", alias="red", created_at=0.0)))


async def test_a_key_keeps_its_team_through_renames_and_is_revoked_with_it(keys: Keys, teams: Teams) -> None:
    red = await teams.create("red")
    _, secret = await keys.create(KeySpec(name="rita", allow=(), team="red"))
    assert await team_of(keys, secret) == red.id
    await teams.change("red", alias="crimson")
    assert await team_of(keys, secret) == red.id
    await teams.delete("crimson")
    assert await keys.find(digest(secret.encode())) is None
    assert (await teams.create("crimson")).id != red.id
    assert await keys.find(digest(secret.encode())) is None


async def test_a_team_that_is_not_there_is_told_and_the_key_stays_as_it_was(keys: Keys, teams: Teams) -> None:
    with pytest.raises(InvalidRequest, match="no team 'red'"):
        await keys.create(KeySpec(name="rita", allow=(), team="red"))
    assert await keys.all_live() == []
    red = await teams.create("red")
    _, secret = await keys.create(KeySpec(name="rita", allow=(), team=red.id))
    with pytest.raises(InvalidRequest):
        await keys.update("rita", team="blue", requests_per_minute=1)
    found = await keys.find(digest(secret.encode()))
    assert found is not None
    assert (found.team_id, found.requests_per_minute) == (red.id, None)


async def test_a_key_of_the_file_follows_the_file_into_its_team_and_keeps_the_team_there(
    keys: Keys, teams: Teams
) -> None:
    red, blue = await teams.create("red"), await teams.create("blue")
    for team, found in (("red", red.id), (blue.id, blue.id), (None, None), ("red", red.id)):
        await keys.follow_file([KeySpec(name="dev", allow=(), secret=SECRET, team=team)])
        assert await team_of(keys, SECRET) == found
    with pytest.raises(Conflict, match="'dev'"):
        await teams.delete("red")
    with pytest.raises(InvalidRequest, match="no team 'green'"):
        await keys.follow_file([KeySpec(name="dev", allow=(), secret=SECRET, team="green")])
    assert await team_of(keys, SECRET) == red.id
    await keys.follow_file([])
    await teams.delete("red")


@pytest.mark.parametrize("alias", ["", "Red", "a/b", "a b", "team_x", "-a", "x" * 65, "ä", "red\n"])
def test_an_alias_that_could_be_taken_for_another_is_none(alias: str) -> None:
    with pytest.raises(ValueError, match="alias"):
        check_team_alias(alias)
