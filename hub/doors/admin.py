"""`/api`, `/docs`: hands the request to the FastAPI application, which is built when somebody first asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from hub.exchange import Exchange, Receive, Send
from hub.services import Services
from registry import judged
from registry.auditing.audit import Audit
from registry.errors import ParseFailed, TooLarge
from registry.identity import NOBODY

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

        if exchange.principal is not NOBODY:
            exchange.add_header(b"cache-control", b"no-store")  # some answers hold secrets, all are of a moment
            if exchange.method not in {"GET", "HEAD"}:
                send = _audited(exchange, send, self._services.audit)
        await app({**scope, "principal": exchange.principal, "request_id": exchange.request_id}, receive, send)

    async def _built(self) -> AsgiApp:
        async with self._building:
            if self._app is None:
                self._app = await asyncio.to_thread(_build, self._services)
            return self._app


def _audited(exchange: Exchange, send: Send, audit: Audit) -> Send:
    """Have the answer wait until what was done is in the audit log, with the names of what was said; values may be secret."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status = int(message["status"])
            await audit.act(
                exchange.principal,
                exchange.method,
                exchange.path,
                outcome=str(status),
                detail=_members(await exchange.body()),
                request_id=exchange.request_id,
            )
        await send(message)

    return sending


def _members(body: bytes) -> str:
    """The names of a body's members, and what they call it."""
    try:
        said = judged.decode(body) if body else None
    except ParseFailed:
        return "not JSON"
    if not isinstance(said, dict):
        return ""
    name = said.get("name") or said.get("alias")
    return ", ".join([*([f"name {name[:64]}"] if isinstance(name, str) else []), *sorted(said)])[:300]


def _build(services: Services) -> AsgiApp:
    from hub.api.app import api  # noqa: PLC0415  # FastAPI takes half a second to import: not at start-up

    return api(services)
