"""The ledger on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents.answers import Sighting
from agents.ledger import MAX_CACHED, Ledger
from agents.wire import Envelope, Request
from registry.access import Grants
from registry.errors import NotFound, UpstreamInvalid
from registry.identity import Principal
from registry.ledger.ownership import Listing, Ownership
from registry.store.db import Database, open_database
from registry.store.schema import migrate

DONE = "TASK_STATE_COMPLETED"
WORKING = "TASK_STATE_WORKING"


def principal(name: str, team: str | None = None) -> Principal:
    return Principal(id=name, name=name, grants=Grants(()), team_id=team)


ME, YOU = principal("me"), principal("you")


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
    await Ledger(Ownership(database)).record("a", ME, Sighting("t", "c", WORKING))
    later = Ledger(Ownership(database))
    await later.check("a", ME, asks("t", "c", ("t",)))
    for request in (asks("t"), asks(references=("t",)), asks(context_id="c"), asks("unknown")):
        with pytest.raises(NotFound):
            await later.check("a", YOU, request)
    with pytest.raises(NotFound):
        await later.check("b", ME, asks("t"))


async def test_context_that_is_new_becomes_the_askers(database: Database) -> None:
    ledger = Ledger(Ownership(database))
    await ledger.check("a", ME, asks(context_id="c"))
    with pytest.raises(NotFound):
        await ledger.check("a", YOU, asks(context_id="c"))
    await ledger.check("b", YOU, asks(context_id="c"))


async def test_first_owner_wins_also_when_two_come_at_once(database: Database) -> None:
    ledgers = [Ledger(Ownership(database)) for _ in range(8)]
    outcomes = await asyncio.gather(
        *(
            ledger.record("a", principal(f"owner-{i}"), Sighting("t", f"c-{i}", WORKING))
            for i, ledger in enumerate(ledgers)
        ),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes].count(UpstreamInvalid) == len(ledgers) - 1


async def test_task_in_a_context_of_somebody_else_is_not_recorded(database: Database) -> None:
    ledger = Ledger(Ownership(database))
    await ledger.check("a", YOU, asks(context_id="c"))
    with pytest.raises(UpstreamInvalid):
        await ledger.record("a", ME, Sighting("t", "c", WORKING))
    with pytest.raises(NotFound):
        await ledger.check("a", ME, asks("t"))


async def test_final_state_is_never_taken_back(database: Database) -> None:
    ledger = Ledger(Ownership(database))
    for state in (WORKING, DONE, WORKING):
        await ledger.record("a", ME, Sighting("t", "c", state))
    assert await states(database) == [("t", DONE)]
    cold = Ledger(Ownership(database))
    await cold.check("a", ME, asks("t"))
    await cold.record("a", ME, Sighting("t", "c", WORKING))
    assert await states(database) == [("t", DONE)]


async def test_known_tasks_need_no_database(database: Database) -> None:
    ledger = Ledger(Ownership(database))
    await ledger.record("a", ME, Sighting("t", "c", DONE))
    reads = 0
    read = database.read

    async def counted(query: object) -> object:
        nonlocal reads
        reads += 1
        return await read(query)  # type: ignore[arg-type]

    database.read = counted  # type: ignore[method-assign, assignment]
    await ledger.check("a", ME, asks("t", "c", ("t",)))
    await ledger.record("a", ME, Sighting("t", "c", DONE))
    assert reads == 0


async def test_memory_is_bounded_and_nothing_is_forgotten(database: Database) -> None:
    ledger = Ledger(Ownership(database))
    many = MAX_CACHED + 50
    for begin in range(0, many, 5000):
        await asyncio.gather(
            *(ledger.record("a", ME, Sighting(f"t{n}", f"c{n}", DONE)) for n in range(begin, min(many, begin + 5000)))
        )
    assert len(ledger._tasks) <= MAX_CACHED
    await ledger.check("a", ME, asks("t0"))


@pytest.mark.parametrize("note", ["an event", "an answer"])
async def test_the_state_of_a_task_that_memory_lost_is_noted(
    database: Database, monkeypatch: pytest.MonkeyPatch, note: str
) -> None:
    monkeypatch.setattr("agents.ledger.MAX_CACHED", 1)
    ledger = Ledger(Ownership(database))
    assert await ledger.record("a", ME, Sighting("t", "c", WORKING))
    await ledger.record("a", ME, Sighting("other", "c", WORKING))
    assert ledger.state("a", "t") is None
    if note == "an event":
        await ledger.advance("a", Sighting("t", "c", DONE))
    else:
        assert not await ledger.record("a", ME, Sighting("t", "c", DONE))
    assert ("t", DONE) in await states(database)
    await ledger.record("a", ME, Sighting("other", "c", WORKING))
    assert not await ledger.record("a", ME, Sighting("t", "c"))  # it says no state
    assert ("t", DONE) in await states(database)


async def test_list_is_ordered_by_the_time_of_the_state(database: Database) -> None:
    ledger = Ledger(Ownership(database))
    for task_id, at in (("old", 10.0), ("new", 30.0), ("mid", 20.0)):
        await ledger.record("a", ME, Sighting(task_id, "c", WORKING, at))
    await ledger.record("a", YOU, Sighting("theirs", "d", WORKING, 99.0))
    await ledger.record("b", ME, Sighting("elsewhere", "c", WORKING, 99.0))
    assert [task_id for task_id, _ in await states(database)] == ["new", "mid", "old"]
    await ledger.record("a", ME, Sighting("old", "c", DONE, 40.0))
    assert [task_id for task_id, _ in await states(database)] == ["old", "new", "mid"]
    assert await states(database, state=DONE) == [("old", DONE)]
    assert [task_id for task_id, _ in await states(database, since=30.0)] == ["old", "new"]
    assert [task_id for task_id, _ in await states(database, after=(30.0, "new"))] == ["mid"]


async def test_a_team_sees_what_was_made_in_it_and_an_owner_what_they_made(database: Database) -> None:
    shared = {"a"}
    ledger = Ledger(Ownership(database), is_shared=shared.__contains__)
    me, colleague, moved = principal("me", "red"), principal("colleague", "red"), principal("me", "blue")
    await ledger.record("a", me, Sighting("t", "c", WORKING))
    for one in (ledger, Ledger(Ownership(database), is_shared=shared.__contains__)):
        await one.check("a", colleague, asks("t", "c", ("t",)))
        await one.check("a", moved, asks("t", "c"))
        for stranger in (YOU, principal("you", "blue")):
            for request in (asks("t"), asks(context_id="c"), asks(references=("t",))):
                with pytest.raises(NotFound):
                    await one.check("a", stranger, request)
        await one.check("a", colleague, asks("t"))
    shared.clear()
    with pytest.raises(NotFound):
        await ledger.check("a", colleague, asks("t"))


@pytest.mark.parametrize("is_cold", [False, True])
async def test_a_task_in_an_old_context_is_shared_as_the_context_is(database: Database, is_cold: bool) -> None:
    first = Ledger(Ownership(database), is_shared=lambda _agent: True)
    me, moved, colleague = principal("me", "red"), principal("me", "blue"), principal("colleague", "red")
    await first.record("a", me, Sighting("old", "c", WORKING))
    await first.record("a", colleague, Sighting("theirs", "c", WORKING))
    ledger = Ledger(Ownership(database), is_shared=lambda _agent: True) if is_cold else first
    await ledger.record("a", moved, Sighting("new", "c", WORKING))
    await ledger.check("a", colleague, asks("new"))
    with pytest.raises(NotFound):
        await ledger.check("a", principal("you", "blue"), asks("new"))
    with pytest.raises(UpstreamInvalid):  # the context is the mover's still, a task that a colleague made in it is not
        await ledger.record("a", moved, Sighting("theirs", "c", WORKING))
    await ledger.record("a", me, Sighting("old", "c", DONE))


async def test_the_owner_of_a_context_stays_its_owner_when_a_colleague_comes_first(database: Database) -> None:
    me, colleague = principal("me", "red"), principal("colleague", "red")
    shared = {"a"}
    await Ledger(Ownership(database), is_shared=shared.__contains__).check("a", me, asks(context_id="c"))
    ledger = Ledger(Ownership(database), is_shared=shared.__contains__)
    await ledger.record("a", colleague, Sighting("t", "c", WORKING))
    shared.clear()
    await ledger.check("a", me, asks(context_id="c"))
    with pytest.raises(NotFound):
        await ledger.check("a", colleague, asks(context_id="c"))
    await ledger.record("a", colleague, Sighting("t", "c", DONE))


async def test_a_teams_list_is_found_by_an_index(database: Database) -> None:
    query = "EXPLAIN QUERY PLAN SELECT * FROM tasks WHERE agent = 'a' AND (owner = ? OR team = ?)"
    plan = await database.read(
        lambda session: session.connection().exec_driver_sql(query, ("me", "red")).scalars("detail").all()
    )
    assert not any(step.startswith("SCAN") for step in plan), plan
