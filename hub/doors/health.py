"""`/livez` and `/readyz`: whether the process lives, and whether its own database answers. Never asks upstreams."""

from __future__ import annotations

import asyncio

from hub.exchange import Exchange
from registry.db import Database

READY_WITHIN_S = 2.0


class HealthDoor:
    """Answers orchestrators; needs no key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def live(self, exchange: Exchange) -> None:
        """The event loop turns."""
        await exchange.reply(200, b'{"status":"ok"}')

    async def ready(self, exchange: Exchange) -> None:
        """The database can be read: keys can be checked."""
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await self._database.ping()
        except Exception:  # noqa: BLE001  # whatever the database's trouble is, the answer is: not ready
            await exchange.reply(503, b'{"status":"the database does not answer"}')
            return
        await exchange.reply(200, b'{"status":"ok"}')
