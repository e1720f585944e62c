"""An exchange as an ASGI call, for the applications of SDKs (older MCP sessions, FastAPI). The only module that knows ASGI."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

from hub.exchange import AsgiCall, Header


class Served(Protocol):
    """What is asked of an exchange here."""

    method: str
    path: str
    target: bytes
    query: bytes
    raw_headers: Any
    started: bool

    async def any_body(self) -> bytes:
        """The whole body."""

    async def until_left(self) -> None:
        """Wait until the client has left."""

    async def reply(self, status: int, body: bytes, *, media_type: bytes, headers: list[Header]) -> None:
        """Answer whole."""

    def begin(self, status: int, media_type: bytes, headers: list[Header]) -> None:
        """Begin a stream."""

    async def write(self, chunk: bytes) -> None:
        """Send a piece of it."""

    def finish(self) -> None:
        """End it."""


def asgi_call(exchange: Served, peer: tuple[str, int] | None) -> AsgiCall:
    """Build `scope`, `receive` and `send` (ASGI 3, HTTP); the body was read, or is read on the first `receive`."""
    scope: MutableMapping[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": exchange.method,
        "scheme": "http",
        "path": exchange.path,
        "raw_path": exchange.target.partition(b"?")[0],
        "query_string": exchange.query,
        "root_path": "",
        "headers": list(exchange.raw_headers),
        "client": peer,
        "server": None,
        "state": {},
    }
    answer = _Answer(exchange)
    return scope, answer.receive, answer.send


class _Answer:
    """The two channels of one call."""

    def __init__(self, exchange: Served) -> None:
        self._exchange = exchange
        self._body_given = False
        self._status = 200
        self._media_type = b"application/octet-stream"
        self._headers: list[Header] = []

    async def receive(self) -> MutableMapping[str, Any]:
        if self._body_given:
            await self._exchange.until_left()
            return {"type": "http.disconnect"}
        self._body_given = True
        return {"type": "http.request", "body": await self._exchange.any_body(), "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            given = [(name.lower(), value) for name, value in message.get("headers", ())]
            self._media_type = next((value for name, value in given if name == b"content-type"), self._media_type)
            ours = {b"content-type", b"content-length", b"transfer-encoding", b"date", b"x-request-id"}
            self._headers = [(name, value) for name, value in given if name not in ours]
            if self._media_type.startswith(b"text/event-stream"):  # its first event may be long in coming
                self._exchange.begin(self._status, self._media_type, self._headers)
            return
        chunk, more = message.get("body", b""), message.get("more_body", False)
        if not self._exchange.started:
            if not more:
                await self._exchange.reply(self._status, chunk, media_type=self._media_type, headers=self._headers)
                return
            self._exchange.begin(self._status, self._media_type, self._headers)
        if chunk:
            await self._exchange.write(chunk)
        if not more:
            self._exchange.finish()
