"""What one connection's server says beside its answers, and who hears it.

On a connection of one caller, everything between a call's request and its answer is about that call. On a shared one
only progress can be told apart, by a token of the hub's own; all else is heard by nobody, and nothing can be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import msgspec

from mcp_bridge.listener import ASK_S, NOT_ASKED, Listener, Unanswered, question
from mcp_bridge.wire import META_LOG_LEVEL, Request, notification_message
from registry.entries import Server
from registry.judged import JsonObject, decode

MAX_UNHEARD = 256
"""Notifications that wait for a slow listener; more are dropped: none of them is owed to anybody."""

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
_ABOUT_CALL = frozenset({"notifications/message", "notifications/elicitation/complete"})


class Hearing:
    """One call under way."""

    def __init__(self, request: Request, listener: Listener, number: int) -> None:
        self.listener = listener
        self.number = number
        """The progress token that the server is given; unique on its connection."""
        self.token = request.meta.get("progressToken")
        level = request.meta.get(META_LOG_LEVEL)
        self.level = decode(level) if level is not None else None
        self._unheard: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_UNHEARD)

    def put(self, method: str, params: JsonObject) -> None:
        """Have a notification told, in the order it came."""
        with contextlib.suppress(asyncio.QueueFull):
            self._unheard.put_nowait(notification_message(method, params))

    def logs(self, params: JsonObject) -> bool:
        """Whether the caller wants this log message: a modern one asks for a level, an older one for less if at all."""
        if self.level not in LEVELS:
            return self.listener.front is not None
        said = params.get("level")
        return said in LEVELS and LEVELS.index(said) >= LEVELS.index(self.level)

    async def tell(self) -> None:
        """Tell the listener until `end`."""
        while (message := await self._unheard.get()) is not None:
            await self.listener.notified(message)

    async def end(self) -> None:
        """Have nothing more told than what came."""
        await self._unheard.put(None)


class Ears:
    """The hearings of one connection."""

    def __init__(self, server: Server, capabilities: msgspec.Raw | None) -> None:
        """`capabilities`: what the one caller of this connection declared; None: it is shared."""
        self._server = server
        self._capabilities = capabilities
        self._numbers = count(1)
        self._hearings: dict[int, Hearing] = {}

    @property
    def is_shared(self) -> bool:
        """Whether calls of several callers are under way here."""
        return self._capabilities is None

    @asynccontextmanager
    async def hearing(self, request: Request, listener: Listener) -> AsyncIterator[Hearing]:
        """Have `listener` hear what concerns its call; what came before the block ended is told before it is left."""
        hearing = Hearing(request, listener, next(self._numbers))
        self._hearings[hearing.number] = hearing
        telling = asyncio.create_task(hearing.tell())
        try:
            try:
                yield hearing
            finally:
                del self._hearings[hearing.number]
            await hearing.end()
            await telling
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling

    def heard(self, method: str, params: JsonObject) -> None:
        """Take a notification of the server's, in the order they come."""
        if method == "notifications/progress":
            token = params.get("progressToken")
            hearing = self._hearings.get(token) if isinstance(token, int) else None
            if hearing is not None and hearing.token is not None:
                hearing.put(method, {**params, "progressToken": hearing.token})
        elif method in _ABOUT_CALL and not self.is_shared and self._hearings:
            hearing = self._newest()
            if method != "notifications/message" or hearing.logs(params):
                hearing.put(method, params)

    async def asked(self, method: str, params: JsonObject) -> JsonObject:
        """Answer a request of the server's; raises `Unanswered`."""
        if self._capabilities is None or method not in ASK_S:
            raise Unanswered(NOT_ASKED, f"{method[:80]} is not offered here")
        asked = question(self._server, bytes(self._capabilities), method, params)
        if not self._hearings:
            raise Unanswered(NOT_ASKED, "no call is under way whose caller could be asked")
        return await self._newest().listener.asked(method, asked)

    def _newest(self) -> Hearing:
        return self._hearings[max(self._hearings)]


def with_token(params: JsonObject, hearing: Hearing) -> JsonObject:
    """The params of a call whose progress is wanted."""
    if hearing.token is None:
        return params
    meta: Any = params.get("_meta") or {}
    return {**params, "_meta": {**meta, "progressToken": hearing.number}}


def is_heard(request: Request, listener: Listener | None, ears: Ears) -> bool:
    """Whether anything that the server may say during a call has somebody to hear it."""
    return listener is not None and (not ears.is_shared or "progressToken" in request.meta)
