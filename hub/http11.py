"""HTTP/1.1 connections: httptools parses, this module decides what lives how long. One object a connection, one task a request.

Runs inside uvicorn's server, which owns sockets, signals and the drain at shutdown. Own code because it is the hottest path of
the hub and because waits end here that end nowhere else: a head that comes slowly or never, a head without end, a body that
nobody reads (docs/decisions/0008).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import unquote

import httptools

from hub.auth import Shown
from hub.exchange import Header
from hub.http_exchange import HttpExchange, Limits
from registry.corked import Cork, CorkedTransport

Serve = Callable[[HttpExchange], Awaitable[None]]
"""Serves one request, in a task of its own, and in the end closes the exchange."""

IDLE_S = 75.0
"""Kept-alive connections of clients; longer than the 60 s of common load balancers, so that they close first."""

HEAD_S = 30.0
"""How long a request's head may take from its first byte, and how long an unread body is drained after its answer."""

SECURITY_HEADERS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"strict-transport-security", b"max-age=31536000"),
)
"""Of every answer; the last where `public_url` is https."""

MAX_CHUNK_LINE_BYTES = 20
"""What each byte of a chunked body may bring with it: its chunk's size in 16 digits, and two ends of lines."""

MAX_PIPELINED = 64
"""Requests that one connection may have waiting."""


class Front:
    """What all connections of a server share."""

    def __init__(self, serve: Serve, limits: Callable[[], Limits]) -> None:
        """`limits` is asked at each new connection: they are known once the hub is open."""
        self.serve = serve
        self.limits = limits
        self.cork = Cork()
        self._dated: object = None
        self._fixed = b""

    def fixed(self, server_state: Any) -> bytes:
        """The lines of headers that every answer has; uvicorn makes a new `date` each second."""
        headers = server_state.default_headers
        if headers is not self._dated:
            self._dated = headers
            always = SECURITY_HEADERS if self.limits().is_https else SECURITY_HEADERS[:1]
            self._fixed = b"".join(b"%b: %b\r\n" % (name, value) for name, value in (*headers, *always))
        return self._fixed

    def connection(
        self,
        config: object,  # uvicorn's way of making a protocol
        server_state: Any,
        app_state: object,
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """Make a connection; uvicorn calls it for each it accepts."""
        return Connection(self, server_state)


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, front: Front, server_state: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = front.limits()
        self.transport: CorkedTransport = cast("CorkedTransport", None)
        self.peer: tuple[str, int] | None = None
        self._front = front
        self._state = server_state
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[Header] = []
        self._head_bytes = 0
        self._body_bytes = 0
        """What came since a head was whole: its body, and what frames it."""
        self._reading: HttpExchange | None = None
        """The request whose body is coming."""
        self._current: HttpExchange | None = None
        """The request that is being answered."""
        self._waiting: deque[HttpExchange] = deque()
        self._since = self.loop.time()
        """When the connection began to be idle, or its unfinished head began."""
        self._timer: asyncio.TimerHandle | None = None
        self.room: asyncio.Future[None] | None = None
        self.shown: Shown | None = None
        self._held = False
        self._closing = False
        self._unread = 0
        """Bytes of answers that the client had not taken at the last look at an idle connection."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for requests."""
        self.transport = CorkedTransport(self._front.cork, transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[:2] if isinstance(peer, tuple) else None
        self._state.connections.add(self)
        self._timer = self.loop.call_later(HEAD_S, self._check)

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell everybody who waits for this client."""
        self._state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        for exchange in (self._current, self._reading):
            if exchange is not None and not exchange.finished:
                exchange.leave()
        self._waiting.clear()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        reading = self._reading
        if reading is None:
            if self._head_bytes == 0:
                self._since = self.loop.time()
            self._head_bytes += len(data)
        else:
            self._body_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request")
        if reading is not None and reading is self._reading:
            self._check_framing(reading)
        if self._head_bytes > 2 * self.limits.header_bytes:
            self._refuse(b"431 Request Header Fields Too Large")

    def _check_framing(self, exchange: HttpExchange) -> None:
        """Bound extensions of chunks and trailers, which are read and dropped (RFC 9112 §7.1.1, §7.1.2)."""
        if self._body_bytes > self.limits.header_bytes + (MAX_CHUNK_LINE_BYTES + 1) * exchange.received:
            self._refuse(b"431 Request Header Fields Too Large")

    def _decline(self, rest: bytes) -> None:
        """Parse the request again without its offer of another protocol, with which the parser would skip the body.

        Clients such as Java's offer h2c with every first request.
        """
        if self.transport.is_closing():
            return
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(b"501 Not Implemented")
            return
        lines = [b"%b: %b\r\n" % header for header in self._headers if header[0] not in {b"upgrade", b"connection"}]
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, self._target, b"".join(lines), rest))

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self.room = self.loop.create_future()

    def resume_writing(self) -> None:
        """The client has read, or is gone."""
        if self.room is not None and not self.room.done():
            self.room.set_result(None)
        self.room = None
        if self._current is None and not self._closing and not self.transport.is_closing():
            self._next()

    # httptools

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; the white space that HTTP allows around its value is not part of it.

        After a body it is a trailer, which is no header (RFC 9110 §6.5.1): it was not there when the request was judged.
        """
        if self._reading is not None:
            return
        self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is whole: the request can be served while its body comes."""
        parser = self._parser
        if parser.should_upgrade():
            return  # comes again, see _decline
        path, _, query = self._target.partition(b"?")
        text, headers = path.decode("ascii", "replace"), self._headers
        fields = dict(headers[::-1])  # of a header that stands twice, the first
        if fields.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise httptools.HttpParserError("no other coding is decoded here")  # RFC 9112 §6.1
        takes_chunks = parser.get_http_version() != "1.0"
        self._reading = exchange = HttpExchange(
            self,
            self.limits.body_bytes,
            takes_chunks and parser.should_keep_alive(),
            takes_chunks,
            parser.get_method().decode("ascii"),
            self._target,
            unquote(text) if "%" in text else text,
            query,
            headers,
            fields,
            self._head_bytes,
        )
        self._head_bytes = self._body_bytes = 0
        if self._current is None and self.room is None:
            self._begin(exchange)
        elif len(self._waiting) < MAX_PIPELINED:
            self._waiting.append(exchange)
            self.hold()
        else:
            self._refuse(b"429 Too Many Requests")

    def on_body(self, chunk: bytes) -> None:
        """A piece of the body."""
        if self._reading is not None:
            self._reading.feed(chunk)

    def on_message_complete(self) -> None:
        """The body is whole."""
        if self._reading is not None:
            exchange, self._reading = self._reading, None
            exchange.complete()
            if exchange.finished and self._closing:
                self.transport.close()

    # the exchange's line

    def fixed(self) -> bytes:
        """As `Line.fixed`."""
        return self._front.fixed(self._state)

    def hold(self) -> None:
        """As `Line.hold`."""
        if not self._held and not self.transport.is_closing():
            self._held = True
            self.transport.pause_reading()

    def take_more(self) -> None:
        """As `Line.take_more`."""
        if self._held and not self.transport.is_closing():
            self._held = False
            self.transport.resume_reading()

    def answered(self, *, reusable: bool) -> None:
        """As `Line.answered`."""
        self._state.total_requests += 1
        exchange, self._current = self._current, None
        self._since = self.loop.time()
        self._unread = 0
        if exchange is not None and not exchange.is_whole:
            self._closing = True  # the rest of the body is read and dropped, so that the client can read the answer
            self.take_more()
        elif not reusable:
            self.transport.close()
        elif self.room is None:
            self._next()
        else:
            self.hold()  # who does not read answers asks nothing more, or they would pile up here

    def served(self) -> None:
        """As `Line.served`."""
        # a callback of the task would cost a hundredth of a request
        self._state.tasks.discard(asyncio.current_task(self.loop))

    # lives

    def _next(self) -> None:
        """Go on with the request that waits, or wait for one."""
        if self._waiting:
            self._begin(self._waiting.popleft())
        else:
            self.take_more()

    def _begin(self, exchange: HttpExchange) -> None:
        self._current = exchange
        # with a name and no detour: making one up and passing the loop's factory cost a third of a task
        task = asyncio.Task(cast("Any", self._front.serve(exchange)), loop=self.loop, name="request")
        self._state.tasks.add(task)

    def shutdown(self) -> None:
        """Drain: close when idle, else after the answer. Called by uvicorn's server."""
        if self._current is None:
            self.transport.close()
        else:
            self._current.last()

    def _check(self) -> None:
        """Close a connection that was idle for too long, or whose head or dropped body takes too long.

        One whose client takes its last answer slowly is left; one whose client does not take it is cut.
        """
        idle = self.loop.time() - self._since
        bound = HEAD_S if self._head_bytes or self._closing else IDLE_S
        if self._current is None and idle >= bound:
            unread, self._unread = self._unread, self.transport.get_write_buffer_size()
            if self._unread and self._unread == unread:
                self.transport.abort()
                return
            self.transport.close()
        self._timer = self.loop.call_later(bound, self._check)

    def _refuse(self, status: bytes) -> None:
        """Answer what is not a request of ours, and close; where another answer is due or under way, only close."""
        if self.transport.is_closing():
            return
        current = self._current
        if self._closing or (current is not None and (current.started or current is not self._reading)):
            self.transport.abort()
            return
        if current is not None:
            current.leave()  # its door answers nothing behind this
        self.transport.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.transport.close()
