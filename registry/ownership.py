"""Whose an A2A task or context is: the SQL of the ledger. Knows no protocol; states are opaque but for the final ones.

The first owner wins and never changes; a task's agent is part of its name, since two agents may both mint "1".
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from sqlmodel import Session, col, func, or_, select

from registry.db import Database, insert
from registry.models import OwnedContext, OwnedTask

FINAL_STATES = ("TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED")
"""A task in one of these never changes again (A2A 1.0 §3.1), so a late event cannot take it back."""

FIRST_STATE = "TASK_STATE_SUBMITTED"
"""What a task is when nothing was said of it yet."""

NOWHERE = "-"
"""The instance of a context that no instance has been told of yet."""

_CONTEXTS = "contexts (agent, context_id, owner, instance, created_at)"
_TASKS = "tasks (agent, task_id, owner, context_id, state, reader, instance, created_at, updated_at)"
_CONTEXT_OWNER = "SELECT owner FROM contexts WHERE agent = ? AND context_id = ?"
_TASK_OWNER = "SELECT owner FROM tasks WHERE agent = ? AND task_id = ? AND (instance IN ('', ?) OR ? = '')"
"""None if it is of another instance: two may both mint "1"."""
_PLACE = "UPDATE contexts SET instance = ? WHERE agent = ? AND context_id = ? AND owner = ? AND instance = ?"
_ADVANCE = (
    "UPDATE tasks SET state = ?, updated_at = ? WHERE agent = ? AND task_id = ? AND owner = ?"
    " AND state NOT IN (?, ?, ?, ?)"
)


class Claimed(IntEnum):
    """What became of a claim."""

    OTHERS = 0
    """The context or the task is someone else's already, and stays so."""
    OWN = 1
    """It is the owner's, and the task may have been before."""
    NEW = 2
    """It is the owner's, and the task was not known before."""


class Claim(NamedTuple):
    """A task, or only a context, that an agent showed to `owner`."""

    agent: str
    owner: str
    context_id: str | None
    task_id: str | None
    state: str
    at: float
    """When the state was reached, in seconds since 1970."""
    owns_context: bool = False
    """The context is known to be the owner's, so it need not be claimed again."""
    reader: str = ""
    """The hub process that reads the task's events."""
    instance: str = ""
    """The instance of the agent that has it; empty: the agent has one only."""


class Placing(NamedTuple):
    """A context that was `NOWHERE`, and the instance that has it now."""

    instance: str
    agent: str
    context_id: str
    owner: str


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

    def claim(self, claim: Claim) -> Awaitable[Claimed]:
        """Write who owns what, and the state of a task that was known before.

        When this was awaited the rows survive the death of the process.
        """
        return self._database.append(_claim_all, claim)

    def advance_later(self, claim: Claim) -> None:
        """Write a task's new state some time soon, unless the one it has is final."""
        self._database.append_later(_advance_all, _advance_of(claim))

    def place(self, placing: Placing) -> Awaitable[bool]:
        """Write which instance has a context; False: another one has it, and keeps it. Durable as `claim`."""
        return self._database.append(_place_all, placing)

    async def find_context(self, agent: str, context_id: str) -> OwnedContext | None:
        """The context's row, None when there is none."""
        return await self._database.read(lambda session: session.get(OwnedContext, (agent, context_id)))

    async def find_task(self, agent: str, task_id: str) -> OwnedTask | None:
        """The task's row, None when there is none."""
        return await self._database.read(lambda session: session.get(OwnedTask, (agent, task_id)))

    async def list_tasks(self, listing: Listing) -> tuple[list[OwnedTask], int]:
        """One page and the number of all tasks that fit; the page has one task more than `size` if others follow."""
        await self._database.committed()  # states that are still on their way count too
        return await self._database.read(lambda session: _list_tasks(session, listing))


def _claim_all(connection: sqlite3.Connection, claims: list[Claim]) -> list[Claimed]:
    """Claim contexts, then tasks. Most are new, so owners are only looked at when a row did not go in."""
    now = time.time()
    contexts = [
        (claim.agent, claim.context_id, claim.owner, claim.instance, now)
        for claim in claims
        if claim.context_id and not claim.owns_context
    ]
    fit = [Claimed.NEW] * len(claims)
    if insert(connection, _CONTEXTS, contexts) < len(contexts):
        fit = [
            Claimed.NEW
            if not one.context_id or _owns(connection, _CONTEXT_OWNER, one.owner, (one.agent, one.context_id))
            else Claimed.OTHERS
            for one in claims
        ]
    tasks = [
        (agent, task_id, owner, context_id or "", state, reader, instance, now, at)
        for fits, (agent, owner, context_id, task_id, state, at, _, reader, instance) in zip(fit, claims, strict=True)
        if fits and task_id is not None
    ]
    if insert(connection, _TASKS, tasks) < len(tasks):
        fit = [
            _claimed_again(connection, one) if fits and one.task_id is not None else fits
            for fits, one in zip(fit, claims, strict=True)
        ]
    return fit


def _claimed_again(connection: sqlite3.Connection, claim: Claim) -> Claimed:
    """Whose a task is that may have been there, with its newest state if it is the owner's."""
    assert claim.task_id is not None
    if not _owns(connection, _TASK_OWNER, claim.owner, (claim.agent, claim.task_id, claim.instance, claim.instance)):
        return Claimed.OTHERS
    if claim.state != FIRST_STATE:
        connection.execute(_ADVANCE, _advance_of(claim))
    return Claimed.OWN


def _owns(connection: sqlite3.Connection, owner_of: str, owner: str, name: tuple[str, ...]) -> bool:
    found: tuple[str] | None = connection.execute(owner_of, name).fetchone()
    return found is not None and found[0] == owner


def _place_all(connection: sqlite3.Connection, placings: list[Placing]) -> list[bool]:
    return [connection.execute(_PLACE, (*one, NOWHERE)).rowcount == 1 for one in placings]


def _advance_of(claim: Claim) -> tuple[object, ...]:
    return (claim.state, claim.at, claim.agent, claim.task_id, claim.owner, *FINAL_STATES)


def _advance_all(connection: sqlite3.Connection, advances: list[tuple[object, ...]]) -> list[None]:
    connection.executemany(_ADVANCE, advances)
    return [None] * len(advances)


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
