"""What is kept of the tasks and contexts of agents that run here: sealed, each for its owner."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from agents.hosting.pieces import Pieces, own_copy
from agents.ledger import Ledger
from registry.access import Grants
from registry.identity import Principal
from registry.judged import JsonObject, encode
from registry.ledger.events import Events
from registry.sealed.kept import Kept
from registry.sealed.secrets import new_id

TASK, PIECE, CONTEXT, SAID = "own-task", "own-piece", "own-context", "own-said"
"""Kinds of records."""

DAY_S = 86_400.0


class TaskRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task as it was last written."""

    process: str
    """The hub process in which it runs, while it does."""
    task: JsonObject
    """A2A 1.0 §4.1.1, without what stands in pieces."""
    pieces: int = 0
    """How many there are."""
    begun: list[str] = []
    """The artifacts of which something was said."""
    ref: JsonObject = {}
    """Under which names the platform has it that does the work."""


class Found(NamedTuple):
    """A task that is kept."""

    record: TaskRecord
    pieces: Pieces

    async def whole(self) -> JsonObject:
        """The task with all that was said."""
        return await self.pieces.onto(own_copy(self.record.task), ())


_task = msgspec.json.Decoder(TaskRecord)


class Records:
    """The records of all agents that run here. One for a process."""

    def __init__(self, kept: Kept, *, ledger: Ledger, events: Events, days: float) -> None:
        """`days` is how long finished tasks are kept."""
        self._kept = kept
        self._ledger = ledger
        self._events = events
        self._days = days

    def new(self, task: JsonObject) -> TaskRecord:
        """The record of a task that runs in this process."""
        return TaskRecord(self._events.process, task)

    def pieces(self, agent: str, task_id: str, owner: Principal, count: int = 0) -> Pieces:
        """What a task has said."""
        name = _name(agent, task_id)

        async def put(number: int, piece: bytes) -> None:
            # of the same number there may be one of a process that died before it was counted
            await self._kept.put(PIECE, f"{name}/{number}", owner, piece, expires_at=self._end(), anew=True)

        async def get(number: int) -> bytes | None:
            return await self._kept.get(PIECE, f"{name}/{number}", owner)

        return Pieces(count, put=put, get=get)

    async def begin(self, agent: str, owner: Principal, record: TaskRecord) -> None:
        """Keep a new task."""
        name = _name(agent, record.task["id"])
        await self._kept.put(TASK, name, owner, encode(record), expires_at=self._end())

    async def write(self, agent: str, record: TaskRecord, owner: Principal | None = None) -> None:
        """Keep how a task is now; `owner` is who began it, if the ledger does not know the task yet."""
        owner = owner or await self._owner(agent, record.task["id"])
        if owner is not None:
            record = replace(record, process=self._events.process)
            await self._kept.rewrite(TASK, _name(agent, record.task["id"]), owner, encode(record))

    async def find(self, agent: str, task_id: str) -> Found | None:
        """A task whose caller may see it; None: it is not kept any more."""
        owner = await self._owner(agent, task_id)
        found = await self._kept.get(TASK, _name(agent, task_id), owner) if owner is not None else None
        if owner is None or found is None:
            return None
        record = _task.decode(found)
        return Found(record, self.pieces(agent, task_id, owner, record.pieces))

    async def is_lost(self, record: TaskRecord) -> bool:
        """Whether the process has ended in which a task runs."""
        return record.process != self._events.process and not await self._events.is_alive(record.process)

    async def claim(self, agent: str, record: TaskRecord) -> Principal | None:
        """Make a task this process's whose own has died; returns whose it is. None: somebody was faster."""
        owner = await self._owner(agent, record.task["id"])
        is_won = False

        def edit(kept: bytes) -> bytes:
            nonlocal is_won
            now = _task.decode(kept)
            is_won = now.process == record.process
            return encode(replace(now, process=self._events.process)) if is_won else kept

        if owner is not None:
            await self._kept.edit(TASK, _name(agent, record.task["id"]), owner, edit)
        return owner if is_won else None

    async def remembered(self, agent: str, context_id: str, principal: Principal) -> bytes | None:
        """What is remembered of a context; None: nothing."""
        return await self._kept.get(CONTEXT, _name(agent, context_id), principal)

    async def remember(self, agent: str, context_id: str, principal: Principal, record: bytes) -> None:
        """Keep it for a context from now on."""
        name = _name(agent, context_id)
        if not await self._kept.replace(CONTEXT, name, principal, record):
            await self._kept.put(CONTEXT, name, principal, record, expires_at=self._end())

    def shelf(self, agent: str, context_id: str, principal: Principal) -> Shelf:
        """Where more is kept for a context, as long as it is."""
        return Shelf(self._kept, principal, _name(agent, context_id), expires_at=self._end())

    def _end(self) -> float:
        return time.time() + self._days * DAY_S

    async def _owner(self, agent: str, task_id: str) -> Principal | None:
        """Whose a task is: others of the team, and the hub itself, see it as its owner does."""
        owner = await self._ledger.owner(agent, task_id)
        return Principal(id=owner, name=owner, grants=Grants(())) if owner is not None else None


class Shelf:
    """Pieces of one context, of which what is remembered of it has the names. What nothing names any more expires by itself."""

    def __init__(self, kept: Kept, principal: Principal, context: str, *, expires_at: float) -> None:
        self._kept = kept
        self._principal = principal
        self._context = context
        self._expires_at = expires_at

    async def put(self, piece: bytes) -> str:
        """Keep a piece; returns the name that it has."""
        name = new_id("said")
        await self._kept.put(SAID, f"{self._context}/{name}", self._principal, piece, expires_at=self._expires_at)
        return name

    async def get(self, name: str) -> bytes | None:
        """A piece; None: there is none."""
        return await self._kept.get(SAID, f"{self._context}/{name}", self._principal)

    async def drop(self, name: str) -> None:
        """Keep a piece no longer."""
        await self._kept.delete(SAID, f"{self._context}/{name}", self._principal)


def _name(agent: str, name: str) -> str:
    return f"{agent}/{name}"
