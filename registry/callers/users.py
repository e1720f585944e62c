"""Users: made, listed, changed, deleted. What belongs to a user holds the id; the name is read from its row."""

from __future__ import annotations

import time

from sqlmodel import Session, col, delete, select

from registry.callers.keys import Keys, revoke_all, user_named
from registry.callers.levels import written
from registry.errors import Conflict, NotFound
from registry.sealed.secrets import new_id
from registry.store.db import Database
from registry.store.tables.callers import ApiKey, Member, User
from registry.store.tables.hub import Change


class Users:
    """All users of the hub. Each is named by name or id."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    async def create(
        self, name: str, *, email: str | None = None, allow: tuple[str, ...] | None = None, bounds: str | None = None
    ) -> User:
        """Make a user without keys and teams; raises `Conflict` when another has this name."""

        def insert(session: Session) -> User:
            _check_free(session, name)
            user = User(
                id=new_id("user"), name=name, email=email, allow=written(allow), bounds=bounds, created_at=time.time()
            )
            session.add(user)
            return user

        return await self._database.write(insert)

    async def page(self, *, after: str = "", limit: int | None = None) -> list[User]:
        """Users by name, those after one name."""
        query = select(User).where(User.name > after).order_by(User.name).limit(limit)
        return await self._database.read(lambda session: list(session.exec(query).all()))

    async def find(self, name: str) -> User:
        """The user; raises `NotFound`."""
        return await self._database.read(lambda session: _find(session, name))

    async def change(self, name: str, /, **members: object) -> User:
        """Replace members of a user, `name` among them; raises `NotFound`, or `Conflict` when another has the name.

        From the next request on their keys do what they then may.
        """

        def change(session: Session) -> User:
            user = _find(session, name)
            if members.get("name", user.name) != user.name:
                _check_free(session, str(members["name"]))
            for member, value in members.items():
                setattr(user, member, value)
            session.add(user)
            session.add(Change(kind="key", name=user.id))
            return user

        changed = await self._database.write(change)
        self._keys.forget()
        return changed

    async def delete(self, name: str) -> None:
        """Delete a user with their memberships, and revoke their keys.

        Raises:
            NotFound: there is no such user.
            Conflict: a key of the file is theirs, so the file could not be read again.
        """

        def remove(session: Session) -> None:
            user = _find(session, name)
            theirs = select(ApiKey).where(ApiKey.user_id == user.id, col(ApiKey.revoked_at).is_(None))
            revoke_all(session, session.exec(theirs).all())
            session.exec(delete(Member).where(col(Member.user_id) == user.id))
            session.delete(user)
            session.add(Change(kind="key", name=user.id))

        await self._database.write(remove)
        self._keys.forget()


def _find(session: Session, name: str) -> User:
    user = user_named(session, name)
    if user is None:
        raise NotFound("user", name)
    return user


def _check_free(session: Session, name: str) -> None:
    if session.exec(select(User).where(User.name == name)).first() is not None:
        raise Conflict(f"A user named {name!r} exists.")
