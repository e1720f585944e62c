"""What providers keep for callers, for lists and for the ids that providers mention: its SQL. Decides nobody's access to an id."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement
from sqlmodel import Session, col, delete, or_, select, update

from registry.identity import Principal
from registry.store.db import Database
from registry.store.tables.sealed import ProviderObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Which things of a kind are asked for."""

    kind: str
    limit: int
    after: str | None = None
    """Id of the last one of the page before."""
    oldest_first: bool = False
    purpose: str | None = None


class ProviderObjects:
    """All rows. One for a process; safe to use from several tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, seen: ProviderObject) -> None:
        """Keep a thing as it is now; on disk when this returns. What was noted before keeps its owner.

        What has expired goes at the same time, so that the table is as large as what there is.
        """

        def change(session: Session) -> None:
            session.exec(delete(ProviderObject).where(col(ProviderObject.expires_at) <= time.time()))
            row = session.exec(select(ProviderObject).where(ProviderObject.id == seen.id)).first()
            if row is None:
                session.add(seen)
            elif seen.shown is not None:
                row.shown, row.expires_at = seen.shown, seen.expires_at
                session.add(row)

        await self._database.write(change)

    async def page(self, listing: Listing, principal: Principal) -> tuple[list[ProviderObject], bool]:
        """What is open to `principal`, and whether more follows."""
        rows = await self._database.read(lambda session: _page(session, listing, principal))
        return rows[: listing.limit], len(rows) > listing.limit

    async def ids(self, kind: str, place: str, names: Iterable[str], principal: Principal) -> dict[str, str]:
        """The ids of things by the names that their provider gave them, of those that are open to `principal`."""
        wanted = (
            ProviderObject.kind == kind,
            ProviderObject.place == place,
            col(ProviderObject.name).in_(list(names)),
            _is_open(principal),
        )
        query = select(ProviderObject.name, ProviderObject.id).where(*wanted)
        return dict(await self._database.read(lambda session: list(session.exec(query).all())))

    async def forget(self, name: str) -> None:
        """Remove the thing with this id; it is no more."""
        await self._database.write(
            lambda session: session.exec(delete(ProviderObject).where(col(ProviderObject.id) == name))
        )

    async def meter(self, name: str) -> bool:
        """Note that what the thing with this id used is counted; False: it was before, or it has no row."""
        unmetered = (col(ProviderObject.id) == name, col(ProviderObject.metered).is_(False))
        counted = update(ProviderObject).where(*unmetered).values(metered=True)
        return await self._database.write(lambda session: session.exec(counted).rowcount == 1)


def _is_open(principal: Principal) -> ColumnElement[bool]:
    own = col(ProviderObject.owner) == principal.id
    return own if principal.team_id is None else or_(own, col(ProviderObject.team) == principal.team_id)


def _page(session: Session, listing: Listing, principal: Principal) -> list[ProviderObject]:
    number = col(ProviderObject.number)
    wanted = [col(ProviderObject.kind) == listing.kind, _is_open(principal)]
    wanted.append(or_(col(ProviderObject.expires_at).is_(None), col(ProviderObject.expires_at) > time.time()))
    if listing.purpose is not None:
        wanted.append(col(ProviderObject.purpose) == listing.purpose)
    if listing.after is not None:
        last = select(ProviderObject.number).where(ProviderObject.id == listing.after).scalar_subquery()
        wanted.append(number > last if listing.oldest_first else number < last)
    order = number.asc() if listing.oldest_first else number.desc()
    return list(session.exec(select(ProviderObject).where(*wanted).order_by(order).limit(listing.limit + 1)).all())
