"""The exchange over ASGI: the only module that knows ASGI's messages. Built for one request and thrown away with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from hub.exchange import AsgiCall, ClientGone, Header, Receive, Send
from registry.deadline import Deadline
from registry.errors import BodyStalled, MediaTypeRefused, TooLarge
from registry.identity import NOBODY, Principal

BODY_STALL_S = 30.0
"""How long the next piece of a body may take."""

WATCH_AFTER_S = 0.02
"""Short answers are not watched for a leaving client: most end before this, and watching costs a task."""

KEEP_ALIVE = b": keep-alive\n\n"
_BLANK_LINES = (b"\n\n", b"\r\n\r\n")
_CLOSED_STREAM = (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an exchange bears."""

    body_bytes: int = 32 * 1024 * 1024
    header_bytes: int = 64 * 1024
    keep_alive_s: float = 15.0
    stream_idle_s: float = 3600.0


class AsgiExchange:
    """One HTTP request over ASGI. Fits `hub.exchange.Exchange`."""

    __slots__ = (
        "_body",
        "_finished",
        "_last_chunk",
        "_limits",
        "_receive",
        "_scope",
        "_send",
        "_ticker",
        "_written_at",
        "extra",
        "headers",
        "method",
        "path",
        "principal",
        "query",
        "raw_headers",
        "request_id",
        "started",
    )

    def __init__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, *, limits: Limits, request_id: str
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limits = limits
        self._body: bytes | None = None
        self._finished = False
        self._last_chunk = b"\n\n"
        self._written_at = 0.0
        self._ticker: asyncio.TimerHandle | None = None
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.raw_headers: Sequence[Header] = scope["headers"]
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"][::-1])
        self.request_id = request_id
        self.principal: Principal = NOBODY
        self.extra: list[Header] = [(b"x-request-id", request_id.encode())]
        """Headers of every answer to this request."""
        self.started = False

    async def body(self) -> bytes:
        """As `Exchange.body`."""
        if self._body is None:
            media_type = self.headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
            if media_type != b"application/json" and not media_type.endswith(b"+json"):
                raise MediaTypeRefused
            if int(self.headers.get(b"content-length") or 0) > self._limits.body_bytes:
                raise TooLarge(self._limits.body_bytes)
            self._body = await self._read()
        return self._body

    async def _read(self) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            with Deadline(BODY_STALL_S) as deadline:
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunk: bytes = message.get("body", b"")
                    if not message.get("more_body"):
                        return b"".join([*chunks, chunk]) if chunks else chunk
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > self._limits.body_bytes:
                        raise TooLarge(self._limits.body_bytes)
                    deadline.extend()
        except TimeoutError:
            raise BodyStalled from None

    async def reply(
        self, status: int, body: bytes, *, media_type: bytes = b"application/json", headers: Sequence[Header] = ()
    ) -> None:
        """As `Exchange.reply`."""
        self.started = self._finished = True
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", media_type),
                    (b"content-length", b"%d" % len(body)),
                    *self.extra,
                    *headers,
                ],
            }
        )
        await self._send({"type": "http.response.body", "body": body})

    async def start(
        self, status: int, *, media_type: bytes = b"text/event-stream", headers: Sequence[Header] = ()
    ) -> None:
        """As `Exchange.start`."""
        self.started = True
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", media_type), *_CLOSED_STREAM, *self.extra, *headers],
            }
        )
        if media_type == b"text/event-stream":
            loop = asyncio.get_running_loop()
            self._written_at = loop.time()
            self._ticker = loop.call_later(self._limits.keep_alive_s, self._tick, loop, asyncio.current_task(loop))

    async def write(self, chunk: bytes) -> None:
        """As `Exchange.write`."""
        self._written_at = -1.0  # until the client has taken the chunk
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._last_chunk = chunk
        self._written_at = asyncio.get_running_loop().time()

    def _tick(self, loop: asyncio.AbstractEventLoop, door: asyncio.Task[object] | None, stalled: int = 0) -> None:
        """Once per keep-alive time: comment on silence between events; end a client that stopped reading for too long."""
        period = self._limits.keep_alive_s
        stalled = stalled + 1 if self._written_at < 0 else 0
        if door is not None and stalled * period > self._limits.stream_idle_s:
            door.cancel()
            return
        if not stalled and loop.time() - self._written_at >= period and self._last_chunk.endswith(_BLANK_LINES):
            comment = loop.create_task(self.write(KEEP_ALIVE))
            comment.add_done_callback(_ignore)
        self._ticker = loop.call_later(period, self._tick, loop, door, stalled)

    async def finish(self) -> None:
        """End a stream that the door left open, cleanly. The application calls it after the door."""
        self.stop()
        if self.started and not self._finished:
            self._finished = True
            await self._send({"type": "http.response.body", "body": b""})

    def stop(self) -> None:
        """Stop the keep-alive comments."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def until_gone(self) -> _UntilGone:
        """As `Exchange.until_gone`."""
        return _UntilGone(self._receive)

    def asgi(self) -> AsgiCall:
        """As `Exchange.asgi`."""
        body = self._body

        async def receive() -> MutableMapping[str, Any]:
            nonlocal body
            if body is None:
                return await self._receive()
            replayed, body = body, None
            return {"type": "http.request", "body": replayed, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.started = self._finished = True  # the application ends its own answer
                message["headers"] = [*message.get("headers", ()), *self.extra]
            await self._send(message)

        return self._scope, receive, send


def _ignore(comment: asyncio.Task[None]) -> None:
    """A comment that could not be sent tells nothing: the stream's own writes will."""
    if not comment.cancelled():
        comment.exception()


class _UntilGone:
    """Cancels the task that entered it when the client leaves."""

    __slots__ = ("_gone", "_receive", "_start", "_task", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False
        self._watcher: asyncio.Task[None] | None = None
        self._task: asyncio.Task[object] | None = None
        self._start: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._start = loop.call_later(WATCH_AFTER_S, self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watcher = loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if self._task is not None:
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._start is not None:
            self._start.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        # our own cancel is taken back; one that the server asked for meanwhile stays
        if self._gone and self._task is not None and self._task.uncancel() == 0:
            raise ClientGone from error
