"""What is kept of the tasks and contexts of agents that run here: sealed, each for its owner."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from agents.ledger import Ledger
from registry.access import Grants
from registry.identity import Principal
from registry.judged import JsonObject, encode
from registry.ledger.events import Events
from registry.sealed.kept import Kept

TASK, CONTEXT = "own-task", "own-context"
"""Kinds of records."""

DAY_S = 86_400.0

MAX_SAID = 200
MAX_BYTES = 256 * 1024
"""Messages of a context that its model is told again, and their size as JSON: what was said first is forgotten first."""


class TaskRecord(msgspec.Struct, frozen=True):
    """A task as it was last written."""

    process: str
    """The hub process in which it runs, while it does."""
    task: JsonObject
    """A2A 1.0 §4.1.1."""


_task = msgspec.json.Decoder(TaskRecord)
_context = msgspec.json.Decoder(list[JsonObject])


class Records:
    """The records of all own agents. One for a process."""

    def __init__(self, kept: Kept, *, ledger: Ledger, events: Events, days: float) -> None:
        """`days` is how long finished tasks are kept."""
        self._kept = kept
        self._ledger = ledger
        self._events = events
        self._days = days

    async def begin(self, agent: str, owner: Principal, task: JsonObject) -> None:
        """Keep a new task, which runs in this process."""
        record = encode(TaskRecord(self._events.process, task))
        expires_at = time.time() + self._days * DAY_S
        await self._kept.put(TASK, _name(agent, task["id"]), owner, record, expires_at=expires_at)

    async def write(self, agent: str, task: JsonObject, owner: Principal | None = None) -> None:
        """Keep how a task is now; `owner` is who began it, if the ledger does not know the task yet."""
        owner = owner or await self._owner(agent, task["id"])
        if owner is not None:
            record = encode(TaskRecord(self._events.process, task))
            await self._kept.replace(TASK, _name(agent, task["id"]), owner, record)

    async def task(self, agent: str, task_id: str) -> TaskRecord | None:
        """A task whose caller may see it; None: it is not kept any more."""
        owner = await self._owner(agent, task_id)
        found = await self._kept.get(TASK, _name(agent, task_id), owner) if owner is not None else None
        return _task.decode(found) if found is not None else None

    async def is_lost(self, record: TaskRecord) -> bool:
        """Whether the process has ended in which a task runs."""
        return record.process != self._events.process and not await self._events.is_alive(record.process)

    async def said(self, agent: str, context_id: str, principal: Principal) -> list[JsonObject]:
        """What was said in a context before: chat messages."""
        found = await self._kept.get(CONTEXT, _name(agent, context_id), principal)
        return _context.decode(found) if found is not None else []

    async def say(self, agent: str, context_id: str, principal: Principal, said: Sequence[JsonObject]) -> None:
        """Keep what was said in a context."""
        record, name = _bounded(said), _name(agent, context_id)
        if not await self._kept.replace(CONTEXT, name, principal, record):
            expires_at = time.time() + self._days * DAY_S
            await self._kept.put(CONTEXT, name, principal, record, expires_at=expires_at)

    async def _owner(self, agent: str, task_id: str) -> Principal | None:
        """Whose a task is: others of the team, and the hub itself, see it as its owner does."""
        owner = await self._ledger.owner(agent, task_id)
        return Principal(id=owner, name=owner, grants=Grants(())) if owner is not None else None


def _name(agent: str, name: str) -> str:
    return f"{agent}/{name}"


def _bounded(said: Sequence[JsonObject]) -> bytes:
    kept = list(said[-MAX_SAID:])
    while len(record := encode(kept)) > MAX_BYTES and len(kept) > 1:
        kept = kept[2:]
    return record if len(record) <= MAX_BYTES else b"[]"
