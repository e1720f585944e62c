"""A session with an MCP server of a revision before 2026-07-28, for one request, with which it ends.

Over Streamable HTTP, or over the two streams of 2024-11-05 ("HTTP with SSE"). All that the server says in it is about that
request, whichever stream it comes by; so what the server asks is for the request's caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from urllib.parse import urljoin, urlsplit

from agents.bridges.mcp_modern import ACCEPT, CAPABILITIES, CLIENT, messages
from agents.bridges.mcp_words import ELICIT
from agents.bridges.way import Way
from registry.entries import Headers
from registry.errors import HubError, UpstreamError, UpstreamInvalid
from registry.judged import JsonObject

NEWEST = "2025-11-25"

LISTEN_S = 2.0
"""How long the stream of what the server says beside its answer may take to open: some servers begin none before they say something."""

LEAVE_S = 5.0
"""How long it may take to tell the server that the session ends."""

_STREAM = ("accept", "text/event-stream")
_NO_METHOD = {"code": -32601, "message": "Method not found"}
"""JSON-RPC 2.0 §5.1."""

_HANDSHAKE, _REQUEST = 1, 2
"""Ids."""


@asynccontextmanager
async def opened(way: Way, url: str, *, is_sse: bool, may_ask: bool) -> AsyncGenerator[Session]:
    """A session, to ask one thing in. `is_sse`: over the streams of 2024-11-05; `may_ask`: what the server asks is given, not refused.

    Raises:
        UpstreamError: there is none to be had.
    """
    session = Session(way, url, is_sse=is_sse, may_ask=may_ask)
    try:
        await session.begin()
        yield session
    finally:  # also of who leaves: the server ends what the session does
        await session.end()


class Session:
    """One session; `opened` makes it."""

    def __init__(self, way: Way, url: str, *, is_sse: bool, may_ask: bool) -> None:
        self._way = way
        self._url = url
        """Where messages are posted."""
        self._is_sse = is_sse
        self._may_ask = may_ask
        self._headers: Headers = ()
        self._said: asyncio.Queue[JsonObject | HubError] = asyncio.Queue(1)
        """What the server says, or why it says nothing more; while nobody takes it, nothing more is read."""
        self._is_listening = asyncio.Event()
        self._has_endpoint = False
        self._readers: list[asyncio.Task[None]] = []
        self._is_under_way = False

    async def begin(self) -> None:
        """Shake hands; raises `UpstreamError`."""
        if self._is_sse:
            self._read(self._listen_for_all)
            await self._is_listening.wait()
            if not self._has_endpoint:
                await self._next()
        # also where nobody is asked: some servers list their tools that ask to none but those who can be
        params: JsonObject = {"protocolVersion": NEWEST, "capabilities": CAPABILITIES, "clientInfo": CLIENT}
        async with aclosing(self._asked(_HANDSHAKE, "initialize", params)) as heard:
            *_, answer = [message async for message in heard]
        result = answer.get("result")
        version = result.get("protocolVersion") if isinstance(result, dict) else None
        if not isinstance(version, str):
            raise UpstreamInvalid(self._way.name, "its handshake is not MCP")
        has_session = bool(self._headers)
        if not self._is_sse:
            self._headers = (*self._headers, ("mcp-protocol-version", version))
        await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        if self._may_ask and has_session:
            self._read(self._listen_beside)
            with suppress(TimeoutError):
                async with asyncio.timeout(LISTEN_S):
                    await self._is_listening.wait()

    async def ask(self, method: str, params: JsonObject, *, progress: str | None = None) -> AsyncGenerator[JsonObject]:
        """Send the request; gives back notifications and questions (`elicitation/create`) as they come, and the response last.

        Raises:
            UpstreamError: it was not answered, or not in MCP.
        """
        meta = {"_meta": {"progressToken": progress}} if progress is not None else {}
        self._is_under_way = True
        async with aclosing(self._asked(_REQUEST, method, {**params, **meta})) as heard:
            async for message in heard:
                yield message
        self._is_under_way = False

    async def answer(self, question: JsonObject, result: JsonObject) -> None:
        """Answer what the server asked; raises `UpstreamError`."""
        await self._post({"jsonrpc": "2.0", "id": question["id"], "result": result})

    async def end(self) -> None:
        """End the session, and at the server what it still does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                if self._is_under_way:
                    with suppress(HubError):
                        gone = {"requestId": _REQUEST, "reason": "its caller left"}
                        await self._post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": gone})
                if not self._is_sse and self._headers:
                    with suppress(HubError):
                        async with self._way.send("DELETE", self._url, headers=self._headers):
                            pass
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _asked(self, request_id: int, method: str, params: JsonObject) -> AsyncGenerator[JsonObject]:
        """Post a request; gives back what is said until it is answered."""
        self._read(partial(self._request, {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}))
        while True:
            message = await self._next()
            yield message
            if message.get("id") == request_id and "method" not in message:
                return

    async def _next(self) -> JsonObject:
        """What the server says; raises why it says nothing more."""
        message = await self._said.get()
        if isinstance(message, HubError):
            raise message
        return message

    def _read(self, stream: Callable[[], Awaitable[None]]) -> None:
        self._readers.append(asyncio.create_task(self._reading(stream)))

    async def _reading(self, stream: Callable[[], Awaitable[None]]) -> None:
        try:
            await stream()
        except HubError as error:
            await self._said.put(error)
        finally:
            self._is_listening.set()

    async def _request(self, body: JsonObject) -> None:
        """Post a request, and hear what the answer has: with 2024-11-05 that comes elsewhere."""
        if not await self._post(body) and not self._is_sse:
            raise UpstreamInvalid(self._way.name, "its answer was cut short")

    async def _post(self, body: JsonObject) -> bool:
        """Post a message, and hear what is answered; returns whether the response to it was there."""
        is_answered = False
        async with self._way.send("POST", self._url, body, headers=(ACCEPT, *self._headers)) as incoming:
            session = incoming.header(b"mcp-session-id")
            if session and not self._headers and not self._is_sse:
                self._headers = (("mcp-session-id", session),)
            if not self._is_sse and "id" in body and "method" in body:
                async with aclosing(messages(self._way, incoming)) as found:
                    async for message in found:
                        is_answered = is_answered or ("method" not in message and message.get("id") == body.get("id"))
                        await self._hear(message)
        return is_answered

    async def _listen_beside(self) -> None:
        """Hear what the server says beside its answer, if it has a stream for that."""
        with suppress(UpstreamError):
            async with self._way.send("GET", self._url, headers=(_STREAM, *self._headers)) as incoming:
                self._is_listening.set()
                async with aclosing(messages(self._way, incoming)) as found:
                    async for message in found:
                        await self._hear(message)

    async def _listen_for_all(self) -> None:
        """Hear all that a server of 2024-11-05 says; the first is where messages are to be posted."""
        async with aclosing(self._way.events("GET", self._url)) as events:
            async for event in events:
                if not self._has_endpoint:
                    if event.name != "endpoint":
                        raise UpstreamInvalid(self._way.name, "its stream does not begin as those of MCP do")
                    self._url = self._endpoint(event.data)
                    self._has_endpoint = True
                    self._is_listening.set()
                elif isinstance(message := self._way.read(event.data), dict):
                    await self._hear(message)
        raise UpstreamInvalid(self._way.name, "its answer was cut short")

    def _endpoint(self, said: bytes) -> str:
        """Where messages are posted: at the same origin, since they carry the agent's credentials."""
        found = urljoin(self._url, said.decode(errors="replace"))
        if urlsplit(found)[:2] != urlsplit(self._url)[:2]:
            raise UpstreamInvalid(self._way.name, "it wants its messages at another origin")
        return found

    async def _hear(self, message: JsonObject) -> None:
        """Take what the server says; what it asks, and nobody here is asked, is answered at once."""
        method, name = message.get("method"), message.get("id")
        if method is None or name is None or (method == ELICIT and self._may_ask):
            await self._said.put(message)
            return
        answer: JsonObject = {"result": {}} if method == "ping" else {"error": _NO_METHOD}
        with suppress(UpstreamError):
            await self._post({"jsonrpc": "2.0", "id": name, **answer})
