"""Whose an A2A task or context is: the SQL of the ledger. Knows no protocol; states are opaque but for the final ones.

The first owner wins and never changes, nor does the team in which it is shared; a task's agent is part of its name, since two agents may both mint "1".
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from sqlmodel import Session, col, func, or_, select

from registry.callers.levels import by_ids, unexpired
from registry.store.db import Database, insert
from registry.store.tables.ledger import OwnedContext, OwnedTask

FINAL_STATES = ("TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED")
"""A task in one of these never changes again (A2A 1.0 §3.1), so a late event cannot take it back."""

FIRST_STATE = "TASK_STATE_SUBMITTED"
"""What a task is when nothing was said of it yet."""

NOWHERE = "-"
"""The instance of a context that no instance has been told of yet."""

_CONTEXTS = "contexts (agent, context_id, owner, team, instance, created_at)"
_TASKS = "tasks (agent, task_id, owner, team, context_id, state, reader, instance, created_at, updated_at)"
_CONTEXT_OWNER = "SELECT owner, team FROM contexts WHERE agent = ? AND context_id = ?"
_TASK_OWNER = "SELECT owner, team FROM tasks WHERE agent = ? AND task_id = ? AND (instance IN ('', ?) OR ? = '')"
"""None if it is of another instance: two may both mint "1"."""
_PLACE = "UPDATE contexts SET instance = ? WHERE agent = ? AND context_id = ? AND instance = ?"
_ADVANCE = (
    "UPDATE tasks SET state = ?, updated_at = ? WHERE agent = ? AND task_id = ? AND owner = ?"
    " AND state NOT IN (?, ?, ?, ?)"
)


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A task, or only a context, that an agent showed to `owner`. A Struct: made for every task, at a third of a tuple's cost."""

    agent: str
    owner: str
    context_id: str | None
    task_id: str | None
    state: str
    at: float
    """When the state was reached, in seconds since 1970."""
    owns_context: bool = False
    """The context is known to be the owner's or shared in `team`, so it need not be claimed again."""
    reader: str = ""
    """The hub process that reads the task's events."""
    instance: str = ""
    """The instance of the agent that has it; empty: the agent has one only."""
    team: str | None = None
    """Id of the team in which what is new is shared, and in which the owner may use what is shared."""
    is_new: bool = True
    """Of the answer to a claim: its task was surely not known before."""


class Placing(NamedTuple):
    """A context that was `NOWHERE`, and the instance that has it now."""

    instance: str
    agent: str
    context_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Which of an owner's tasks are asked for, newest state first."""

    agent: str
    owner: str
    size: int
    context_id: str | None = None
    state: str | None = None
    team: str | None = None
    """Tasks that are shared in this team are asked for too."""
    since: float | None = None
    """Only states reached then or later, in seconds since 1970."""
    after: tuple[float, str] | None = None
    """(updated_at, task_id) of the last task of the page before."""


class Ownership:
    """The rows of all tasks and contexts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, claim: Claim) -> Awaitable[Claim | None]:
        """Write who owns what, and the state of a task that was known before; None: it is someone else's, and stays so.

        Returns the claim itself when all of it was new; else with the owner and the team that the task, or for a claim
        without one the context, has already. A new task has the team of its context. When this was awaited the rows
        survive the death of the process.
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
        wanted = select(OwnedTask).where(OwnedTask.agent == agent, OwnedTask.task_id == task_id)
        return await self._database.read(lambda session: session.exec(wanted).first())

    async def team_of(self, principal_id: str) -> str | None:
        """The team of a key now; None: it is in none, or not a valid key any more."""
        found = await self._database.read(lambda session: by_ids(session, [principal_id]))
        living = unexpired(found[0]) if found else None
        return living.team_id if living is not None else None

    async def list_tasks(self, listing: Listing) -> tuple[list[OwnedTask], int]:
        """One page and the number of all tasks that fit; the page has one task more than `size` if others follow."""
        await self._database.committed()  # states that are still on their way count too
        return await self._database.read(lambda session: _list_tasks(session, listing))


def _claim_all(connection: sqlite3.Connection, claims: list[Claim]) -> Sequence[Claim | None]:
    """Claim contexts, then tasks. Most are new, so owners are only looked at when a row did not go in."""
    now = time.time()
    contexts = [
        (claim.agent, claim.context_id, claim.owner, claim.team, claim.instance, now)
        for claim in claims
        if claim.context_id and not claim.owns_context
    ]
    held: Sequence[Claim | None] = claims
    if insert(connection, _CONTEXTS, contexts) < len(contexts):
        held = [_in_context(connection, one, one.context_id) if one.context_id else one for one in claims]
    tasks = [
        (
            one.agent,
            one.task_id,
            one.owner,
            one.team,
            one.context_id or "",
            one.state,
            one.reader,
            one.instance,
            now,
            one.at,
        )
        for one in held
        if one is not None and one.task_id is not None
    ]
    if insert(connection, _TASKS, tasks) < len(tasks):
        held = [
            one if one is None or claim.task_id is None else _claimed_again(connection, claim, claim.task_id)
            for one, claim in zip(held, claims, strict=True)
        ]
    return held


def _in_context(connection: sqlite3.Connection, claim: Claim, context_id: str) -> Claim | None:
    """A claim as its context lets it stand: a new task in it is its maker's own, and shared as the context is."""
    held = _held(connection, _CONTEXT_OWNER, claim, (claim.agent, context_id))
    return held if held is None or claim.task_id is None else msgspec.structs.replace(claim, team=held.team)


def _claimed_again(connection: sqlite3.Connection, claim: Claim, task_id: str) -> Claim | None:
    """A claim of a task that may have been there, with its newest state if it is open to the claimer."""
    held = _held(connection, _TASK_OWNER, claim, (claim.agent, task_id, claim.instance, claim.instance))
    if held is not None and claim.state != FIRST_STATE:
        connection.execute(_ADVANCE, _advance_of(held))
    return held


def _held(connection: sqlite3.Connection, owner_of: str, claim: Claim, name: tuple[str, ...]) -> Claim | None:
    """A claim of something that has a row, with what the row says; None: it is not open to the claimer."""
    found: tuple[str, str | None] | None = connection.execute(owner_of, name).fetchone()
    if found is None or (found[0] != claim.owner and (claim.team is None or found[1] != claim.team)):
        return None
    return msgspec.structs.replace(claim, owner=found[0], team=found[1], is_new=False)


def _place_all(connection: sqlite3.Connection, placings: list[Placing]) -> list[bool]:
    return [connection.execute(_PLACE, (*one, NOWHERE)).rowcount == 1 for one in placings]


def _advance_of(claim: Claim) -> tuple[object, ...]:
    return (claim.state, claim.at, claim.agent, claim.task_id, claim.owner, *FINAL_STATES)


def _advance_all(connection: sqlite3.Connection, advances: list[tuple[object, ...]]) -> list[None]:
    connection.executemany(_ADVANCE, advances)
    return [None] * len(advances)


def _list_tasks(session: Session, listing: Listing) -> tuple[list[OwnedTask], int]:
    is_open = col(OwnedTask.owner) == listing.owner
    if listing.team is not None:
        is_open = or_(is_open, col(OwnedTask.team) == listing.team)
    wanted = [col(OwnedTask.agent) == listing.agent, is_open]
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
