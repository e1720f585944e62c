"""One HTTP/1.1 connection towards an upstream (RFC 9112): writes a request, reads its response as it comes.

Owns framing, back-pressure and the end of every wait. Must not know origins, entries, permits and pools. Everything
that can happen on a request's path is a callback; a task is woken only when what it waits for is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from enum import Enum, auto

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from registry.corked import Cork, CorkedTransport

MAX_HEAD_BYTES = 64 * 1024
"""A response's status line and headers; also what may come between two pieces of a body (chunk sizes, trailers)."""

MAX_UNREAD_BYTES = 64 * 1024
"""Body that waits for its reader before the upstream is made to wait. One read of the socket may go beyond it."""

SLICE_BYTES = 256 * 1024
"""Larger request bodies are written slice by slice, so that a deadline sees whether the upstream takes them."""


class Failure(Enum):
    """Why there is no response, or no more of it."""

    LOST = auto()
    """The connection ended before any byte of a response."""
    CUT = auto()
    """The connection ended within a response."""
    GARBLED = auto()
    """What came is not HTTP/1.1, or its head is too large."""
    LATE = auto()
    """The head of the response did not come in time."""
    STALLED = auto()
    """No byte of the body came for too long."""


class Failed(Exception):
    """The request ended with a `failure`; its connection is closed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.name)
        self.failure = failure


class _Wait(Enum):
    """What the one task that waits on a connection waits for."""

    ROOM = auto()
    """The transport takes more of the request's body."""
    HEAD = auto()
    WHOLE = auto()
    """The whole response, or as much as may stand unread."""
    BODY = auto()


class Connection(asyncio.Protocol):
    """A connection that carries one request after the other: `send`, then `take` or `more` until it is `complete`."""

    __slots__ = (
        "_barren",
        "_bodiless",
        "_chunks",
        "_cork",
        "_due",
        "_failure",
        "_idle_s",
        "_keeps_alive",
        "_loop",
        "_parser",
        "_paused",
        "_rings",
        "_sent",
        "_size",
        "_stuck",
        "_timer",
        "_transport",
        "_waiter",
        "_waits_for",
        "complete",
        "headers",
        "keep_s",
        "status",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, cork: Cork, *, idle_s: float) -> None:
        self._loop = loop
        self._cork = cork
        self._idle_s = idle_s
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._transport: CorkedTransport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._waits_for = _Wait.HEAD
        self._timer: asyncio.TimerHandle | None = None
        self._rings = self._due = 0.0
        self._failure: Failure | None = None
        self._chunks: list[bytes] = []
        self._size = self._barren = 0
        self._paused = self._stuck = self._bodiless = self._sent = self._keeps_alive = False
        self.complete = True
        """Whether all of the response came; also before the first request: then nothing may come."""
        self.status = 0
        """Of the response; 0 until its head came."""
        self.headers: list[tuple[bytes, bytes]] = []
        """Of the response, names in lower case."""
        self.keep_s = 0.0
        """How long this connection may stand idle: a note of its pool."""

    # -- what a request does

    async def send(
        self,
        head: bytes,
        body: bytes | AsyncIterator[bytes],
        *,
        first_byte_s: float,
        read_ahead: bool = False,
        bodiless: bool = False,
    ) -> None:
        """Write a request and wait for the head of its response; the body may be there then, too.

        `read_ahead` waits for the whole response, as is done by itself for one that states its length: one wake-up
        instead of two. `bodiless` says that the response has no body whatever it states (to HEAD and CONNECT).

        Raises:
            Failed: no response. The connection is closed then, as when the caller is cancelled.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise Failed(Failure.LOST)
        self.status = self._size = self._barren = 0
        self.headers = []
        self._chunks = []
        self.complete = self._sent = self._keeps_alive = False
        self._bodiless = bodiless
        try:
            if not isinstance(body, bytes):
                self._sent = await self._write_pieces(transport, head, body, slice_s=min(first_byte_s, self._idle_s))
                self._arm(first_byte_s)
            elif len(body) <= SLICE_BYTES:
                self._arm(first_byte_s)
                transport.write(head + body)
                self._sent = True
            else:
                self._sent = await self._write(transport, head, body, slice_s=min(first_byte_s, self._idle_s))
                self._arm(first_byte_s)
            if not self.status and self._failure is None:
                self._waits_for = _Wait.WHOLE if read_ahead else _Wait.HEAD
                self._waiter = self._loop.create_future()
                await self._waiter
        except BaseException:  # also when the caller left: the upstream sees it before its first byte
            self.abort()
            raise
        if not self.status:
            self.abort()
            raise Failed(self._failure or Failure.LOST)

    def take(self) -> bytes:
        """Return the body that came and was not taken yet; empty when there is none at the moment."""
        chunks = self._chunks
        if not chunks:
            return b""
        self._chunks = []
        self._size = 0
        if self._paused:
            self._resume()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def take_first(self) -> bytes:
        """As `take`, but only the first piece: nothing is read before the last was taken."""
        chunks = self._chunks
        if not chunks:
            return b""
        first = chunks.pop(0)
        self._size -= len(first)
        if self._paused and not chunks:
            self._resume()
        return first

    def hold(self) -> None:
        """Let the upstream's bytes wait in the kernel until `go_on`; whoever wants them waits so long."""
        if not self.complete and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read on, unless what was read before waits for its reader."""
        if self._paused and self._size <= MAX_UNREAD_BYTES:
            self._resume()

    async def more(self, *, first: bool = False) -> bytes:
        """Return what came of the body, or its `first` piece, waiting for it if need be; empty at its end.

        Raises:
            Failed: there will be no more of it.
        """
        while not self._chunks:
            if self.complete:
                return b""
            if self._failure is not None:
                raise Failed(self._failure)
            self._waits_for = _Wait.BODY
            self._waiter = self._loop.create_future()
            await self._waiter
        return self.take_first() if first else self.take()

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow: both sides are done with this one, and neither wants to close."""
        transport = self._transport
        return (
            self._keeps_alive
            and self._sent
            and not self._paused
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        )

    @property
    def is_closing(self) -> bool:
        """Whether no request may be sent any more."""
        return self._transport is None or self._transport.is_closing()

    def abort(self) -> None:
        """Close at once, whatever is under way: the upstream sees that nobody listens."""
        self._keeps_alive = False
        if self._transport is not None:
            self._transport.abort()

    def detach(self) -> asyncio.Transport:
        """Give the transport away, to a TLS layer within a tunnel."""
        transport, self._transport = self._transport, None
        assert transport is not None
        self._drop()
        return transport.inner

    async def _write(self, transport: CorkedTransport, head: bytes, body: bytes, *, slice_s: float) -> bool:
        """Write a large body as fast as the upstream takes it.

        False: it answered before it had all (such as 413), or is gone.
        """
        transport.write(head)
        rest = memoryview(body)
        while rest and not self.status and self._failure is None:
            self._arm(slice_s)
            transport.write(rest[:SLICE_BYTES])
            rest = rest[SLICE_BYTES:]
            await self._room()
        return not rest

    async def _write_pieces(
        self, transport: CorkedTransport, head: bytes, body: AsyncIterator[bytes], *, slice_s: float
    ) -> bool:
        """Write a body chunked as it comes (RFC 9112 §7.1); False as in `_write`. Who makes it ends its own waits."""
        self._arm(slice_s)
        transport.write(head)
        async for piece in body:
            if self.status or self._failure is not None:
                return False
            if piece:
                self._arm(slice_s)
                transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
                await self._room()
        if self.status or self._failure is not None:
            return False
        transport.write(b"0\r\n\r\n")
        return True

    async def _room(self) -> None:
        if self._stuck:
            self._waits_for = _Wait.ROOM
            self._waiter = self._loop.create_future()
            await self._waiter

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        self._transport = CorkedTransport(self._cork, transport)

    def data_received(self, data: bytes) -> None:
        """Read what came (asyncio)."""
        parser = self._parser
        if self.complete or parser is None:  # nobody asked: a server that says goodbye, or answers twice
            self.abort()
            return
        self._barren += len(data)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):  # nobody asked to switch protocols
            self._fail(Failure.GARBLED)
            return
        if not self.complete:
            if self._barren > MAX_HEAD_BYTES:
                self._fail(Failure.GARBLED)
                return
            if self.status:
                self._arm(self._idle_s)
            if self._size > MAX_UNREAD_BYTES and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
            if not self._is_enough():
                return
        self._wake()

    def _is_enough(self) -> bool:
        """Whether the waiting task has something to do, though the response is not complete."""
        if self._waits_for is _Wait.BODY:
            return bool(self._chunks)
        if not self.status:
            return False
        if self._waits_for is _Wait.HEAD and any(name == b"content-length" for name, _ in self.headers):
            self._waits_for = _Wait.WHOLE  # one that knows its length is no live stream
        return self._waits_for is not _Wait.WHOLE or self._paused

    def eof_received(self) -> None:
        """Note that the upstream will send no more (asyncio, which then closes)."""
        self._ended(clean=True)

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end (asyncio)."""
        self._ended(clean=error is None)
        self._drop()

    def pause_writing(self) -> None:
        """Let the request's body wait (asyncio)."""
        self._stuck = True

    def resume_writing(self) -> None:
        """Let the request's body go on (asyncio)."""
        self._stuck = False
        if self._waits_for is _Wait.ROOM:
            self._wake()

    # -- what the parser says (httptools); nothing here may raise but to call the response garbled

    def on_message_begin(self) -> None:
        """Note that a message begins; after a complete one it is one too many."""
        self._keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers (RFC 9112 §7.1.2) are read over."""
        if not self.status:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Take the status; interim responses (RFC 9110 §15.2) are read over."""
        assert self._parser is not None
        if self.status:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self.headers = []
            return
        if self._barren > MAX_HEAD_BYTES and sum(len(n) + len(v) for n, v in self.headers) > MAX_HEAD_BYTES:
            raise ValueError
        self.status = status
        if self._bodiless:  # the parser cannot be told, so it is not used again
            self.complete = True

    def on_body(self, chunk: bytes) -> None:
        """Keep a piece of the body."""
        if not self.complete:
            self._chunks.append(chunk)
            self._size += len(chunk)
            self._barren = 0

    def on_message_complete(self) -> None:
        """Note the response's end."""
        if self.status and not self.complete:
            assert self._parser is not None
            self.complete = True
            self._keeps_alive = self._parser.should_keep_alive()

    # -- ends

    def _ended(self, *, clean: bool) -> None:
        if not self.complete and self._failure is None:
            if not self.status:
                self._failure = Failure.CUT if self._barren else Failure.LOST
            elif clean and self._ends_with_connection():
                self.complete = True
            else:
                self._failure = Failure.CUT
        self._keeps_alive = False
        self._wake()

    def _ends_with_connection(self) -> bool:
        """Whether the end of the connection is the end of the body (RFC 9112 §6.3, the last case)."""
        coding = b""
        for name, value in self.headers:
            if name == b"content-length":
                return False
            if name == b"transfer-encoding":
                coding = value
        return not coding.lower().rstrip().endswith(b"chunked")

    def _fail(self, failure: Failure) -> None:
        if not self.complete and self._failure is None:
            self._failure = failure
        self.abort()
        self._wake()

    def _drop(self) -> None:
        """Let go of what points back here."""
        self._parser = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _resume(self) -> None:
        self._paused = False
        self._arm(self._idle_s)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- deadlines: a timer is set anew only to ring earlier; what came meanwhile is seen when it rings

    def _arm(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        if self._timer is None or self._due < self._rings:
            self._set_timer(seconds)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = self._due
        self._timer = self._loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self.complete:
            return
        now = self._loop.time()
        if self._paused:  # it is our reader who is slow
            self._due = now + self._idle_s
        if self._due > now:
            self._set_timer(self._due - now)
        else:
            self._fail(Failure.STALLED if self.status else Failure.LATE)
