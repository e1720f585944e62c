"""Push notifications on their way and those given up: the SQL of the outbox. Knows no protocol and sends nothing.

A notification is there when `put` was awaited, and until it was delivered or given up. Several processes may deliver:
who takes one has it alone for `LEASE_S`, and one whose taker died is due again after that; who stops gives it back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlmodel import Session, col, select

from registry.callers.levels import by_ids
from registry.identity import ADMIN_ID
from registry.ledger.push import Destination, open_destination
from registry.sealed.secrets import Sealer, SecretKeyInvalid
from registry.store.db import Database
from registry.store.tables.ledger import PushConfig, PushNotification

LEASE_S = 30.0
"""Longer than any attempt takes."""

MAX_PENDING = 1000
"""Notifications that wait for one receiver; beyond them the oldest is given up."""
MAX_PENDING_BYTES = 32 * 1024 * 1024

MAX_ALL = 100_000
"""The same for all receivers together."""
MAX_ALL_BYTES = 1024 * 1024 * 1024

MAX_DEAD = 10_000
"""Notifications that were given up and are kept for a replay; beyond them the oldest is removed."""
MAX_DEAD_BYTES = 256 * 1024 * 1024

OVERFLOW = "too many notifications waited"


class Posting(NamedTuple):
    """One notification for one receiver."""

    config: int
    """The receiver's id."""
    event_id: str
    body: bytes
    at: float
    """Now, in seconds since 1970."""


class Head(NamedTuple):
    """A receiver whose next notification is due."""

    config: int
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A notification to be sent now, and all that sending needs."""

    id: int
    config: int
    agent: str
    task_id: str
    version: str
    destination: Destination
    event_id: str
    body: bytes = field(repr=False)
    attempts: int
    missing: int
    since: float


class DeadLetter(NamedTuple):
    """A notification that was given up, without its body and its address."""

    id: int
    agent: str
    task_id: str
    owner: str
    config_id: str
    event_id: str
    attempts: int
    size: int
    since: float
    dead_at: float
    reason: str


class Outbox:
    """All notifications. One for a process; safe to use from several tasks."""

    def __init__(self, database: Database, *, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    def put(self, postings: list[Posting]) -> Awaitable[object]:
        """Write notifications; when this was awaited they survive the death of the process.

        For a receiver that is stopped they are given up at once; for one that is gone they are dropped.
        """
        return self._database.append(_put_all, postings)

    async def heads(self, now: float) -> list[Head]:
        """The receivers whose oldest pending notification is due, the one that waits longest first."""
        return await self._database.read(
            lambda session: [Head(*row) for row in session.connection().exec_driver_sql(_HEADS, (now,))]
        )

    async def take(self, config: int, now: float) -> Due | None:
        """Take a receiver's oldest pending notification for `LEASE_S`; None: it has none, or that is not due."""
        pending = select(PushNotification).where(
            PushNotification.config == config, col(PushNotification.reason).is_(None)
        )
        oldest = pending.order_by(col(PushNotification.id)).limit(1)

        def change(session: Session) -> Due | None:
            row = session.exec(oldest).first()
            receiver = session.get(PushConfig, config)
            if row is None or receiver is None or row.due_at > now:
                return None
            reason = _obstacle(session, receiver, now)
            if reason is None:
                try:
                    destination = open_destination(self._sealer, receiver)
                except SecretKeyInvalid as error:
                    reason = str(error)
                else:
                    row.due_at = now + LEASE_S
                    session.add(row)
                    return _due(row, receiver, destination)
            session.connection().exec_driver_sql(_STOP, (reason, config))
            session.connection().exec_driver_sql(_BURY_ALL, (reason, now, config))
            return None

        return await self._database.write(change)

    async def give_back(self, config: int, taken_at: float) -> None:
        """Make due again what was taken of a receiver at that time and neither arrived nor failed."""
        # as `take` does: what is only appended would come before one that was cancelled and not yet written
        await self._database.write(
            lambda session: session.connection().exec_driver_sql(_GIVE_BACK, (taken_at, config, taken_at + LEASE_S))
        )

    def delivered(self, notification: int) -> Awaitable[object]:
        """Remove a notification that arrived."""
        return self._database.append(_remove_all, notification)

    def postpone(self, notification: int, due_at: float, missing: int) -> Awaitable[object]:
        """Note an attempt that failed. `missing`: how many of the last ones were answered 404."""
        return self._database.append(_postpone_all, (due_at, missing, notification))

    def bury(self, notification: int, reason: str, now: float) -> Awaitable[object]:
        """Give a notification up."""
        return self._database.append(_bury_all, (reason, now, notification))

    def stop(self, config: int, reason: str, now: float) -> Awaitable[object]:
        """Give up all that waits for a receiver, and what comes for it later."""
        return self._database.append(_stop_all, (config, reason, now))

    async def trim(self, now: float) -> None:
        """Keep the outbox within its bounds: of what waits the oldest is given up, of what was given up it is removed."""

        def change(session: Session) -> None:
            connection = session.connection()
            counted = connection.exec_driver_sql(_COUNT).one()
            if counted.pending > MAX_ALL or counted.pending_bytes > MAX_ALL_BYTES:
                connection.exec_driver_sql(_TRIM_PENDING, (OVERFLOW, now, MAX_ALL, MAX_ALL_BYTES))
            if counted.dead > MAX_DEAD or counted.dead_bytes > MAX_DEAD_BYTES:
                connection.exec_driver_sql(_TRIM_DEAD, (MAX_DEAD, MAX_DEAD_BYTES))

        await self._database.write(change)


def dead_letters(session: Session, after: int, limit: int) -> list[DeadLetter]:
    """Up to `limit` notifications that were given up, oldest first, from the one that follows the id `after`."""
    rows = session.connection().exec_driver_sql(_DEAD, (after, limit))
    return [DeadLetter(*row) for row in rows]


def replay(session: Session, now: float, *, only: int | None = None) -> int:
    """Make notifications that were given up pending again, and their receivers too; return how many.

    `only` is the id of one; None: all.
    """
    one = None if only is None else (only,)
    driver = session.connection()
    driver.exec_driver_sql(_START + (_ONE_CONFIG if one else ""), one or ())
    done = driver.exec_driver_sql(_REVIVE + (_ONE if one else ""), (now, now, *(one or ())))
    return done.rowcount


_HEADS = """
    SELECT push_configs.id, push_configs.owner FROM push_outbox JOIN push_configs ON push_configs.id = push_outbox.config
    WHERE push_outbox.due_at <= ? AND push_outbox.id IN (SELECT min(id) FROM push_outbox WHERE reason IS NULL GROUP BY config)
    ORDER BY push_outbox.due_at"""
_PUT = """
    INSERT INTO push_outbox (config, event_id, body, size, attempts, missing, since, due_at, reason, dead_at)
    SELECT id, ?, ?, ?, 0, 0, ?, ?, stopped, CASE WHEN stopped IS NULL THEN NULL ELSE ? END FROM push_configs WHERE id = ?"""
_WAITING = "SELECT count(*), total(size) FROM push_outbox WHERE config = ? AND reason IS NULL"
_SURPLUS = """
    WITH kept AS (
        SELECT id, row_number() OVER newest AS position, sum(size) OVER newest AS bytes FROM push_outbox
        WHERE {which} WINDOW newest AS (ORDER BY id DESC)
    ) SELECT id FROM kept WHERE position > ? OR bytes > ?"""
_GIVE_UP = "UPDATE push_outbox SET reason = ?, dead_at = ? WHERE id IN ({surplus})"
_TRIM_ONE = _GIVE_UP.format(surplus=_SURPLUS.format(which="config = ? AND reason IS NULL"))
_TRIM_PENDING = _GIVE_UP.format(surplus=_SURPLUS.format(which="reason IS NULL"))
_TRIM_DEAD = f"DELETE FROM push_outbox WHERE id IN ({_SURPLUS.format(which='reason IS NOT NULL')})"  # noqa: S608
_COUNT = """
    SELECT count(*) FILTER (WHERE reason IS NULL) AS pending, total(size) FILTER (WHERE reason IS NULL) AS pending_bytes,
        count(reason) AS dead, total(size) FILTER (WHERE reason IS NOT NULL) AS dead_bytes
    FROM push_outbox"""
_REMOVE = "DELETE FROM push_outbox WHERE id = ?"
_POSTPONE = "UPDATE push_outbox SET attempts = attempts + 1, due_at = ?, missing = ? WHERE id = ? AND reason IS NULL"
_GIVE_BACK = "UPDATE push_outbox SET due_at = ? WHERE config = ? AND due_at = ? AND reason IS NULL"
_BURY = "UPDATE push_outbox SET attempts = attempts + 1, reason = ?, dead_at = ? WHERE id = ? AND reason IS NULL"
_STOP = "UPDATE push_configs SET stopped = ? WHERE id = ?"
_BURY_ALL = "UPDATE push_outbox SET reason = ?, dead_at = ? WHERE config = ? AND reason IS NULL"
_DEAD = """
    SELECT push_outbox.id, agent, task_id, owner, config_id, event_id, attempts, size, since, dead_at, reason
    FROM push_outbox JOIN push_configs ON push_configs.id = push_outbox.config
    WHERE reason IS NOT NULL AND push_outbox.id > ? ORDER BY push_outbox.id LIMIT ?"""
_START = "UPDATE push_configs SET stopped = NULL WHERE stopped IS NOT NULL"
_ONE_CONFIG = " AND id = (SELECT config FROM push_outbox WHERE id = ? AND reason IS NOT NULL)"
_REVIVE = """
    UPDATE push_outbox SET reason = NULL, dead_at = NULL, attempts = 0, missing = 0, since = ?, due_at = ?
    WHERE reason IS NOT NULL"""
_ONE = " AND id = ?"


def _put_all(connection: sqlite3.Connection, batches: list[list[Posting]]) -> list[None]:
    for config, event_id, body, at in (posting for batch in batches for posting in batch):
        connection.execute(_PUT, (event_id, body, len(body), at, at, at, config))
        count, size = connection.execute(_WAITING, (config,)).fetchone()
        if count > MAX_PENDING or size > MAX_PENDING_BYTES:
            connection.execute(_TRIM_ONE, (OVERFLOW, at, config, MAX_PENDING, MAX_PENDING_BYTES))
    return [None] * len(batches)


def _remove_all(connection: sqlite3.Connection, notifications: list[int]) -> list[None]:
    connection.executemany(_REMOVE, [(notification,) for notification in notifications])
    return [None] * len(notifications)


def _postpone_all(connection: sqlite3.Connection, values: list[tuple[float, int, int]]) -> list[None]:
    connection.executemany(_POSTPONE, values)
    return [None] * len(values)


def _bury_all(connection: sqlite3.Connection, values: list[tuple[str, float, int]]) -> list[None]:
    connection.executemany(_BURY, values)
    return [None] * len(values)


def _stop_all(connection: sqlite3.Connection, values: list[tuple[int, str, float]]) -> list[None]:
    for config, reason, now in values:
        connection.execute(_STOP, (reason, config))
        connection.execute(_BURY_ALL, (reason, now, config))
    return [None] * len(values)


def _obstacle(session: Session, receiver: PushConfig, now: float) -> str | None:
    """Why a receiver may not hear of the task any more: who may no longer call the agent gets no news of it either."""
    if receiver.owner == ADMIN_ID:
        return None
    found = by_ids(session, [receiver.owner])
    if not found or (found[0].expires_at is not None and found[0].expires_at <= now):
        return "the key that asked for it is revoked or has expired"
    if not found[0].grants.allow("agent", receiver.agent):
        return "the key that asked for it may not call the agent any more"
    return None


def _due(row: PushNotification, receiver: PushConfig, destination: Destination) -> Due:
    assert row.id is not None, "it was read from the database"
    return Due(
        id=row.id,
        config=row.config,
        agent=receiver.agent,
        task_id=receiver.task_id,
        version=receiver.version,
        destination=destination,
        event_id=row.event_id,
        body=row.body,
        attempts=row.attempts,
        missing=row.missing,
        since=row.since,
    )
