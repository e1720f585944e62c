"""What is sealed, sealed anew under the first key of the ring, so that the keys behind it can be taken away.

A row is changed only if it is still what was read, so this may be broken off and begun again, and run beside hubs and
beside itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Integer, literal_column, update
from sqlmodel import Session, SQLModel, select

from registry.sealed.places import OF_ROWS
from registry.sealed.secrets import Sealer
from registry.store.db import Database

AT_ONCE = 50
"""Rows that are read and written at a time: some hold megabytes."""

Under = dict[str, Counter[int | None]]
"""By table: how many seals each key opens, by its place in the ring; None: those that no key opens."""


class _Seal(NamedTuple):
    row: int
    sealed: bytes
    about: str


async def look(database: Database, sealer: Sealer) -> Under:
    """Which key everything that is kept is sealed under."""
    found: Under = {}
    for of in OF_ROWS:
        counted = found[str(of.__tablename__)] = Counter[int | None]()
        async for seals in _seals(database, of):
            counted.update(_number(sealer.find(one.sealed, about=one.about)) for one in seals)
    return found


async def reseal(database: Database, sealer: Sealer) -> int:
    """Seal everything under the first key that another one opens; returns how many seals were made anew."""
    made = 0
    for of in OF_ROWS:
        async for seals in _seals(database, of):
            opened = [(one, sealer.find(one.sealed, about=one.about)) for one in seals]
            anew = [
                (one, sealer.seal(found[1], about=one.about))
                for one, found in opened
                if found is not None and found[0] > 0
            ]
            if anew:
                made += await database.write(partial(_replace, of, anew))
    return made


def _number(found: tuple[int, bytes] | None) -> int | None:
    return None if found is None else found[0]


async def _seals(database: Database, of: type[SQLModel]) -> AsyncIterator[list[_Seal]]:
    last = 0
    while seals := await database.read(partial(_read, of, last)):
        yield seals
        last = seals[-1].row


def _read(of: Any, after: int, session: Session) -> list[_Seal]:
    row = _row(of)
    query = select(row, of).where(row > after, of.sealed.is_not(None)).order_by(row).limit(AT_ONCE)
    return [_Seal(number, found.sealed, OF_ROWS[of](found)) for number, found in session.exec(query).all()]


def _replace(of: Any, anew: list[tuple[_Seal, bytes]], session: Session) -> int:
    changes = (
        update(of).where(_row(of) == one.row, of.sealed == one.sealed).values(sealed=sealed) for one, sealed in anew
    )
    return sum(session.connection().execute(change).rowcount for change in changes)


def _row(of: Any) -> Any:
    return literal_column(f"{of.__tablename__}.rowid", Integer)
