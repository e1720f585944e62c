"""The events of tasks and who reads each, on a real database that several processes share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from sqlmodel import Session, select

from registry.ledger.events import DEAD_S, PAGE_BYTES, PAGE_EVENTS, PURGE_TASKS, ROW_BYTES, Batch, Event, Events
from registry.store.db import Database, open_database
from registry.store.tables.hub import HubProcess
from registry.store.tables.ledger import OwnedContext, OwnedTask, TaskEvent

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
    values = {
        "agent": "a",
        "owner": "me",
        "context_id": "",
        "created_at": time.time(),
        "updated_at": time.time(),
        **members,
    }
    row = OwnedTask(task_id=task_id, state=state, **values)
    await database.write(lambda session: session.add(row))


async def reader(database: Database, task_id: str) -> str:
    await database.committed()
    wanted = select(OwnedTask.reader).where(OwnedTask.task_id == task_id)
    return await database.read(lambda session: session.exec(wanted).one())


async def left(database: Database) -> tuple[list[str], int]:
    """The ids of the tasks that are still known, and how many rows of events."""
    await database.committed()
    tasks = await database.read(lambda session: session.exec(select(OwnedTask.task_id)).all())
    events = await database.read(lambda session: session.exec(select(TaskEvent.seq)).all())
    return sorted(tasks), len(events)


def numbered(*numbers: int) -> list[Event]:
    return [Event(number, 1, b"event %d" % number) for number in numbers]


def together(*events: Event) -> Batch:
    return Batch(events[0].seq, events[0].form, [one.data for one in events])


async def test_events_that_hold_line_feeds_come_back_as_they_are(database: Database) -> None:
    await add(database, "t", reader="p")
    data = [b"a", b"b", b"\n\x05x", b"\n", b"c", b"d\n", b"\n\ne\nf", b"g"]
    sent = [Event(number, 2, one) for number, one in enumerate(data, 1)]
    events = Events(database, "p")
    assert await events.append("a", "t", together(*sent))
    for number in range(len(sent)):
        assert await events.after("a", "t", number) == sent[number:]
    assert await events.last("a", "t") == len(sent)


async def test_events_come_back_in_order_from_behind_a_number(database: Database, other: Database) -> None:
    await add(database, "t", reader="p")
    assert await Events(database, "p").append("a", "t", together(*numbered(1, 2, 3)))
    events = Events(other, "q")
    assert await events.after("a", "t", 0) == numbered(1, 2, 3)
    assert await events.after("a", "t", 1) == numbered(2, 3)
    assert await events.after("a", "t", 3) == []
    assert await events.last("a", "t") == 3


async def test_a_page_of_events_is_bounded_by_number_and_by_bytes(database: Database) -> None:
    events = Events(database, "p")
    await add(database, "many", reader="p")
    await add(database, "large", reader="p")
    many = [events.append("a", "many", together(one)) for one in numbered(*range(1, PAGE_EVENTS + 3))]
    assert all(await asyncio.gather(*many))
    assert await events.after("a", "many", 0) == numbered(*range(1, PAGE_EVENTS + 1))
    assert await events.after("a", "many", PAGE_EVENTS) == numbered(PAGE_EVENTS + 1, PAGE_EVENTS + 2)
    large = [Event(n, 0, b"x" * (PAGE_BYTES // 2 + n)) for n in range(1, 6)]
    assert await events.append("a", "large", together(*large))
    assert [await events.after("a", "large", n) for n in (0, 2, 4)] == [large[:2], large[2:4], large[4:]]


async def test_events_that_are_kept_together_are_one_row_and_come_back_one_by_one(database: Database) -> None:
    events = Events(database, "p")
    await add(database, "t", reader="p")
    first = [Event(n, 0, b"event %d" % n) for n in (1, 2, 3)]
    second = [Event(4, 0, b"event 4"), Event(5, 1, b"event 5"), Event(6, 1, b"x" * ROW_BYTES), Event(7, 1, b"event 7")]
    assert await events.append("a", "t", together(*first))
    assert await events.append("a", "t", together(second[0]))
    assert await events.append("a", "t", together(*second[1:]))
    assert [await events.after("a", "t", n) for n in (0, 2, 3, 6)] == [
        first + second,
        first[2:] + second,
        second,
        second[3:],
    ]
    assert (await left(database))[1] == 1 + 4  # one for the first three; then by what came together, and by size
    assert await events.last("a", "t") == 7
    assert not await events.append("a", "t", Batch(7, 0, [b"taken", b"with it"]))


async def test_tasks_of_one_id_at_two_agents_share_no_event(database: Database) -> None:
    events = Events(database, "p")
    await add(database, "1", reader="p")
    await add(database, "1", reader="p", agent="b")
    await events.append("a", "1", together(*numbered(1, 2)))
    await events.append("b", "1", together(*numbered(1)))
    assert await events.after("b", "1", 0) == numbered(1)
    assert (await events.last("a", "1"), await events.last("b", "1"), await events.last("c", "1")) == (2, 1, 0)


async def test_an_event_that_is_kept_is_never_written_over(database: Database) -> None:
    events = Events(database, "p")
    await add(database, "t", reader="p")
    assert await events.append("a", "t", Batch(1, 0, [b"first"]))
    assert not await events.append("a", "t", Batch(1, 0, [b"late", b"later"]))
    assert [one.data for one in await events.after("a", "t", 0)] == [b"first"]


async def test_two_batches_of_one_commit_never_share_a_number(database: Database) -> None:
    events = Events(database, "p")
    await add(database, "t", reader="p")
    batches = [numbered(1, 2), numbered(2, 3), numbered(3)]
    assert await asyncio.gather(*(events.append("a", "t", together(*batch)) for batch in batches)) == [
        True,
        False,
        True,
    ]
    assert await events.after("a", "t", 0) == numbered(1, 2, 3)


async def test_only_the_tasks_reader_keeps_events(database: Database, other: Database) -> None:
    """A process that was taken for dead and wakes up keeps nothing more of what others read since."""
    slow, living = await begun(database, "p"), await begun(other, "q")
    await add(database, "t")
    assert await slow.lead("a", "t")
    assert await slow.append("a", "t", together(*numbered(1)))
    await saw(database, "p", time.time() - DEAD_S - 1)
    assert await slow.append("a", "t", together(*numbered(2)))  # nobody took its place yet
    assert await living.lead("a", "t")
    await slow.begin()  # it wakes up
    assert not await slow.append("a", "t", together(*numbered(3)))
    assert await living.append("a", "t", Batch(3, 0, [b"its own"]))
    assert [one.data for one in await slow.after("a", "t", 2)] == [b"its own"]
    assert await slow.take("a", "t")  # as one does whose client goes on with the task
    assert not await living.append("a", "t", together(*numbered(4)))
    assert await slow.append("a", "t", together(*numbered(4)))


async def test_events_of_a_task_that_nobody_reads_are_kept_unless_somebody_does(
    database: Database, other: Database
) -> None:
    one, two = await begun(database, "p"), await begun(other, "q")
    await add(database, "t")
    assert not await one.is_read("a", "t")
    assert await one.append_unread("a", "t", together(*numbered(1)))
    assert not await two.append_unread("a", "t", together(*numbered(1)))
    assert await two.append_unread("a", "t", together(*numbered(2)))
    assert await one.lead("a", "t")
    assert await two.is_read("a", "t")
    assert not await two.append_unread("a", "t", together(*numbered(3)))
    await saw(database, "p", time.time() - DEAD_S - 1)
    assert not await two.is_read("a", "t")
    assert await two.append_unread("a", "t", together(*numbered(3)))
    assert not await two.append_unread("a", "nobodys", together(*numbered(1)))


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
        await add(database, name, state, reader="p", created_at=now - made * DAY, updated_at=now - changed * DAY)
        await events.append("a", name, together(*numbered(1, 2)))
    await add(database, "old", agent="b", reader="p")  # another agent's
    await events.append("b", "old", together(*numbered(1)))
    assert await events.forget(before=now - 30 * DAY, keep=100) == 1
    kept = [name for name, *_, forgotten in AGES if not forgotten]
    assert await left(database) == (sorted([*kept, "old"]), len(kept) + 1)
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


async def test_a_context_is_forgotten_when_it_is_old_and_no_task_of_it_is_remembered(database: Database) -> None:
    events, now = Events(database, "p"), time.time()
    ages = {"old": 31, "new": 29, "with-a-task": 31, "with-a-task-that-goes": 31}
    contexts = [
        OwnedContext(agent="a", context_id=name, owner="me", created_at=now - age * DAY) for name, age in ages.items()
    ]
    contexts.append(OwnedContext(agent="b", context_id="with-a-task", owner="me", created_at=now - 31 * DAY))
    await database.write(lambda session: session.add_all(contexts))
    await add(database, "t", context_id="with-a-task")
    long_ago = now - 31 * DAY
    await add(database, "u", DONE, context_id="with-a-task-that-goes", created_at=long_ago, updated_at=long_ago)

    async def known() -> list[tuple[str, str]]:
        rows = select(OwnedContext.agent, OwnedContext.context_id)
        return sorted(await database.read(lambda session: session.exec(rows).all()))

    assert await events.forget(before=now - 30 * DAY, keep=100) == 2
    assert await known() == [("a", "new"), ("a", "with-a-task"), ("a", "with-a-task-that-goes")]
    assert await events.forget(before=now - 30 * DAY, keep=100) == 1
    assert await known() == [("a", "new"), ("a", "with-a-task")]
    assert await events.forget(before=now - 30 * DAY, keep=100) == 0
