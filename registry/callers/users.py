"""Users: as every level, with an email address, and disabled and enabled."""

from __future__ import annotations

import time

from registry.callers.keys import Keys
from registry.callers.level_table import LevelTable
from registry.callers.levels import written
from registry.sealed.secrets import new_id
from registry.store.db import Database
from registry.store.tables.callers import User


class Users(LevelTable[User]):
    """All users of the hub. Each is named by name or id."""

    def __init__(self, database: Database, keys: Keys) -> None:
        super().__init__(User, database, keys)

    async def create(
        self, name: str, *, email: str | None = None, allow: tuple[str, ...] | None = None, bounds: str | None = None
    ) -> User:
        """Make a user without keys and teams; raises `Conflict` when another has this name."""
        made = User(
            id=new_id("user"), name=name, email=email, allow=written(allow), bounds=bounds, created_at=time.time()
        )
        return await self._insert(made)
