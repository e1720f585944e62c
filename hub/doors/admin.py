"""`/api`, `/docs`: hands the request to the FastAPI application, which is built when somebody first asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from hub.exchange import Exchange, Receive, Send
from hub.services import Services
from registry.errors import TooLarge

AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 1024 * 1024
"""Entries and keys are small, and the application parses a body before it asks whether the caller may send one."""

OPEN_PATHS = frozenset({"/docs", "/openapi.json"})
"""The API's description says nothing of what is registered here."""


class AdminDoor:
    """The door of the admin API."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._app: AsgiApp | None = None
        self._building = asyncio.Lock()

    @staticmethod
    def is_open(exchange: Exchange) -> bool:
        """Whether the request needs no key."""
        return exchange.method == "GET" and exchange.path in OPEN_PATHS

    async def __call__(self, exchange: Exchange) -> None:
        """Serve one request of the API."""
        app = self._app or await self._built()
        if exchange.method in {"POST", "PATCH", "PUT"}:
            body = await exchange.body()  # bounded here; the application gets it replayed
            if len(body) > MAX_BODY_BYTES:
                raise TooLarge(MAX_BODY_BYTES)
        scope, receive, send = exchange.asgi()

        await app({**scope, "principal": exchange.principal, "request_id": exchange.request_id}, receive, send)

    async def _built(self) -> AsgiApp:
        async with self._building:
            if self._app is None:
                self._app = await asyncio.to_thread(_build, self._services)
            return self._app


def _build(services: Services) -> AsgiApp:
    from hub.api.app import api  # noqa: PLC0415  # FastAPI takes half a second to import: not at start-up

    return api(services)
