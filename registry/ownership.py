"""Whose an A2A task or context is: the SQL of the ledger. Knows no protocol; states are opaque but for the final ones.

The first owner wins and never changes; a task's agent is part of its name, since two agents may both mint "1".
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection
from sqlmodel import Session, col, func, or_, select

from registry.db import Database, execute
from registry.models import OwnedTask

FINAL_STATES = ("TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED")
"""A task in one of these never changes again (A2A 1.0 §3.1), so a late event cannot take it back."""

_CLAIM_CONTEXT = (
    "INSERT INTO contexts (agent, context_id, owner, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_CLAIM_TASK = (
    "INSERT INTO tasks (agent, task_id, owner, context_id, state, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
_CONTEXT_OWNER = "SELECT owner FROM contexts WHERE agent = ? AND context_id = ?"
_TASK_OWNER = "SELECT owner FROM tasks WHERE agent = ? AND task_id = ?"
_ADVANCE = (
    "UPDATE tasks SET state = ?, updated_at = ? WHERE agent = ? AND task_id = ? AND owner = ?"
    " AND state NOT IN (?, ?, ?, ?)"
)


class Claim(NamedTuple):
    """A task, or only a context, that an agent showed to `owner`."""

    agent: str
    owner: str
    context_id: str | None
    task_id: str | None
    state: str
    at: float
    """When the state was reached, in seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Which of an owner's tasks are asked for, newest state first."""

    agent: str
    owner: str
    size: int
    context_id: str | None = None
    state: str | None = None
    since: float | None = None
    """Only states reached then or later, in seconds since 1970."""
    after: tuple[float, str] | None = None
    """(updated_at, task_id) of the last task of the page before."""


class Ownership:
    """The rows of all tasks and contexts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, claim: Claim) -> bool:
        """Write who owns what; False: the context or the task is someone else's already, and stays so.

        On return the rows survive the death of the process.
        """
        return await self._database.append(lambda connection: _claim(connection, claim))

    def advance_later(self, claim: Claim) -> None:
        """Write a task's new state some time soon, unless the one it has is final."""
        values = (claim.state, claim.at, claim.agent, claim.task_id, claim.owner, *FINAL_STATES)
        self._database.append_later(lambda connection: execute(connection, _ADVANCE, values))

    async def find_task(self, agent: str, task_id: str) -> OwnedTask | None:
        """The task's row, None when there is none."""
        return await self._database.read(lambda session: session.get(OwnedTask, (agent, task_id)))

    async def list_tasks(self, listing: Listing) -> tuple[list[OwnedTask], int]:
        """One page and the number of all tasks that fit; the page has one task more than `size` if others follow."""
        await self._database.append(lambda _: None)  # states that are still on their way count too
        return await self._database.read(lambda session: _list_tasks(session, listing))


def _claim(connection: Connection, claim: Claim) -> bool:
    # two statements in one append: should the second fail, the first is still true
    agent, owner, context_id, task_id, state, at = claim
    now = time.time()
    if context_id:
        # an insert that says by its count whether it was one costs two thirds of one that returns the owner
        made = execute(connection, _CLAIM_CONTEXT, (agent, context_id, owner, now)).rowcount
        if not made and execute(connection, _CONTEXT_OWNER, (agent, context_id)).fetchone()[0] != owner:
            return False
    if task_id is None:
        return True
    values = (agent, task_id, owner, context_id or "", state, now, at)
    if execute(connection, _CLAIM_TASK, values).rowcount:
        return True
    return bool(execute(connection, _TASK_OWNER, (agent, task_id)).fetchone()[0] == owner)


def _list_tasks(session: Session, listing: Listing) -> tuple[list[OwnedTask], int]:
    wanted = [col(OwnedTask.agent) == listing.agent, col(OwnedTask.owner) == listing.owner]
    if listing.context_id is not None:
        wanted.append(col(OwnedTask.context_id) == listing.context_id)
    if listing.state is not None:
        wanted.append(col(OwnedTask.state) == listing.state)
    if listing.since is not None:
        wanted.append(col(OwnedTask.updated_at) >= listing.since)
    total = session.exec(select(func.count()).select_from(OwnedTask).where(*wanted)).one()
    page = select(OwnedTask).where(*wanted)
    if listing.after is not None:
        at, task_id = listing.after
        earlier = col(OwnedTask.updated_at) < at
        page = page.where(or_(earlier, (col(OwnedTask.updated_at) == at) & (col(OwnedTask.task_id) < task_id)))
    page = page.order_by(col(OwnedTask.updated_at).desc(), col(OwnedTask.task_id).desc()).limit(listing.size + 1)
    return list(session.exec(page).all()), total
