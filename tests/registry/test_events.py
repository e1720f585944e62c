"""The events of tasks and who reads each, on a real database that several processes share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from sqlmodel import Session, select

from registry.db import Database, open_database
from registry.events import DEAD_S, PURGE_TASKS, Event, Events
from registry.models import HubProcess, OwnedTask, TaskEvent

WORKING = "TASK_STATE_WORKING"
DONE = "TASK_STATE_COMPLETED"


@pytest.fixture
async def other(address: str) -> AsyncIterator[Database]:
    """The same database, as another process has it open."""
    async with open_database(address) as opened:
        yield opened


async def begun(database: Database, process: str, *, silent_s: float = 0.0) -> Events:
    """A process that last said so long ago that it lives."""
    events = Events(database, process)
    await events.begin()
    if silent_s:
        await saw(database, process, time.time() - silent_s)
    return events


async def saw(database: Database, process: str, seen_at: float) -> None:
    def change(session: Session) -> None:
        row = session.get(HubProcess, process)
        assert row is not None
        row.seen_at = seen_at

    await database.write(change)


async def add(database: Database, task_id: str, state: str = WORKING, **members: object) -> None:
    values = {"owner": "me", "context_id": "", "created_at": time.time(), "updated_at": time.time(), **members}
    row = OwnedTask(agent="a", task_id=task_id, state=state, **values)
    await database.write(lambda session: session.add(row))


async def reader(database: Database, task_id: str) -> str:
    await database.committed()
    return await database.read(lambda session: session.get(OwnedTask, ("a", task_id)).reader)


async def left(database: Database) -> tuple[list[str], int]:
    """The ids of the tasks that are still known, and how many events."""
    await database.committed()
    tasks = await database.read(lambda session: session.exec(select(OwnedTask.task_id)).all())
    events = await database.read(lambda session: session.exec(select(TaskEvent.seq)).all())
    return sorted(tasks), len(events)


def numbered(*numbers: int) -> list[Event]:
    return [Event(number, number % 3, b"event %d" % number) for number in numbers]


async def test_events_come_back_in_order_from_behind_a_number(database: Database, other: Database) -> None:
    await Events(database, "p").append("a", "t", numbered(2, 1, 3))
    events = Events(other, "q")
    assert await events.after("a", "t", 0) == numbered(1, 2, 3)
    assert await events.after("a", "t", 1) == numbered(2, 3)
    assert await events.after("a", "t", 0, limit=2) == numbered(1, 2)
    assert await events.after("a", "t", 3) == []
    assert await events.last("a", "t") == 3


async def test_tasks_of_one_id_at_two_agents_share_no_event(database: Database) -> None:
    events = Events(database, "p")
    await events.append("a", "1", numbered(1, 2))
    await events.append("b", "1", numbered(1))
    assert await events.after("b", "1", 0) == numbered(1)
    assert (await events.last("a", "1"), await events.last("b", "1"), await events.last("c", "1")) == (2, 1, 0)


async def test_an_event_that_is_kept_is_never_written_over(database: Database, other: Database) -> None:
    await Events(database, "p").append("a", "t", [Event(1, 0, b"first")])
    await Events(other, "q").append("a", "t", [Event(1, 0, b"late")])
    assert [one.data for one in await Events(other, "q").after("a", "t", 0)] == [b"first"]


async def test_a_task_has_one_reader_among_living_processes(database: Database, other: Database) -> None:
    one, two = await begun(database, "p"), await begun(other, "q")
    await add(database, "t")
    assert await one.lead("a", "t")
    assert await one.lead("a", "t")
    assert not await two.lead("a", "t")
    one.leave("a", "t")
    assert await reader(database, "t") == ""
    assert await two.lead("a", "t")
    one.leave("a", "t")  # it is not its own any more
    assert await reader(database, "t") == "q"


async def test_the_reader_of_a_dead_process_is_replaced(database: Database, other: Database) -> None:
    dead, living = await begun(database, "p", silent_s=DEAD_S / 2), await begun(other, "q")
    await add(database, "t")
    assert await dead.lead("a", "t")
    assert not await living.lead("a", "t")
    await saw(database, "p", time.time() - DEAD_S - 1)
    assert await living.lead("a", "t")
    assert await reader(other, "t") == "q"


async def test_a_process_that_nobody_knows_any_more_is_dead(database: Database) -> None:
    events = await begun(database, "q")
    await add(database, "t", reader="p")
    assert [task.task_id for task in await events.orphans()] == ["t"]
    assert await events.lead("a", "t")


async def test_a_task_that_is_left_and_led_again_at_once_stays_led(database: Database) -> None:
    events = await begun(database, "p")
    for task_id in ("t", "u"):
        await add(database, task_id)
        assert await events.lead("a", task_id)
    first = events.lead("a", "u")  # written together with what follows
    events.leave("a", "t")
    assert await events.lead("a", "t")
    assert await first
    assert await reader(database, "t") == "p"


async def test_a_task_that_is_not_there_has_no_reader(database: Database) -> None:
    assert not await (await begun(database, "p")).lead("a", "nobody-has-it")


async def test_orphans_are_unfinished_tasks_of_dead_processes_oldest_first(database: Database) -> None:
    events = await begun(database, "living")
    await begun(database, "other")
    await begun(database, "dead", silent_s=DEAD_S + 1)
    now = time.time()
    await add(database, "young", reader="dead", updated_at=now)
    await add(database, "old", reader="dead", updated_at=now - 100)
    await add(database, "asking", "TASK_STATE_INPUT_REQUIRED", reader="dead", updated_at=now - 50)
    await add(database, "done", DONE, reader="dead")
    await add(database, "own", reader="living")
    await add(database, "others", reader="other")
    await add(database, "nobodys")
    assert [task.task_id for task in await events.orphans()] == ["old", "asking", "young"]


async def test_a_task_that_was_abandoned_is_everybodys_to_read_on(database: Database, other: Database) -> None:
    one, two = await begun(database, "p"), await begun(other, "q")
    for task_id in ("t", "u"):
        await add(database, task_id)
        assert await one.lead("a", task_id)
    one.abandon("a", "u")  # it is read: nothing to abandon
    one.leave("a", "t")
    one.abandon("a", "t")
    await database.committed()
    for events in (one, two):
        assert [task.task_id for task in await events.orphans()] == ["t"]
    assert await two.lead("a", "t")
    assert await two.orphans() == []


async def test_a_process_that_says_nothing_for_a_day_is_forgotten(database: Database) -> None:
    await begun(database, "dead", silent_s=90_000)
    await begun(database, "living")
    assert await database.read(lambda session: session.exec(select(HubProcess.id)).all()) == ["living"]


DAY = 86_400.0
AGES: list[tuple[str, str, float, float, bool]] = [
    # name, state, made and changed so many days ago, forgotten after 30 days
    ("old", DONE, 40, 31, True),
    ("new", DONE, 40, 29, False),
    ("running", WORKING, 40, 31, False),
    ("asking", "TASK_STATE_INPUT_REQUIRED", 400, 400, False),
    ("clock-of-1970", DONE, 1, 20_000, False),
]


async def test_finished_tasks_are_forgotten_with_their_events_when_they_are_old(database: Database) -> None:
    events, now = Events(database, "p"), time.time()
    for name, state, made, changed, _ in AGES:
        await add(database, name, state, created_at=now - made * DAY, updated_at=now - changed * DAY)
        await events.append("a", name, numbered(1, 2))
    await events.append("b", "old", numbered(1))  # another agent's
    assert await events.forget(before=now - 30 * DAY, keep=100) == 1
    kept = sorted(name for name, *_, forgotten in AGES if not forgotten)
    assert await left(database) == (kept, 2 * len(kept) + 1)
    assert await events.forget(before=now - 30 * DAY, keep=100) == 0


async def test_the_oldest_finished_tasks_beyond_the_number_are_forgotten(database: Database) -> None:
    events, now = Events(database, "p"), time.time()
    for age in range(6):
        await add(database, f"t{age}", DONE if age != 5 else WORKING, updated_at=now - age)
    assert await events.forget(before=now - DAY, keep=4) == 2
    assert (await left(database))[0] == ["t0", "t1", "t2", "t5"]
    assert await events.forget(before=now - DAY, keep=1) == 3
    assert await events.forget(before=now - DAY, keep=0) == 0  # what runs is never forgotten
    assert (await left(database))[0] == ["t5"]


async def test_many_tasks_are_forgotten_some_at_a_time(database: Database) -> None:
    events, now = Events(database, "p"), time.time()
    rows = [
        OwnedTask(
            agent="a", task_id=f"{n}", owner="me", context_id="", state=DONE, created_at=now - DAY, updated_at=now - DAY
        )
        for n in range(PURGE_TASKS + 1)
    ]
    await database.write(lambda session: session.add_all(rows))
    assert [await events.forget(before=now, keep=1000) for _ in range(3)] == [PURGE_TASKS, 1, 0]
