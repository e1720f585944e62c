"""Teams of keys: made, listed, renamed, deleted. What belongs to a team holds its id; the alias is read from its row.

Nothing caches an alias, so a new one holds everywhere with the commit that writes it (architecture.md 3.4).
"""

from __future__ import annotations

import time

from sqlmodel import Session, select

from registry.db import Database
from registry.errors import Conflict, NotFound
from registry.keys import Keys, team_named
from registry.models import ApiKey, Change, Team
from registry.secrets import new_id


class Teams:
    """All teams of the hub. Each is named by its alias or its id."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    async def create(self, alias: str) -> Team:
        """Make a team without keys; raises `Conflict` when another has this alias."""

        def insert(session: Session) -> Team:
            _check_free(session, alias)
            team = Team(id=new_id("team"), alias=alias, created_at=time.time())
            session.add(team)
            return team

        return await self._database.write(insert)

    async def all(self) -> list[Team]:
        """All teams by alias."""
        return await self._database.read(lambda session: list(session.exec(select(Team).order_by(Team.alias)).all()))

    async def find(self, name: str) -> Team:
        """The team; raises `NotFound`."""
        return await self._database.read(lambda session: _find(session, name))

    async def rename(self, name: str, alias: str) -> Team:
        """Give a team another alias; raises `NotFound`, or `Conflict` when another team has it."""

        def change(session: Session) -> Team:
            team = _find(session, name)
            if team.alias != alias:
                _check_free(session, alias)
                team.alias = alias
                session.add(team)
            return team

        return await self._database.write(change)

    async def delete(self, name: str) -> None:
        """Delete a team. Its keys stay, each with what it made itself.

        Raises:
            NotFound: there is no such team.
            Conflict: a key of the file is in it, so the file could not be read again.
        """

        def remove(session: Session) -> None:
            team = _find(session, name)
            for key in session.exec(select(ApiKey).where(ApiKey.team_id == team.id)).all():
                if key.owner == "file" and key.revoked_at is None:
                    raise Conflict(f"The file puts the key {key.name!r} into this team; change it there first.")
                key.team_id = None
                session.add(key)
            session.delete(team)
            session.add(Change(kind="key", name=team.id))

        await self._database.write(remove)
        self._keys.forget()


def _find(session: Session, name: str) -> Team:
    team = team_named(session, name)
    if team is None:
        raise NotFound("team", name)
    return team


def _check_free(session: Session, alias: str) -> None:
    if session.exec(select(Team).where(Team.alias == alias)).first() is not None:
        raise Conflict(f"A team named {alias!r} exists.")
