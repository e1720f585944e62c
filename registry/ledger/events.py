"""What was shown of running A2A tasks, in order, and which hub process reads each: the SQL. Knows no protocol.

An event is opaque bytes with a number; numbers of a task rise by one. Events that came together stand in one row, a line
each, under the number of the last: a row costs far more than a line. Those that hold line feeds themselves stand alone. A task
has at most one reader among all processes, so that no event is kept twice; who is not its reader any more keeps nothing. A
process that has not said for `DEAD_S` that it lives may be replaced as one.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import ScalarSelect
from sqlmodel import Session, col, delete, func, select, tuple_

from registry.ledger.ownership import FINAL_STATES
from registry.store.db import Database
from registry.store.tables.hub import HubProcess
from registry.store.tables.ledger import OwnedContext, OwnedTask, TaskEvent

HEARTBEAT_S = 2.0
DEAD_S = 10.0
"""A process that was silent for so long is dead: others may read its tasks."""

DEAD = "-"
"""The name of a process that never lives."""

ANYBODY = "*"

_LF = 10

PAGE_EVENTS, PAGE_BYTES = 200, 512 * 1024
"""How much is read at once of a task's events; the row that goes beyond comes whole."""

PURGE_TASKS = 500
"""Tasks, and contexts, forgotten in one transaction, so that nobody waits long for it."""

ROW_BYTES = 64 * 1024
"""How large the events of a row are together; one that is larger has its own."""

_IS_NEXT = (
    "SELECT id FROM tasks WHERE agent = ? AND task_id = ?"
    " AND NOT EXISTS (SELECT 1 FROM task_events WHERE task = tasks.id AND seq >= ?)"
)
_APPEND = "INSERT INTO task_events (task, seq, form, data) VALUES (?, ?, ?, ?)"
"""By itself: SQLite gathers in a table of its own what one statement reads of a table and writes to it."""
_READS = " AND reader = ?"
_IS_UNREAD = " AND reader NOT IN (SELECT id FROM hub_processes WHERE seen_at > ?)"
_LEAD = (
    "UPDATE tasks SET reader = ? WHERE agent = ? AND task_id = ? AND (reader = '' OR reader = ?"
    " OR reader NOT IN (SELECT id FROM hub_processes WHERE seen_at > ?))"
)
_LEAVE = "UPDATE tasks SET reader = ? WHERE agent = ? AND task_id = ? AND reader = ?"
_TAKE = "UPDATE tasks SET reader = ? WHERE agent = ? AND task_id = ?"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of a task as it was kept. A Struct: made for every event."""

    seq: int
    form: int
    """Which of the caller's forms `data` is written in."""
    data: bytes


class _Turn(NamedTuple):
    """A change of a task's reader."""

    agent: str
    task_id: str
    reader: str
    """Who reads the task then."""
    before: str | None = None
    """Who must read it now, or ANYBODY; None: nobody who lives, but `reader`."""


class Batch(NamedTuple):
    """Events of a task that come together, one at least, in order."""

    seq: int
    """The number of the first."""
    form: int
    """As an event's."""
    data: Sequence[bytes]


class _Append(NamedTuple):
    """Events of one task to be kept."""

    agent: str
    task_id: str
    reader: str | None
    """Who must read the task; None: nobody who lives."""
    batch: Batch


class Events:
    """The events of all tasks."""

    def __init__(self, database: Database, process: str) -> None:
        """`process` names this process among those that share the database."""
        self._database = database
        self.process = process

    async def run(self) -> None:
        """Say that this process lives, until cancelled."""
        while True:
            self._database.append_later(_beat, (self.process, time.time()))
            await asyncio.sleep(HEARTBEAT_S)

    async def begin(self) -> None:
        """Say it once and wait until it is written."""
        await self._database.append(_beat, (self.process, time.time()))

    def append(self, agent: str, task_id: str, batch: Batch) -> Awaitable[bool]:
        """Keep events of a task that this process reads; when this was awaited they survive the death of the process.

        False: it reads the task no more, or their numbers are taken; none is kept.
        """
        return self._database.append(_append_all, _Append(agent, task_id, self.process, batch))

    def append_unread(self, agent: str, task_id: str, batch: Batch) -> Awaitable[bool]:
        """Keep events of a task that nobody reads; False: somebody does, or their numbers are taken."""
        return self._database.append(_append_all, _Append(agent, task_id, None, batch))

    async def after(self, agent: str, task_id: str, seq: int) -> list[Event]:
        """The next events behind number `seq`, some PAGE_EVENTS or PAGE_BYTES; empty: there are none."""

        def page(session: Session) -> list[Event]:
            wanted = (
                select(TaskEvent.seq, TaskEvent.form, TaskEvent.data)
                .where(TaskEvent.task == _id_of(agent, task_id), TaskEvent.seq > seq)
                .order_by(col(TaskEvent.seq))
                .limit(PAGE_EVENTS)
            )
            found: list[Event] = []
            size = 0
            # one by one, as the session itself does not: what is not fetched takes no memory
            for row in session.connection().execute(wanted):
                found += [one for one in _events(*row) if one.seq > seq]
                size += len(row[2])
                if size >= PAGE_BYTES or len(found) >= PAGE_EVENTS:
                    break
            return found

        return await self._database.read(page)

    async def last(self, agent: str, task_id: str) -> int:
        """The number of the task's last event; 0 when there is none."""
        found = await self._database.read(
            lambda session: session.exec(
                select(func.max(TaskEvent.seq)).where(TaskEvent.task == _id_of(agent, task_id))
            ).one()
        )
        return found or 0

    def lead(self, agent: str, task_id: str) -> Awaitable[bool]:
        """Become the task's only reader; False: another living process is."""
        return self._database.append(_take_turns, _Turn(agent, task_id, self.process))

    def take(self, agent: str, task_id: str) -> Awaitable[bool]:
        """Become the task's only reader in the place of whoever is; False: there is no such task."""
        return self._database.append(_take_turns, _Turn(agent, task_id, self.process, ANYBODY))

    async def is_read(self, agent: str, task_id: str) -> bool:
        """Whether a living process, this one included, reads the task."""
        living = select(HubProcess.id).where(HubProcess.seen_at > time.time() - DEAD_S)
        wanted = select(OwnedTask.task_id).where(
            OwnedTask.agent == agent, OwnedTask.task_id == task_id, col(OwnedTask.reader).in_(living)
        )
        return await self._database.read(lambda session: session.exec(wanted).first()) is not None

    async def is_alive(self, process: str) -> bool:
        """Whether a process has said of late that it lives."""
        living = select(HubProcess.id).where(HubProcess.id == process, HubProcess.seen_at > time.time() - DEAD_S)
        return await self._database.read(lambda session: session.exec(living).first()) is not None

    def leave(self, agent: str, task_id: str) -> None:
        """Read the task no more."""
        self._database.append_later(_take_turns, _Turn(agent, task_id, "", self.process))

    def abandon(self, agent: str, task_id: str) -> None:
        """Say of a task that was left that it is to be read on: any process finds it among the orphans."""
        self._database.append_later(_take_turns, _Turn(agent, task_id, DEAD, ""))

    async def orphans(self) -> list[OwnedTask]:
        """Unfinished tasks whose reader has died, oldest first."""
        living = select(HubProcess.id).where(HubProcess.seen_at > time.time() - DEAD_S)
        wanted = (
            select(OwnedTask)
            .where(
                OwnedTask.reader != "",
                OwnedTask.reader != self.process,
                col(OwnedTask.reader).not_in(living),
                col(OwnedTask.state).not_in(FINAL_STATES),
            )
            .order_by(col(OwnedTask.updated_at))
        )
        return list(await self._database.read(lambda session: session.exec(wanted).all()))

    async def forget(self, *, before: float, keep: int) -> int:
        """Forget finished tasks older than `before`, and the oldest beyond `keep`, and old contexts without tasks.

        Returns how many of either, whichever is more, up to PURGE_TASKS: then there may be others.
        """
        tasks = await self._database.read(lambda session: _wanting(session, before, keep))
        contexts = await self._database.read(lambda session: _deserted(session, before))
        if tasks or contexts:
            await self._database.write(lambda session: _forget(session, tasks, contexts))
        return max(len(tasks), len(contexts))


def _beat(connection: sqlite3.Connection, beats: list[tuple[str, float]]) -> list[None]:
    connection.executemany("INSERT OR REPLACE INTO hub_processes (id, seen_at) VALUES (?, ?)", beats)
    connection.execute("DELETE FROM hub_processes WHERE seen_at < ?", (beats[-1][1] - 86_400,))
    return [None] * len(beats)


def _append_all(connection: sqlite3.Connection, appends: list[_Append]) -> list[bool]:
    """All batches whose reader is still the task's and whose numbers are free; the others not at all."""
    living = time.time() - DEAD_S
    kept = []
    execute = connection.cursor().execute  # one for all: the connection would make one for each statement
    for agent, task_id, reader, batch in appends:
        condition, who = (_IS_UNREAD, living) if reader is None else (_READS, reader)
        task = execute(_IS_NEXT + condition, (agent, task_id, batch.seq, who)).fetchone()
        if task is not None:
            for row in _rows(*batch):
                execute(_APPEND, (*task, *row))
        kept.append(task is not None)
    return kept


def _rows(seq: int, form: int, data: Sequence[bytes]) -> list[tuple[int, int, bytes]]:
    """Join events, a line each. One that holds line feeds stands alone, behind one."""
    together = b"\n".join(data)
    if len(together) <= ROW_BYTES and _LF not in b"".join(data):
        return [(seq + len(data) - 1, form, together)]
    rows: list[tuple[int, int, bytes]] = []
    begin = size = 0
    for end, one in enumerate(data, 1):
        size += len(one)
        after = data[end] if end < len(data) else None
        if _LF in one:
            rows.append((seq + end - 1, form, b"\n" + one))
        elif after is None or size + len(after) > ROW_BYTES or _LF in after:
            rows.append((seq + end - 1, form, b"\n".join(data[begin:end])))
        else:
            continue
        begin, size = end, 0
    return rows


def _events(seq: int, form: int, data: bytes) -> list[Event]:
    """Take a row apart again."""
    if data[:1] == b"\n":
        return [Event(seq, form, data[1:])]
    lines = data.split(b"\n")
    return [Event(number, form, line) for number, line in enumerate(lines, seq - len(lines) + 1)]


def _take_turns(connection: sqlite3.Connection, turns: list[_Turn]) -> list[bool]:
    """All in one change: changes of a kind are written together, and a task that is left and led again must stay led."""
    living = time.time() - DEAD_S
    taken = []
    for agent, task_id, reader, before in turns:
        if before is None:
            rows = connection.execute(_LEAD, (reader, agent, task_id, reader, living)).rowcount
        elif before == ANYBODY:
            rows = connection.execute(_TAKE, (reader, agent, task_id)).rowcount
        else:
            rows = connection.execute(_LEAVE, (reader, agent, task_id, before)).rowcount
        taken.append(rows == 1)
    return taken


def _id_of(agent: str, task_id: str) -> ScalarSelect[int | None]:
    return select(OwnedTask.id).where(OwnedTask.agent == agent, OwnedTask.task_id == task_id).scalar_subquery()


def _wanting(session: Session, before: float, keep: int) -> list[int | None]:
    """Ids of tasks to be forgotten. Looks at all tasks, so it is not the writer's to do."""
    finished = col(OwnedTask.state).in_(FINAL_STATES)
    oldest = select(col(OwnedTask.id)).where(finished).order_by(col(OwnedTask.updated_at))
    # an agent's clock may say anything, so a task is as old as this hub knows it at most
    old = oldest.where(OwnedTask.updated_at < before, OwnedTask.created_at < before)
    tasks = session.exec(old.limit(PURGE_TASKS)).all()
    surplus = min(session.exec(select(func.count()).select_from(OwnedTask)).one() - keep, PURGE_TASKS)
    return list(tasks if len(tasks) >= surplus else session.exec(oldest.limit(surplus)).all())


def _deserted(session: Session, before: float) -> list[tuple[str, str]]:
    """Names of old contexts of which no task is remembered. By age alone: nobody can push out another's."""
    peopled = select(OwnedTask.agent, OwnedTask.context_id)
    name = tuple_(col(OwnedContext.agent), col(OwnedContext.context_id))
    wanted = select(OwnedContext.agent, OwnedContext.context_id).where(
        OwnedContext.created_at < before, name.not_in(peopled)
    )
    return list(session.exec(wanted.limit(PURGE_TASKS)).all())


def _forget(session: Session, tasks: list[int | None], contexts: list[tuple[str, str]]) -> None:
    for task in tasks:
        session.exec(delete(TaskEvent).where(col(TaskEvent.task) == task))
        session.exec(delete(OwnedTask).where(col(OwnedTask.id) == task))
    for agent, context_id in contexts:
        named = (col(OwnedContext.agent) == agent, col(OwnedContext.context_id) == context_id)
        session.exec(delete(OwnedContext).where(*named))
