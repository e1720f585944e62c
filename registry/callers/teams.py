"""Teams of keys and users: made, listed, changed, deleted. What belongs to a team holds its id; the alias is read from its row.

Nothing caches an alias, so a new one holds everywhere with the commit that writes it (architecture.md 3.4).
"""

from __future__ import annotations

import time
from typing import NamedTuple, cast

from sqlmodel import Session, col, delete, select

from registry.callers.keys import Keys, revoke_all, team_named, user_named
from registry.callers.levels import written
from registry.errors import Conflict, NotFound
from registry.identity import Role
from registry.sealed.secrets import new_id
from registry.store.db import Database
from registry.store.tables.callers import ApiKey, Member, Team, User
from registry.store.tables.hub import Change


class TeamMember(NamedTuple):
    """A user in a team."""

    user: User
    role: Role


class Teams:
    """All teams of the hub. Each is named by its alias or its id."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    async def create(self, alias: str, *, allow: tuple[str, ...] | None = None, bounds: str | None = None) -> Team:
        """Make a team without keys; raises `Conflict` when another has this alias."""

        def insert(session: Session) -> Team:
            _check_free(session, alias)
            team = Team(id=new_id("team"), alias=alias, allow=written(allow), bounds=bounds, created_at=time.time())
            session.add(team)
            return team

        return await self._database.write(insert)

    async def page(self, *, after: str = "", limit: int | None = None) -> list[Team]:
        """Teams by alias, those after one alias."""
        query = select(Team).where(Team.alias > after).order_by(Team.alias).limit(limit)
        return await self._database.read(lambda session: list(session.exec(query).all()))

    async def find(self, name: str) -> Team:
        """The team; raises `NotFound`."""
        return await self._database.read(lambda session: _find(session, name))

    async def change(self, name: str, /, **members: object) -> Team:
        """Replace members of a team, its alias among them; raises `NotFound`, or `Conflict` when another has the alias.

        From the next request on its keys do what they then may.
        """

        def change(session: Session) -> Team:
            team = _find(session, name)
            if members.get("alias", team.alias) != team.alias:
                _check_free(session, str(members["alias"]))
            for member, value in members.items():
                setattr(team, member, value)
            session.add(team)
            session.add(Change(kind="key", name=team.id))
            return team

        changed = await self._database.write(change)
        self._keys.forget()
        return changed

    async def delete(self, name: str) -> None:
        """Delete a team with its memberships, and revoke its keys: without it, nothing would bound them.

        Raises:
            NotFound: there is no such team.
            Conflict: a key of the file is in it, so the file could not be read again.
        """

        def remove(session: Session) -> None:
            team = _find(session, name)
            its = select(ApiKey).where(ApiKey.team_id == team.id, col(ApiKey.revoked_at).is_(None))
            revoke_all(session, session.exec(its).all())
            session.exec(delete(Member).where(col(Member.team_id) == team.id))
            session.delete(team)
            session.add(Change(kind="key", name=team.id))

        await self._database.write(remove)
        self._keys.forget()

    async def members(self, name: str, *, after: str = "", limit: int | None = None) -> list[TeamMember]:
        """Who is in a team, by name; raises `NotFound`."""

        def read(session: Session) -> list[TeamMember]:
            team = _find(session, name)
            query = select(User, Member.role).join(Member, col(Member.user_id) == User.id)
            query = query.where(Member.team_id == team.id, User.name > after).order_by(User.name).limit(limit)
            return [TeamMember(user, cast("Role", role)) for user, role in session.exec(query).all()]

        return await self._database.read(read)

    async def put_member(self, name: str, user_name: str, role: Role) -> TeamMember:
        """Put a user into a team, or give them another role in it; raises `NotFound`."""

        def put(session: Session) -> TeamMember:
            team, user = _find(session, name), _found_user(session, user_name)
            member = session.get(Member, (team.id, user.id))
            if member is None:
                member = Member(team_id=team.id, user_id=user.id, role=role, created_at=time.time())
            member.role = role
            session.add(member)
            session.add(Change(kind="key", name=user.id))
            return TeamMember(user, role)

        found = await self._database.write(put)
        self._keys.forget()
        return found

    async def remove_member(self, name: str, user_name: str) -> None:
        """Take a user out of a team: the keys that they have in it are refused as long as they are; raises `NotFound`."""

        def remove(session: Session) -> None:
            team, user = _find(session, name), _found_user(session, user_name)
            member = session.get(Member, (team.id, user.id))
            if member is None:
                raise NotFound("user", user_name)
            session.delete(member)
            session.add(Change(kind="key", name=user.id))

        await self._database.write(remove)
        self._keys.forget()


def _find(session: Session, name: str) -> Team:
    team = team_named(session, name)
    if team is None:
        raise NotFound("team", name)
    return team


def _found_user(session: Session, name: str) -> User:
    user = user_named(session, name)
    if user is None:
        raise NotFound("user", name)
    return user


def _check_free(session: Session, alias: str) -> None:
    if session.exec(select(Team).where(Team.alias == alias)).first() is not None:
        raise Conflict(f"A team named {alias!r} exists.")
