"""`/livez` and `/readyz`: whether the process lives, and whether its own database answers. Never asks upstreams.

Who may administer agents or models sees in `/readyz` too what is known of those that run at several places.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from hub.auth import Authenticator, secret_of
from hub.exchange import Exchange
from registry.access import Grants
from registry.errors import HubError
from registry.identity import NOBODY
from registry.judged import JsonObject, encode
from registry.store.db import Database

READY_WITHIN_S = 2.0


class HealthDoor:
    """Answers orchestrators; needs no key."""

    def __init__(
        self, database: Database, authenticator: Authenticator, known: Mapping[str, Callable[[], JsonObject]]
    ) -> None:
        """`known` says what is known of upstreams, by the `admin` grant that it takes to see it."""
        self._database = database
        self._authenticator = authenticator
        self._known = known

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
        if secret_of(exchange.headers):
            grants = await self._grants(exchange)
            said |= {name: show() for name, show in self._known.items() if grants.allow("admin", name)}
        await exchange.reply(200, encode(said))

    async def _grants(self, exchange: Exchange) -> Grants:
        try:
            principal = await self._authenticator.principal(exchange, "api")
        except HubError:  # readiness is everybody's to see, whatever key they bring
            principal = NOBODY
        return principal.grants
