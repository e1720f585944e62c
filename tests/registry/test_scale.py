"""Many keys, teams and grants cost a request nothing: what is counted are the database's steps and queries, not time."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from sqlalchemy import event

from registry.callers.keys import Keys
from registry.callers.teams import Teams
from registry.callers.users import Users
from registry.identity import KeySpec
from registry.sealed.secrets import digest
from registry.store.db import Database, insert

KEYS, TEAMS, GRANTS = 100_000, 1_000, 10_000


def fill(connection: sqlite3.Connection, rounds: list[None]) -> list[None]:
    teams = [(f"team_{number}", f"t{number}", 0.0) for number in range(TEAMS)]
    insert(connection, "teams (id, alias, created_at)", teams)
    users = [(f"user_{number}", f"u{number}", 0, 0.0) for number in range(TEAMS)]
    insert(connection, "users (id, name, disabled, created_at)", users)
    members = [(f"team_{number}", f"user_{number}", "member", 0.0) for number in range(TEAMS)]
    insert(connection, "members (team_id, user_id, role, created_at)", members)
    keys = [
        (f"key_{at}", f"k{at}", f"digest{at}", '["model:*"]', f"team_{at % TEAMS}", f"user_{at % TEAMS}", 0.0, "api")
        for at in range(KEYS)
    ]
    insert(connection, "api_keys (id, name, digest, grants, team_id, user_id, created_at, owner)", keys)
    return rounds


class Counted:
    """What the database was asked and how many steps of its machine that took."""

    def __init__(self, database: Database) -> None:
        self.queries: list[str] = []
        self.steps = 0
        event.listen(database.engine, "before_cursor_execute", self._note)
        event.listen(database.engine, "checkout", self._watch)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        self.queries.append(statement)

    def _watch(self, driver: sqlite3.Connection, *_rest: Any) -> None:
        driver.set_progress_handler(self._step, 1)

    def _step(self) -> int:
        self.steps += 1
        return 0

    async def of(self, keys: Keys, secret: str) -> tuple[int, int]:
        self.queries, self.steps = [], 0
        await keys.find(digest(secret.encode()))
        return len([text for text in self.queries if text.startswith("SELECT")]), self.steps


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database, clock=lambda: 0.0)  # nobody reads changes here


async def test_a_lookup_takes_the_same_queries_and_steps_among_100_000_keys(database: Database, keys: Keys) -> None:
    await Users(database, keys).create("rita")
    teams = Teams(database, keys)
    await teams.create("red", allow=tuple(f"model:m{number}" for number in range(GRANTS)))
    await teams.put_member("red", "rita", "member")
    _, secret = await keys.create(KeySpec(name="k", allow=("model:*",), user="rita", team="red"))
    counted = Counted(database)
    alone, unknown = await counted.of(keys, secret), await counted.of(keys, "sk-unknown")
    await database.append(fill, None)
    keys.forget()
    among, unknown_among = await counted.of(keys, secret), await counted.of(keys, "sk-unknown")
    assert alone[0] == among[0] == 1
    assert among[1] <= alone[1]
    assert unknown_among[1] <= unknown[1]
    assert await counted.of(keys, secret) == (0, 0)
    found = await keys.find(digest(secret.encode()))
    assert found is not None
    assert found.grants.allow("model", f"m{GRANTS - 1}")
    assert not found.grants.allow("model", f"m{GRANTS}")
