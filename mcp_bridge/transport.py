"""HTTP for the SDK over the one way out: an httpx2 transport that sends through `registry.egress`.

A request of a call carries its permit's number in an internal header, popped here; the connection's own traffic
(handshake, event stream, end of session) goes under the connection's permit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import Any

import httpx2

from registry.egress.http import Incoming, OpenPermit, Outgoing, Sender
from registry.entries import Server
from registry.errors import HubError, UpstreamLimited, UpstreamRefused
from registry.judged import encode

Sending = AbstractAsyncContextManager[Incoming]

PERMIT = "x-hubbub-permit"
_OWN = frozenset({"host", "content-length", "connection", "accept-encoding", "user-agent", PERMIT})
"""Headers that the way out writes itself."""
_BODY_FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})


class EgressTransport(httpx2.AsyncBaseTransport):
    """The way out of one connection to one server."""

    def __init__(self, egress: Sender, server: Server, permit: OpenPermit, deaf: Callable[[], None]) -> None:
        """`deaf` is called when the stream of what the server says unasked has broken."""
        self._egress = egress
        self._server = server
        self._permit = permit
        self._deaf = deaf
        self._calls: dict[str, OpenPermit] = {}
        self._failures: dict[str, HubError] = {}
        self._numbers = count()
        self.failure: HubError | None = None
        """Why the connection's own traffic failed last."""
        self.session_lost = False
        """The server does not know the session any more: what was asked in it was not executed."""
        self.refused_post = False
        """The server refused the handshake's POST as one that knows the transport of 2024-11-05 only does."""

    def enlist(self, permit: OpenPermit) -> str:
        """Take a call's permit and return the value of its `PERMIT` header."""
        number = str(next(self._numbers))
        self._calls[number] = permit
        return number

    def dismiss(self, number: str) -> HubError | None:
        """Forget a call; returns why it failed on the way, if it did."""
        del self._calls[number]
        return self._failures.pop(number, None)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request of the SDK; a failure becomes an answer, so that it ends its own call and not the connection."""
        number = request.headers.get(PERMIT, "")
        body = await request.aread()
        outgoing = Outgoing(
            url=str(request.url),
            method=request.method,
            headers=self._headers(request),
            body=body or None,
            trusted=self._server.trusted,
        )
        call = self._egress.send(self._calls.get(number, self._permit), outgoing)
        try:
            incoming = await call.__aenter__()
        except HubError as error:
            if request.method == "GET":
                self._deaf()
            return self._failed(number, error)
        try:
            return await self._response(number, call, incoming, request)
        except HubError as error:
            await call.__aexit__(None, None, None)
            return self._failed(number, error)
        except BaseException:
            await call.__aexit__(None, None, None)
            raise

    def _headers(self, request: httpx2.Request) -> tuple[tuple[str, str], ...]:
        configured = {name.lower() for name, _ in self._server.headers}
        asked = [(name, value) for name, value in request.headers.items() if name not in _OWN | configured]
        return (*asked, *self._server.headers)

    async def _response(
        self, number: str, call: Sending, incoming: Incoming, request: httpx2.Request
    ) -> httpx2.Response:
        entry, in_session = self._permit.entry_name, "mcp-session-id" in request.headers
        if incoming.status in {401, 403}:
            raise UpstreamRefused(entry, incoming.status)
        if incoming.status == 429:
            raise UpstreamLimited(entry, incoming.header(b"retry-after"))
        if incoming.status == 404 and in_session:
            self.session_lost = True
            self._deaf()
        if incoming.status in {400, 404, 405} and not in_session:
            self.refused_post = True
        headers = [(name, value) for name, value in incoming.headers if name.lower() not in _BODY_FRAMING]
        if incoming.media_type == "text/event-stream":
            cut = self._deaf if request.method == "GET" else _nothing
            ended = cut if self._server.is_sse else _nothing  # over Streamable HTTP, another follows
            return httpx2.Response(
                incoming.status, headers=headers, stream=_Stream(call, incoming, cut=cut, ended=ended)
            )
        content = await incoming.read()
        await call.__aexit__(None, None, None)
        return httpx2.Response(incoming.status, headers=headers, content=content)

    def _failed(self, number: str, error: HubError) -> httpx2.Response:
        if number in self._calls:
            self._failures[number] = error
        else:
            self.failure = error
        fault: dict[str, Any] = {"code": -32603, "message": error.text}
        content = encode({"jsonrpc": "2.0", "id": None, "error": fault})
        return httpx2.Response(502, headers=[("content-type", "application/json")], content=content)


class _Stream(httpx2.AsyncByteStream):
    """An event stream whose egress call ends with it."""

    def __init__(
        self, call: Sending, incoming: Incoming, *, cut: Callable[[], None], ended: Callable[[], None]
    ) -> None:
        """`cut` is called when it breaks, `ended` when it is whole."""
        self._call: Sending | None = call
        self._incoming = incoming
        self._cut = cut
        self._ended = ended

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._incoming.chunks():
                yield chunk
        except HubError as error:
            self._cut()
            raise httpx2.ReadError(error.text) from None
        self._ended()

    async def aclose(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            await call.__aexit__(None, None, None)


def _nothing() -> None:
    """Such an end concerns nobody else."""
