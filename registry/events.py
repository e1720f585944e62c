"""What was shown of running A2A tasks, in order, and which hub process reads each: the SQL. Knows no protocol.

An event is opaque bytes with a number; numbers of a task rise by one. A task has at most one reader among all processes,
so that no event is kept twice; a process that has not said for `DEAD_S` that it lives reads nothing any more.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Sequence
from typing import NamedTuple

from sqlmodel import Session, col, delete, func, select

from registry.db import Database, insert
from registry.models import HubProcess, OwnedTask, TaskEvent
from registry.ownership import FINAL_STATES

HEARTBEAT_S = 2.0
DEAD_S = 10.0
"""A process that was silent for so long is dead: others may read its tasks."""

PURGE_TASKS = 500
"""Tasks forgotten in one transaction, so that nobody waits long for it."""

_EVENTS = "task_events (agent, task_id, seq, form, data)"
_LEAD = (
    "UPDATE tasks SET reader = ? WHERE agent = ? AND task_id = ? AND (reader = '' OR reader = ?"
    " OR reader NOT IN (SELECT id FROM hub_processes WHERE seen_at > ?))"
)


class Event(NamedTuple):
    """One event of a task as it is kept."""

    seq: int
    form: int
    """Which of the caller's forms `data` is written in."""
    data: bytes


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

    def append(self, agent: str, task_id: str, events: Sequence[Event]) -> Awaitable[None]:
        """Keep events; when this was awaited they survive the death of the process."""
        rows: list[tuple[object, ...]] = [(agent, task_id, *event) for event in events]
        return self._database.append(_append_all, rows)

    async def after(self, agent: str, task_id: str, seq: int, *, limit: int = 200) -> list[Event]:
        """The events behind number `seq`, at most `limit`."""
        rows = await self._database.read(
            lambda session: session.exec(
                select(TaskEvent.seq, TaskEvent.form, TaskEvent.data)
                .where(TaskEvent.agent == agent, TaskEvent.task_id == task_id, TaskEvent.seq > seq)
                .order_by(col(TaskEvent.seq))
                .limit(limit)
            ).all()
        )
        return [Event(*row) for row in rows]

    async def last(self, agent: str, task_id: str) -> int:
        """The number of the task's last event; 0 when there is none."""
        found = await self._database.read(
            lambda session: session.exec(
                select(func.max(TaskEvent.seq)).where(TaskEvent.agent == agent, TaskEvent.task_id == task_id)
            ).one()
        )
        return found or 0

    def lead(self, agent: str, task_id: str) -> Awaitable[bool]:
        """Become the task's only reader; False: another living process is."""
        return self._database.append(_lead_all, (self.process, agent, task_id))

    def leave(self, agent: str, task_id: str) -> None:
        """Read the task no more."""
        self._database.append_later(_leave_all, (agent, task_id, self.process))

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
        """Forget finished tasks older than `before`, and the oldest beyond `keep`; their number, up to PURGE_TASKS."""
        return await self._database.write(lambda session: _forget(session, before, keep))


def _beat(connection: sqlite3.Connection, beats: list[tuple[str, float]]) -> list[None]:
    connection.executemany("INSERT OR REPLACE INTO hub_processes (id, seen_at) VALUES (?, ?)", beats)
    connection.execute("DELETE FROM hub_processes WHERE seen_at < ?", (beats[-1][1] - 86_400,))
    return [None] * len(beats)


def _append_all(connection: sqlite3.Connection, batches: list[list[tuple[object, ...]]]) -> list[None]:
    insert(connection, _EVENTS, [row for batch in batches for row in batch])
    return [None] * len(batches)


def _lead_all(connection: sqlite3.Connection, wishes: list[tuple[str, str, str]]) -> list[bool]:
    living = time.time() - DEAD_S
    return [
        connection.execute(_LEAD, (process, agent, task_id, process, living)).rowcount == 1
        for process, agent, task_id in wishes
    ]


def _leave_all(connection: sqlite3.Connection, left: list[tuple[str, str, str]]) -> list[None]:
    connection.executemany("UPDATE tasks SET reader = '' WHERE agent = ? AND task_id = ? AND reader = ?", left)
    return [None] * len(left)


def _forget(session: Session, before: float, keep: int) -> int:
    finished = col(OwnedTask.state).in_(FINAL_STATES)
    total = session.exec(select(func.count()).select_from(OwnedTask)).one()
    surplus = min(max(total - keep, 0), PURGE_TASKS)
    oldest = select(OwnedTask).where(finished).order_by(col(OwnedTask.updated_at))
    tasks = session.exec(oldest.where(OwnedTask.updated_at < before).limit(PURGE_TASKS)).all()
    if len(tasks) < surplus:
        tasks = session.exec(oldest.limit(surplus)).all()
    for task in tasks:
        session.exec(
            delete(TaskEvent).where(col(TaskEvent.agent) == task.agent, col(TaskEvent.task_id) == task.task_id)
        )
        session.delete(task)
    return len(tasks)
