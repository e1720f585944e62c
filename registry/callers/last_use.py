"""When keys were used last: noted in memory, written in batches off the path, at most once a minute for each key."""

from __future__ import annotations

import asyncio
import sqlite3
import time

from registry.store.db import Database

FLUSH_S = 1.0
"""How long a use may wait to be written."""

ONCE_IN_S = 60.0
"""A key's further uses within this time are not written."""

_UPDATE = "UPDATE api_keys SET last_used_at = max(ifnull(last_used_at, 0), ?) WHERE id = ?"


class LastUse:
    """Takes the ids of keys as they are used."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: set[str] = set()
        """Keys whose use was noted in this minute. Bounded by the keys that exist: only valid ones are noted."""
        self._waiting: list[tuple[float, str]] = []

    def note(self, key_id: str) -> None:
        """Take one use; never waits."""
        if key_id not in self._noted:
            self._noted.add(key_id)
            self._waiting.append((time.time(), key_id))

    async def run(self) -> None:
        """Write what was noted, until cancelled; then the rest."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + ONCE_IN_S
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                self.flush()
                if loop.time() >= ends:
                    ends = loop.time() + ONCE_IN_S
                    self._noted.clear()
        finally:
            self.flush()

    def flush(self) -> None:
        """Hand over what waits."""
        uses, self._waiting = self._waiting, []
        for use in uses:
            self._database.append_later(_write_all, use)


def _write_all(connection: sqlite3.Connection, uses: list[tuple[float, str]]) -> list[None]:
    connection.executemany(_UPDATE, uses)
    return [None] * len(uses)
