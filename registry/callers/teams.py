"""Teams: as every level, with the users that are in them."""

from __future__ import annotations

import time
from typing import NamedTuple, cast

from sqlmodel import Session, col, select

from registry.callers.keys import Keys
from registry.callers.level_table import LevelTable, find
from registry.callers.levels import written
from registry.callers.sessions import end_all
from registry.errors import NotFound
from registry.identity import Role
from registry.sealed.secrets import new_id
from registry.store.db import Database
from registry.store.tables.callers import Member, Team, User
from registry.store.tables.hub import Change


class TeamMember(NamedTuple):
    """A user in a team."""

    user: User
    role: Role


class Teams(LevelTable[Team]):
    """All teams of the hub. Each is named by its alias or its id."""

    def __init__(self, database: Database, keys: Keys) -> None:
        super().__init__(Team, database, keys)

    async def create(self, alias: str, *, allow: tuple[str, ...] | None = None, bounds: str | None = None) -> Team:
        """Make a team without keys; raises `Conflict` when another has this alias."""
        made = Team(id=new_id("team"), alias=alias, allow=written(allow), bounds=bounds, created_at=time.time())
        return await self._insert(made)

    async def members(self, name: str, *, after: str = "", limit: int | None = None) -> list[TeamMember]:
        """Who is in a team, by name; raises `NotFound`."""

        def read(session: Session) -> list[TeamMember]:
            team = find(session, Team, name)
            query = select(User, Member.role).join(Member, col(Member.user_id) == User.id)
            query = query.where(Member.team_id == team.id, User.name > after).order_by(User.name).limit(limit)
            return [TeamMember(user, cast("Role", role)) for user, role in session.exec(query).all()]

        return await self._database.read(read)

    async def put_member(self, name: str, user_name: str, role: Role) -> TeamMember:
        """Put a user into a team, or give them another role in it; raises `NotFound`."""

        def put(session: Session) -> TeamMember:
            team, user = find(session, Team, name), find(session, User, user_name)
            member = session.get(Member, (team.id, user.id))
            if member is None:
                member = Member(team_id=team.id, user_id=user.id, role=role, created_at=time.time())
            elif member.role != role:
                end_all(session, [user.id])
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
            team, user = find(session, Team, name), find(session, User, user_name)
            member = session.get(Member, (team.id, user.id))
            if member is None:
                raise NotFound("user", user_name)
            session.delete(member)
            end_all(session, [user.id])
            session.add(Change(kind="key", name=user.id))

        await self._database.write(remove)
        self._keys.forget()
