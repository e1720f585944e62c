"""`/livez` and `/readyz`: whether the process lives, and whether its own database answers. Never asks upstreams.

Who may administer agents sees in `/readyz` too what is known of those with several instances.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hub.auth import Authenticator, secret_of
from hub.exchange import Exchange
from registry.db import Database
from registry.errors import HubError
from registry.judged import JsonObject, encode

READY_WITHIN_S = 2.0


class HealthDoor:
    """Answers orchestrators; needs no key."""

    def __init__(self, database: Database, authenticator: Authenticator, agents: Callable[[], JsonObject]) -> None:
        """`agents` says what is known of the agents' instances."""
        self._database = database
        self._authenticator = authenticator
        self._agents = agents

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
        said: JsonObject = {"status": "ok"}
        if secret_of(exchange.headers) and await self._is_admin(exchange):
            said["agents"] = self._agents()
        await exchange.reply(200, encode(said))

    async def _is_admin(self, exchange: Exchange) -> bool:
        try:
            principal = await self._authenticator.principal(exchange.headers)
        except HubError:  # readiness is everybody's to see, whatever key they bring
            return False
        return principal.grants.allow("admin", "agents")
