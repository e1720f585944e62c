"""What the hub keeps for callers between their requests: sealed records, opened for their owner or the owner's team only.

A record is opaque bytes under a kind and an id. Its seal is bound to both and to the owner, so that a row that was moved
opens for nobody. What is absent, foreign, expired or cannot be opened is one answer: None.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, delete, func, or_, select

from registry.identity import Principal
from registry.sealed import places
from registry.sealed.secrets import Sealer, SecretKeyInvalid
from registry.store.db import Database
from registry.store.tables.sealed import KeptRecord

DAY_S = 86_400.0

SWEEP_S = 600.0
"""How often what has expired is removed; it is not given to anybody in between."""

SWEEP_ROWS = 500
"""Rows removed in one transaction, so that nobody waits long for it."""

logger = logging.getLogger(__name__)


class Kept:
    """All records. One for a process; safe to use from several tasks."""

    def __init__(self, database: Database, *, sealer: Sealer, days: float) -> None:
        self._database = database
        self._sealer = sealer
        self._days = days

    async def put(
        self,
        kind: str,
        name: str,
        owner: Principal,
        value: bytes,
        *,
        expires_at: float | None = None,
        anew: bool = False,
    ) -> None:
        """Keep a new record for `owner` and its team until `expires_at`, in seconds since 1970, or as long as is set.

        It is on disk when this returns. `name` is an id never used before for this kind; with `anew` a record of this name,
        which can only be the owner's, makes room.
        """
        now = time.time()
        ends = now + self._days * DAY_S if expires_at is None else expires_at
        sealed = self._sealer.seal(value, about=places.kept(kind, name, owner.id))
        row = (kind, name, owner.id, owner.team_id, now, ends, sealed)
        await self._database.append(_put_anew if anew else _put, row)

    async def rewrite(self, kind: str, name: str, owner: Principal, value: bytes) -> None:
        """As `replace`, for the owner itself, and cheaper; nothing happens if there is nothing."""
        sealed = self._sealer.seal(value, about=places.kept(kind, name, owner.id))
        await self._database.append(_rewrite, (sealed, kind, name, owner.id, time.time()))

    async def get(self, kind: str, name: str, principal: Principal) -> bytes | None:
        """What is kept, if it is open to `principal`."""
        return self._opened(await self._database.read(lambda session: _find(session, kind, name, principal)))

    async def replace(self, kind: str, name: str, principal: Principal, value: bytes) -> bool:
        """Keep `value` in the place of what is kept, as long as that; False: there is nothing open to `principal`."""

        def change(session: Session) -> bool:
            row = _find(session, kind, name, principal)
            if row is None:
                return False
            row.sealed = self._sealer.seal(value, about=places.kept(kind, name, row.owner))
            session.add(row)
            return True

        return await self._database.write(change)

    async def edit(self, kind: str, name: str, principal: Principal, edit: Callable[[bytes], bytes]) -> bytes | None:
        """Keep what `edit` makes of what is kept, for at least as long as is set from now on, and return it; None: nothing is.

        No other change comes between. `edit` runs in the writer thread; what it raises changes nothing and is raised here.
        """

        def change(session: Session) -> bytes | None:
            row = _find(session, kind, name, principal)
            value = self._opened(row)
            if row is None or value is None:
                return None
            edited = edit(value)
            row.sealed = self._sealer.seal(edited, about=places.kept(kind, name, row.owner))
            row.expires_at = max(row.expires_at, time.time() + self._days * DAY_S)
            session.add(row)
            return edited

        return await self._database.write(change)

    async def size(self, kind: str, owner: Principal) -> int:
        """How many bytes of a kind are kept for `owner`."""
        total = select(func.coalesce(func.sum(func.length(KeptRecord.sealed)), 0))
        of_owner = (KeptRecord.kind == kind, KeptRecord.owner == owner.id, col(KeptRecord.expires_at) > time.time())
        return await self._database.read(lambda session: session.exec(total.where(*of_owner)).one())

    async def take(self, kind: str, name: str, principal: Principal) -> bytes | None:
        """Remove a record and return what was kept: of all who take it, one gets it."""

        def change(session: Session) -> KeptRecord | None:
            row = _find(session, kind, name, principal)
            if row is not None:
                session.delete(row)
            return row

        return self._opened(await self._database.write(change))

    async def delete(self, kind: str, name: str, principal: Principal) -> bool:
        """Remove a record; False: there is nothing open to `principal`."""

        def change(session: Session) -> bool:
            row = _find(session, kind, name, principal)
            if row is not None:
                session.delete(row)
            return row is not None

        return await self._database.write(change)

    async def run(self) -> None:
        """Remove what has expired, until cancelled."""
        while True:
            try:
                while await self.sweep():
                    pass
            except SQLAlchemyError as error:
                logger.warning("expired records cannot be removed, trying again", extra={"reason": str(error)})
            await asyncio.sleep(SWEEP_S)

    async def sweep(self) -> int:
        """Remove some of what has expired; return how many."""

        def change(session: Session) -> int:
            old = select(KeptRecord.kind, KeptRecord.id).where(col(KeptRecord.expires_at) <= time.time())
            found = session.exec(old.limit(SWEEP_ROWS)).all()
            for kind, name in found:
                session.exec(delete(KeptRecord).where(col(KeptRecord.kind) == kind, col(KeptRecord.id) == name))
            return len(found)

        return await self._database.write(change)

    def _opened(self, row: KeptRecord | None) -> bytes | None:
        if row is None:
            return None
        try:
            return self._sealer.open(row.sealed, about=places.kept(row.kind, row.id, row.owner))
        except SecretKeyInvalid:  # its sealing key was taken away: as if it had never been
            logger.warning("a kept record cannot be opened and counts for nothing", extra={"kind": row.kind})
            return None


_PUT = "INSERT INTO kept (kind, id, owner, team, created_at, expires_at, sealed) VALUES (?, ?, ?, ?, ?, ?, ?)"
_PUT_ANEW = (
    "INSERT OR REPLACE INTO kept (kind, id, owner, team, created_at, expires_at, sealed) VALUES (?, ?, ?, ?, ?, ?, ?)"
)


def _put(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[None]:
    connection.executemany(_PUT, rows)
    return [None] * len(rows)


def _put_anew(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[None]:
    connection.executemany(_PUT_ANEW, rows)
    return [None] * len(rows)


def _rewrite(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[None]:
    connection.executemany(
        "UPDATE kept SET sealed = ? WHERE kind = ? AND id = ? AND owner = ? AND expires_at > ?", rows
    )
    return [None] * len(rows)


def _find(session: Session, kind: str, name: str, principal: Principal) -> KeptRecord | None:
    is_open = col(KeptRecord.owner) == principal.id
    if principal.team_id is not None:
        is_open = or_(is_open, col(KeptRecord.team) == principal.team_id)
    wanted = (KeptRecord.kind == kind, KeptRecord.id == name, is_open, col(KeptRecord.expires_at) > time.time())
    return session.exec(select(KeptRecord).where(*wanted)).first()
