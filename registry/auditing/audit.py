"""The audit log: every administrative act and every refusal, appended to a chain of digests. Calls never fail on it.

Each row's digest is over the row and the digest before it, so that one changed or taken out later breaks the chain from
there on. Rows cut off at the end leave a chain that is whole: compare its head with one noted elsewhere.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from sqlmodel import Session, col, func, select

from registry.errors import (
    ApprovalRefused,
    ApprovalRequired,
    CrossSiteRefused,
    GuardRefused,
    HostRefused,
    HubError,
    LimitError,
    NotFound,
    OriginRefused,
    PolicyRefused,
    Unauthenticated,
)
from registry.identity import Principal
from registry.store.db import Database
from registry.store.tables.auditing import AuditRow

REFUSALS = (
    ApprovalRefused,
    ApprovalRequired,
    CrossSiteRefused,
    HostRefused,
    LimitError,
    NotFound,
    OriginRefused,
    PolicyRefused,
    Unauthenticated,
)
"""Errors by which the hub refused somebody something. What is absent counts: callers must not tell it from what is forbidden."""

BURST = 500
PER_S = 20.0
"""Refusals that are written, each by itself. More are counted, and one row says how many."""

COUNTED = 100_000
"""Rows that are looked at to say what guards found."""

MAX_TEXT = 300
START = "0" * 64
"""The digest before the first."""


class Entry(NamedTuple):
    """What is written of one act or refusal."""

    at: float
    """In seconds since 1970."""
    principal: str
    """Id; empty: nobody who is known."""
    principal_name: str
    act: str
    """Method and path of the API, a command, or `refused`."""
    object: str
    outcome: str
    """The HTTP status of the API's answer, `done` or `failed` of a command, or why it was refused."""
    detail: str
    request_id: str


class Verified(NamedTuple):
    """What a check of the chain found."""

    rows: int
    """That are whole, from the first on."""
    head: str
    """The digest of the last of them."""
    broken_at: int | None
    """The number of the first row that is not as it was written; None: all are."""


class Audit:
    """Writes the log. One for a process."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._left = float(BURST)
        self._seen_at = clock()
        self._uncounted = 0

    async def act(
        self, by: Principal, act: str, thing: str, *, outcome: str, detail: str = "", request_id: str = ""
    ) -> None:
        """Write an administrative act; it is on disk when this returns."""
        entry = Entry(time.time(), by.id, by.name, act, thing, outcome, detail, request_id)
        await self._database.append(_append, entry)

    def redacted(self, who: Principal, guard: str, what: str, *, request_id: str, where: str) -> None:
        """Note what a guard redacted; never waits."""
        if self._has_room():
            entry = Entry(
                time.time(), who.id, who.name, "redacted", where[:MAX_TEXT], guard, what[:MAX_TEXT], request_id
            )
            self._database.append_later(_append, entry)
        else:
            self._uncounted += 1

    def refused(self, who: Principal | None, error: HubError, *, request_id: str = "", where: str = "") -> None:
        """Note a refusal, once; never waits."""
        if error.noted or not isinstance(error, REFUSALS):
            return
        error.noted = True
        if not self._has_room():
            self._uncounted += 1
            return
        if self._uncounted:
            text = f"{self._uncounted} more refusals and redactions were not written"
            self._database.append_later(_append, Entry(time.time(), "", "", "refused", "", "too many", text, ""))
            self._uncounted = 0
        thing = f"{error.kind}:{error.name}" if isinstance(error, NotFound) else where
        entry = Entry(
            time.time(),
            who.id if who else "",
            who.name if who else "",
            "refused",
            thing[:MAX_TEXT],
            type(error).__name__,
            error.text[:MAX_TEXT],
            request_id,
        )
        self._database.append_later(_append, entry)

    def _has_room(self) -> bool:
        now = self._clock()
        self._left = min(float(BURST), self._left + (now - self._seen_at) * PER_S)
        self._seen_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    async def page(self, before: int | None, limit: int) -> list[AuditRow]:
        """At most `limit` rows, newest first, older than `before`."""
        query = select(AuditRow).order_by(col(AuditRow.number).desc()).limit(limit)
        if before is not None:
            query = query.where(col(AuditRow.number) < before)
        return list(await self._database.read(lambda session: session.exec(query).all()))

    async def found_by_guards(self, *, since: float) -> Counter[tuple[str, str]]:
        """How often guards redacted and refused something, by act and guard, in the newest `COUNTED` rows."""
        newest = select(func.max(AuditRow.number) - COUNTED).scalar_subquery()
        recent = (col(AuditRow.number) > newest, col(AuditRow.at) >= since)
        is_guards = col(AuditRow.act).in_(["redacted", "refused"])
        query = (
            select(AuditRow.act, AuditRow.outcome, AuditRow.detail, func.count())
            .where(*recent, is_guards)
            .group_by(col(AuditRow.act), col(AuditRow.outcome), col(AuditRow.detail))
        )
        found: Counter[tuple[str, str]] = Counter()
        for act, outcome, detail, count in await self._database.read(lambda session: session.exec(query).all()):
            if act == "redacted":
                found[act, outcome] += count
            elif outcome == GuardRefused.__name__:
                found[act, GuardRefused.guard_in(detail)] += count
        return found

    async def has(self, digest: str) -> bool:
        """Whether some row has this digest."""
        query = select(AuditRow.number).where(AuditRow.digest == digest)
        return await self._database.read(lambda session: session.exec(query).first()) is not None

    async def verify(self) -> Verified:
        """Check the whole chain."""
        return await self._database.read(_verify)


def _append(connection: sqlite3.Connection, entries: Sequence[Entry]) -> list[None]:
    last = connection.execute("SELECT digest FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    digest = last[0] if last is not None else START
    for entry in entries:
        digest = _digest(digest, entry)
        connection.execute(
            "INSERT INTO audit (at, principal, principal_name, act, object, outcome, detail, request_id, digest)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*entry, digest),
        )
    return [None] * len(entries)


def _digest(before: str, entry: Entry) -> str:
    return hashlib.sha256(before.encode() + msgspec.json.encode(entry)).hexdigest()


def _verify(session: Session) -> Verified:
    digest, rows = START, 0
    for row in session.exec(select(AuditRow).order_by(col(AuditRow.number)).execution_options(yield_per=1000)):
        entry = Entry(*(getattr(row, member) for member in Entry._fields))
        after = _digest(digest, entry)
        if after != row.digest or row.number != rows + 1:
            return Verified(rows, digest, row.number)
        digest, rows = after, rows + 1
    return Verified(rows, digest, None)
