"""The ledger on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents.answers import Sighting
from agents.ledger import MAX_CACHED, Ledger
from agents.wire import Envelope, Request
from registry.db import Database, open_database
from registry.errors import NotFound, UpstreamInvalid
from registry.ownership import Listing, Ownership
from registry.schema import migrate

DONE = "TASK_STATE_COMPLETED"
WORKING = "TASK_STATE_WORKING"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{tmp_path}/hubbub.db") as database:
        await asyncio.to_thread(migrate, database.engine)
        yield database


def asks(task_id: str | None = None, context_id: str | None = None, references: tuple[str, ...] = ()) -> Request:
    envelope = Envelope(b"1", "SendMessage", "1.0", "SendMessage", None)  # type: ignore[arg-type]
    return Request(envelope, {}, task_id, context_id, references)


async def states(database: Database, owner: str = "me", **members: object) -> list[tuple[str, str]]:
    listing = Listing(agent="a", owner=owner, size=100, **members)  # type: ignore[arg-type]
    rows, _ = await Ownership(database).list_tasks(listing)
    return [(row.task_id, row.state) for row in rows]


async def test_owner_is_known_to_a_ledger_that_starts_later(database: Database) -> None:
    await Ledger(Ownership(database)).record("a", "me", Sighting("t", "c", WORKING))
    later = Ledger(Ownership(database))
    await later.check("a", "me", asks("t", "c", ("t",)))
    for request in (asks("t"), asks(references=("t",)), asks(context_id="c"), asks("unknown")):
        with pytest.raises(NotFound):
            await later.check("a", "you", request)
    with pytest.raises(NotFound):
        await later.check("b", "me", asks("t"))


async def test_context_that_is_new_becomes_the_askers(database: Database) -> None:
    ledger = Ledger(Ownership(database))
    await ledger.check("a", "me", asks(context_id="c"))
    with pytest.raises(NotFound):
        await ledger.check("a", "you", asks(context_id="c"))
    await ledger.check("b", "you", asks(context_id="c"))


async def test_first_owner_wins_also_when_two_come_at_once(database: Database) -> None:
    ledgers = [Ledger(Ownership(database)) for _ in range(8)]
    outcomes = await asyncio.gather(
        *(ledger.record("a", f"owner-{i}", Sighting("t", f"c-{i}", WORKING)) for i, ledger in enumerate(ledgers)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes].count(UpstreamInvalid) == len(ledgers) - 1


async def test_task_in_a_context_of_somebody_else_is_not_recorded(database: Database) -> None:
    ledger = Ledger(Ownership(database))
    await ledger.check("a", "you", asks(context_id="c"))
    with pytest.raises(UpstreamInvalid):
        await ledger.record("a", "me", Sighting("t", "c", WORKING))
    with pytest.raises(NotFound):
        await ledger.check("a", "me", asks("t"))


async def test_final_state_is_never_taken_back(database: Database) -> None:
    ledger = Ledger(Ownership(database))
    for state in (WORKING, DONE, WORKING):
        await ledger.record("a", "me", Sighting("t", "c", state))
    assert await states(database) == [("t", DONE)]
    cold = Ledger(Ownership(database))
    await cold.check("a", "me", asks("t"))
    await cold.record("a", "me", Sighting("t", "c", WORKING))
    assert await states(database) == [("t", DONE)]


async def test_known_tasks_need_no_database(database: Database) -> None:
    ledger = Ledger(Ownership(database))
    await ledger.record("a", "me", Sighting("t", "c", DONE))
    reads = 0
    read = database.read

    async def counted(query: object) -> object:
        nonlocal reads
        reads += 1
        return await read(query)  # type: ignore[arg-type]

    database.read = counted  # type: ignore[method-assign, assignment]
    await ledger.check("a", "me", asks("t", "c", ("t",)))
    await ledger.record("a", "me", Sighting("t", "c", DONE))
    assert reads == 0


async def test_memory_is_bounded_and_nothing_is_forgotten(database: Database) -> None:
    ledger = Ledger(Ownership(database))
    many = MAX_CACHED + 50
    for begin in range(0, many, 5000):
        await asyncio.gather(
            *(ledger.record("a", "me", Sighting(f"t{n}", f"c{n}", DONE)) for n in range(begin, min(many, begin + 5000)))
        )
    assert len(ledger._tasks) <= MAX_CACHED
    await ledger.check("a", "me", asks("t0"))


@pytest.mark.parametrize("note", ["an event", "an answer"])
async def test_the_state_of_a_task_that_memory_lost_is_noted(
    database: Database, monkeypatch: pytest.MonkeyPatch, note: str
) -> None:
    monkeypatch.setattr("agents.ledger.MAX_CACHED", 1)
    ledger = Ledger(Ownership(database))
    assert await ledger.record("a", "me", Sighting("t", "c", WORKING))
    await ledger.record("a", "me", Sighting("other", "c", WORKING))
    assert ledger.state("a", "t") is None
    if note == "an event":
        await ledger.advance("a", Sighting("t", "c", DONE))
    else:
        assert not await ledger.record("a", "me", Sighting("t", "c", DONE))
    assert ("t", DONE) in await states(database)
    await ledger.record("a", "me", Sighting("other", "c", WORKING))
    assert not await ledger.record("a", "me", Sighting("t", "c"))  # it says no state
    assert ("t", DONE) in await states(database)


async def test_list_is_ordered_by_the_time_of_the_state(database: Database) -> None:
    ledger = Ledger(Ownership(database))
    for task_id, at in (("old", 10.0), ("new", 30.0), ("mid", 20.0)):
        await ledger.record("a", "me", Sighting(task_id, "c", WORKING, at))
    await ledger.record("a", "you", Sighting("theirs", "d", WORKING, 99.0))
    await ledger.record("b", "me", Sighting("elsewhere", "c", WORKING, 99.0))
    assert [task_id for task_id, _ in await states(database)] == ["new", "mid", "old"]
    await ledger.record("a", "me", Sighting("old", "c", DONE, 40.0))
    assert [task_id for task_id, _ in await states(database)] == ["old", "new", "mid"]
    assert await states(database, state=DONE) == [("old", DONE)]
    assert [task_id for task_id, _ in await states(database, since=30.0)] == ["old", "new"]
    assert [task_id for task_id, _ in await states(database, after=(30.0, "new"))] == ["mid"]
