import asyncio
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.access import Grants
from registry.identity import Principal
from registry.sealed import kept as module
from registry.sealed.kept import Kept
from registry.sealed.secrets import Sealer
from registry.store.db import Database

OURS, THEIRS = b"k" * 32, b"o" * 32


def principal(name: str, team: str | None = None) -> Principal:
    return Principal(id=name, name=name, grants=Grants(()), team_id=team)


ANN, BOB, CAT = principal("ann", "red"), principal("bob", "red"), principal("cat")


@pytest.fixture
def kept(database: Database) -> Kept:
    return Kept(database, sealer=Sealer([OURS]), days=30.0)


def rows(address: str) -> Iterator[tuple[object, ...]]:
    connection = sqlite3.connect(address.removeprefix("sqlite:///"))
    try:
        yield from connection.execute("SELECT kind, id, owner, team, expires_at, sealed FROM kept").fetchall()
    finally:
        connection.close()


async def test_a_record_is_open_to_its_owner_and_its_team_only(kept: Kept) -> None:
    await kept.put("response", "resp_1", ANN, b"secret")
    assert await kept.get("response", "resp_1", ANN) == b"secret"
    assert await kept.get("response", "resp_1", BOB) == b"secret"
    for stranger in (CAT, principal("dan", "blue"), principal("red")):
        assert await kept.get("response", "resp_1", stranger) is None
        assert not await kept.replace("response", "resp_1", stranger, b"mine")
        assert await kept.take("response", "resp_1", stranger) is None
        assert not await kept.delete("response", "resp_1", stranger)
    assert await kept.get("conversation", "resp_1", ANN) is None
    assert await kept.get("response", "resp_1", ANN) == b"secret"


async def test_a_record_of_a_key_without_a_team_is_its_own(kept: Kept) -> None:
    await kept.put("response", "resp_1", CAT, b"secret")
    assert await kept.get("response", "resp_1", principal("dan")) is None


async def test_a_record_is_replaced_and_deleted_by_whom_it_is_open_to(kept: Kept) -> None:
    await kept.put("response", "resp_1", ANN, b"one")
    assert await kept.replace("response", "resp_1", BOB, b"two")
    assert await kept.get("response", "resp_1", ANN) == b"two"
    assert await kept.delete("response", "resp_1", BOB)
    assert not await kept.delete("response", "resp_1", ANN)
    assert not await kept.replace("response", "resp_1", ANN, b"three")
    assert await kept.get("response", "resp_1", ANN) is None


async def test_edits_of_a_record_lose_nothing_and_keep_it_longer(kept: Kept, address: str) -> None:
    await kept.put("conversation", "conv_1", ANN, b"", expires_at=time.time() + 60)
    await asyncio.gather(*(kept.edit("conversation", "conv_1", BOB, lambda value: value + b"x") for _ in range(20)))
    assert await kept.get("conversation", "conv_1", ANN) == b"x" * 20
    ((*_, expires_at, _sealed),) = rows(address)
    assert isinstance(expires_at, float)
    assert expires_at > time.time() + 29 * 86_400
    assert await kept.edit("conversation", "conv_1", CAT, lambda value: value + b"x") is None

    def refuse(_value: bytes) -> bytes:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await kept.edit("conversation", "conv_1", ANN, refuse)
    assert await kept.get("conversation", "conv_1", ANN) == b"x" * 20


async def test_of_all_who_take_a_record_one_gets_it(kept: Kept) -> None:
    await kept.put("run", "run_1", ANN, b"parked")
    taken = await asyncio.gather(*(kept.take("run", "run_1", ANN) for _ in range(20)))
    assert sorted(filter(None, taken)) == [b"parked"]


async def test_what_has_expired_is_gone_before_it_is_swept_and_then_from_the_disk(
    kept: Kept, database: Database, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    await kept.put("response", "old", ANN, b"x", expires_at=now - 1)
    await kept.put("response", "new", ANN, b"x", expires_at=now + 60)
    await kept.put("response", "usual", ANN, b"x")
    assert await kept.get("response", "old", ANN) is None
    assert await kept.take("response", "old", ANN) is None
    monkeypatch.setattr(module, "SWEEP_ROWS", 1)
    assert [await kept.sweep(), await kept.sweep()] == [1, 0]
    left = {row[1]: row[4] for row in rows(address)}
    assert left.keys() == {"new", "usual"}
    assert isinstance(left["usual"], float)
    assert left["usual"] == pytest.approx(now + 30 * 86_400, abs=60)


async def test_nothing_of_a_value_is_readable_at_rest(kept: Kept, address: str) -> None:
    await kept.put("response", "resp_1", ANN, b"a very private word")
    path = Path(address.removeprefix("sqlite:///"))
    for file in path.parent.glob(f"{path.name}*"):
        assert b"private" not in file.read_bytes()


@pytest.mark.parametrize("change", ["owner = 'cat', team = NULL", "kind = 'run'", "id = 'resp_2'"])
async def test_a_row_that_was_moved_opens_for_nobody(kept: Kept, database: Database, address: str, change: str) -> None:
    await kept.put("response", "resp_1", ANN, b"secret")
    await database.write(lambda session: session.connection().exec_driver_sql(f"UPDATE kept SET {change}"))
    for kind in ("response", "run"):
        for name in ("resp_1", "resp_2"):
            for who in (ANN, CAT):
                assert await kept.get(kind, name, who) is None


async def test_without_its_key_a_record_is_as_absent(kept: Kept, database: Database) -> None:
    await kept.put("response", "resp_1", ANN, b"secret")
    assert await Kept(database, sealer=Sealer([THEIRS]), days=1.0).get("response", "resp_1", ANN) is None
