"""The exchange over HTTP/1.1: reads one request's body, writes one answer. Knows nothing of parsing or of connections' lives.

`hub/http11.py` makes one for each request and feeds it; a door sees it as `hub.exchange.Exchange`.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import msgspec

from hub.asgi import asgi_call
from hub.auth import Shown
from hub.exchange import KEEP_ALIVE, AsgiCall, ClientGone, Header
from registry.corked import CorkedTransport
from registry.deadline import Cancellation, Deadline
from registry.errors import BodyStalled, ContentCodingRefused, HubError, MediaTypeRefused, TooLarge
from registry.identity import NOBODY, Principal

BODY_STALL_S = 30.0
"""How long the next piece of a body may take."""

READ_AHEAD_BYTES = 64 * 1024
"""How much of a body is taken before a door asked for it."""

LARGE_BYTES = 64 * 1024
"""Larger answers are handed to the transport in parts instead of being copied together."""

_BLANK_LINES = (b"\n\n", b"\r\n\r\n")
_NOT_CACHED = (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in http.HTTPStatus}
_CR, _LF = b"\r\n"  # numbers, which are found in bytes in a seventh of the time
_WITHOUT_BODY = frozenset({204, 304})
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """What an exchange bears."""

    body_bytes: int = 32 * 1024 * 1024
    upload_bytes: int = 512 * 1024 * 1024
    """Of bodies with files in them, which pass in pieces."""
    header_bytes: int = 64 * 1024
    keep_alive_s: float = 15.0
    stream_idle_s: float = 3600.0
    is_https: bool = False
    """Clients come by https, whoever ends it."""


class Line(Protocol):
    """What an exchange needs of its connection."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    transport: CorkedTransport
    peer: tuple[str, int] | None
    room: asyncio.Future[None] | None
    """Done when the client has read enough; None: there is room."""
    shown: Shown | None
    """As `hub.auth.Line`."""

    def fixed(self) -> bytes:
        """The lines of headers that every answer has, `date` among them."""

    def take_more(self) -> None:
        """Go on reading the request's body."""

    def hold(self) -> None:
        """Stop reading for now."""

    def answered(self, *, reusable: bool) -> None:
        """The answer is complete."""

    def served(self) -> None:
        """The task that made the answer ends."""


class HttpExchange(msgspec.Struct, eq=False):
    """One request under way. Fits `hub.exchange.Exchange`. A Struct: made for every request, at a third of a class's cost."""

    line: Line
    _limit: int
    """Of the body, in bytes."""
    _keep_alive: bool
    _chunked: bool
    """The client takes answers in chunks (HTTP/1.1)."""
    method: str
    target: bytes
    path: str
    query: bytes
    raw_headers: Sequence[Header]
    headers: Mapping[bytes, bytes]
    head_bytes: int
    """What came until the head was whole: the head, and perhaps some of the body."""
    request_id: str = ""
    principal: Principal = NOBODY
    failure: HubError | None = None
    """The error that it was answered with, if a door answered it itself."""
    extra: list[Header] = []
    """Headers of every answer to this request."""
    started: bool = False
    finished: bool = False
    gone: bool = False
    """The client left."""
    watcher: UntilGone | None = None
    """Who is asked when the client leaves."""
    _body: bytes | None = None
    _chunks: list[bytes] = []
    received: int = 0
    """Bytes of the body that have come."""
    _in_pieces: bool = False
    """The body is taken while it comes: no more of it is read at a time than one wake-up brings."""
    _complete: bool = False
    _waiter: asyncio.Future[None] | None = None
    _ticker: asyncio.TimerHandle | None = None
    _last_chunk: bytes = b"\n\n"
    _written_at: float = 0.0

    __repr__ = object.__repr__  # credentials are in its headers

    # fed by the connection

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the body."""
        self.received += len(chunk)
        if self.finished or self.received > self._limit:
            self._chunks.clear()  # nobody will read it; the door hears that it is too large
        else:
            self._chunks.append(chunk)
            waiter = self._waiter
            if self.received > READ_AHEAD_BYTES and (waiter is None or (self._in_pieces and waiter.done())):
                self.line.hold()
        self._wake()

    def complete(self) -> None:
        """The body is whole."""
        self._complete = True
        self._wake()

    def leave(self) -> None:
        """The client has left: whoever waits for it hears of it."""
        self.gone = True
        self.stop()
        self._wake()
        if self.watcher is not None:
            self.watcher.ask()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def last(self) -> None:
        """Let the connection close after this answer."""
        self._keep_alive = False

    @property
    def is_whole(self) -> bool:
        """Whether the request's body has come to its end."""
        return self._complete

    # read by the door

    async def body(self) -> bytes:
        """As `Exchange.body`."""
        if self._body is None:
            media_type = self.headers.get(b"content-type", b"application/json")
            if media_type != b"application/json":
                media_type = media_type.partition(b";")[0].strip().lower()
                if media_type != b"application/json" and not media_type.endswith(b"+json"):
                    raise MediaTypeRefused
            if self.headers.get(b"content-encoding", b"identity") != b"identity":
                raise ContentCodingRefused
            self._body = self._whole() if self._complete else await self.any_body()
        return self._body

    async def any_body(self) -> bytes:
        """The whole body, of any media type; raises as `body`."""
        if not self._complete:
            limit = self._limit
            if int(self.headers.get(b"content-length", b"0")) > limit:
                raise TooLarge(limit)
            await self._arrive(limit)
        return self._whole()

    def _whole(self) -> bytes:
        if self.received > self._limit:
            raise TooLarge(self._limit)
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    @property
    def _expects_continue(self) -> bool:
        return b"expect" in self.headers

    async def _arrive(self, limit: int) -> None:
        if self._expects_continue:
            self.line.transport.write(_CONTINUE)
        self.line.take_more()
        try:
            with Deadline(BODY_STALL_S) as deadline:
                while not self._complete and self.received <= limit:
                    self._waiter = self.line.loop.create_future()
                    await self._waiter
                    if self.gone:
                        raise ClientGone
                    deadline.extend()
        except TimeoutError:
            raise BodyStalled from None
        finally:
            self._waiter = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """As `Exchange.pieces`."""
        self._in_pieces = True
        limit = self._limit = self.line.limits.upload_bytes
        if int(self.headers.get(b"content-length", b"0")) > limit:
            raise TooLarge(limit)
        if self._expects_continue and not self._complete:
            self.line.transport.write(_CONTINUE)
        while True:
            chunks, self._chunks = self._chunks, []
            if self.received > limit:
                raise TooLarge(limit)
            if chunks:
                yield b"".join(chunks)
            elif self._complete:
                return
            else:
                await self._next_piece()

    async def _next_piece(self) -> None:
        self._waiter = self.line.loop.create_future()
        self.line.take_more()
        try:
            with Deadline(BODY_STALL_S):
                await self._waiter
        except TimeoutError:
            raise BodyStalled from None
        finally:
            self._waiter = None
        if self.gone:
            raise ClientGone

    def until_gone(self) -> UntilGone:
        """As `Exchange.until_gone`."""
        return UntilGone(self)

    @property
    def peer(self) -> str | None:
        """As `Exchange.peer`."""
        return self.line.peer[0] if self.line.peer is not None else None

    def asgi(self) -> AsgiCall:
        """As `Exchange.asgi`."""
        return asgi_call(self, self.line.peer)

    async def until_left(self) -> None:
        """Wait until the client has left."""
        while not self.gone:
            self._waiter = self.line.loop.create_future()
            await self._waiter

    # answered by the door

    def add_header(self, name: bytes, value: bytes) -> None:
        """As `Exchange.add_header`."""
        self.extra = [*(header for header in self.extra if header[0] != name), (name, value)]

    async def reply(
        self,
        status: int,
        body: bytes | tuple[bytes, ...],
        *,
        media_type: bytes = b"application/json",
        headers: Sequence[Header] = (),
    ) -> None:
        """As `Exchange.reply`."""
        parts = body if isinstance(body, tuple) else (body,)
        size = sum(map(len, parts)) if len(parts) > 1 else len(parts[0])
        length = b"" if status in _WITHOUT_BODY else b"content-length: %d\r\n" % size
        head = self._head(status, media_type, length, headers)
        if self.method == "HEAD" or status in _WITHOUT_BODY:
            self.line.transport.write(head)
        elif size < LARGE_BYTES:
            self.line.transport.write(b"".join((head, *parts)))
        else:
            self.line.transport.writelines((head, *parts))
        self._end()

    async def start(
        self,
        status: int,
        *,
        media_type: bytes = b"text/event-stream",
        headers: Sequence[Header] = (),
        idle: bytes = KEEP_ALIVE,
    ) -> None:
        """As `Exchange.start`."""
        self.begin(status, media_type, (*_NOT_CACHED, *headers))
        if media_type == b"text/event-stream":
            loop = self.line.loop
            self._written_at = loop.time()
            self._ticker = loop.call_later(self.line.limits.keep_alive_s, self._tick, asyncio.current_task(loop), idle)

    def begin(self, status: int, media_type: bytes, headers: Sequence[Header]) -> None:
        """Write the head of a streamed answer."""
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        self.line.transport.write(self._head(status, media_type, framing, headers))

    async def write(self, chunk: bytes) -> None:
        """As `Exchange.write`."""
        if self.gone:
            raise ClientGone
        if self.method == "HEAD" or not chunk:
            return
        self._written_at = -1.0  # until the client has taken the chunk
        self.line.transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)
        self._last_chunk = chunk
        if self.line.room is not None:
            await asyncio.shield(self.line.room)
        self._written_at = self.line.loop.time()

    def finish(self) -> None:
        """End a stream that the door left open, cleanly. The application calls it after the door."""
        if self.started and not self.finished and not self.gone:
            if self._chunked and self.method != "HEAD":
                self.line.transport.write(b"0\r\n\r\n")
            self._end()

    def abort(self) -> None:
        """Cut the connection: a half answer must not look whole. A whole one is left, and whatever comes behind it."""
        self.stop()
        if not self.gone and not self.finished:
            self.line.transport.abort()

    def close(self) -> None:
        """Let go of it: the task that serves it is done. The application calls it last."""
        self.stop()
        self.line.served()

    def stop(self) -> None:
        """Stop the keep-alive comments."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def _head(self, status: int, media_type: bytes, framing: bytes, headers: Sequence[Header]) -> bytes:
        if self.gone:
            raise ClientGone
        self.started = True
        lines = [
            _STATUS_LINES[status],
            self.line.fixed(),
            b"content-type: ",
            media_type,
            b"\r\n",
            framing,
            b"x-request-id: ",
            self.request_id.encode(),
            b"\r\n",
        ]
        for name, value in (*self.extra, *headers):
            if _CR in value or _LF in value:
                raise ValueError(f"header {name!r} would end early")
            lines += (name, b": ", value, b"\r\n")
        if not self._keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _end(self) -> None:
        self.finished = True
        self.stop()
        self.line.answered(reusable=self._keep_alive)

    def _tick(self, door: asyncio.Task[object] | None, idle: bytes, stalled: int = 0) -> None:
        """Once per keep-alive time: write `idle` on silence between events; end a client that stopped reading for too long."""
        loop, period = self.line.loop, self.line.limits.keep_alive_s
        stalled = stalled + 1 if self._written_at < 0 else 0
        if door is not None and stalled * period > self.line.limits.stream_idle_s:
            self.abort()
            return
        if not stalled and loop.time() - self._written_at >= period and self._last_chunk.endswith(_BLANK_LINES):
            self.line.transport.write(b"%x\r\n%b\r\n" % (len(idle), idle) if self._chunked else idle)
        self._ticker = loop.call_later(period, self._tick, door, idle, stalled)


class UntilGone(Cancellation):
    """Cancels the task that made it when the client leaves; what it is entered around then ends with `ClientGone`."""

    _exchange: HttpExchange

    def __enter__(self) -> None:
        if self._exchange.gone:
            raise ClientGone
        self._exchange.watcher = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exchange.watcher = None
        if self.taken_back(kind):
            raise ClientGone from error
