"""What users and teams have in common: made, found, listed, changed, deleted, each by name or id.

What belongs to one holds its id; the name is read from its row and nothing caches it, so a new one holds everywhere with
the commit that writes it (architecture.md 3.4).
"""

from __future__ import annotations

from typing import Any, Generic

from sqlmodel import Session, col, delete, select

from registry.callers.keys import Keys, revoke_all
from registry.callers.levels import KINDS, NAMES, Level, named
from registry.callers.sessions import end_all
from registry.errors import Conflict, NotFound
from registry.store.db import Database
from registry.store.tables.callers import ApiKey, Member
from registry.store.tables.hub import Change


def find(session: Session, level: type[Level], name: str) -> Level:
    """The user or team of this name or id; raises `NotFound`."""
    found = named(session, level, name)
    if found is None:
        raise NotFound(KINDS[level], name)
    return found


class LevelTable(Generic[Level]):
    """All users of the hub, or all teams."""

    def __init__(self, level: type[Level], database: Database, keys: Keys) -> None:
        self._level: type[Level] = level
        self._kind, self._named = KINDS[level], NAMES[level]
        self._name: Any = getattr(level, self._named)
        self._database = database
        self._keys = keys

    async def page(self, *, after: str = "", limit: int | None = None) -> list[Level]:
        """Those after one name, by name."""
        query = select(self._level).where(self._name > after).order_by(self._name).limit(limit)
        return await self._database.read(lambda session: list(session.exec(query).all()))

    async def find(self, name: str) -> Level:
        """The one of this name or id; raises `NotFound`."""
        return await self._database.read(lambda session: find(session, self._level, name))

    async def change(self, which: str, /, **members: object) -> Level:
        """Replace members, the name among them; raises `NotFound`, or `Conflict` when another has the name.

        From the next request on its keys do what they then may.
        """

        def change(session: Session) -> Level:
            level = find(session, self._level, which)
            name = members.get(self._named)
            if name is not None and name != getattr(level, self._named):
                self._check_free(session, str(name))
            for member, value in members.items():
                setattr(level, member, value)
            if members.get("disabled"):
                end_all(session, [level.id])
            session.add(level)
            session.add(Change(kind="key", name=level.id))
            return level

        changed: Level = await self._database.write(change)
        self._keys.forget()
        return changed

    async def delete(self, name: str) -> None:
        """Delete one with its memberships, and revoke its keys: without it, less would bound them.

        Raises:
            NotFound: there is none such.
            Conflict: a key of the file belongs to it, so the file could not be read again.
        """

        def remove(session: Session) -> None:
            level, column = find(session, self._level, name), f"{self._kind}_id"
            its = select(ApiKey).where(getattr(ApiKey, column) == level.id, col(ApiKey.revoked_at).is_(None))
            revoke_all(session, session.exec(its).all())
            theirs: Any = getattr(Member, column) == level.id
            end_all(session, [level.id, *session.exec(select(Member.user_id).where(theirs)).all()])
            session.exec(delete(Member).where(theirs))
            session.delete(level)
            session.add(Change(kind="key", name=level.id))

        await self._database.write(remove)
        self._keys.forget()

    async def _insert(self, level: Level) -> Level:
        def insert(session: Session) -> Level:
            self._check_free(session, getattr(level, self._named))
            session.add(level)
            return level

        return await self._database.write(insert)

    def _check_free(self, session: Session, name: str) -> None:
        if session.exec(select(self._level).where(self._name == name)).first() is not None:
            raise Conflict(f"A {self._kind} named {name!r} exists.")
