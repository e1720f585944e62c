"""HTTP towards upstreams: the only place that dials. Pooled; every wait ends; no redirect is followed.

Headers are built from scratch by the caller of this module; nothing of a downstream request comes here by itself.
A request cannot be made without an open permit of the gate.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import msgspec

from registry.deadline import Deadline
from registry.egress.dial import Dialler, Proxy
from registry.egress.guard import Guard, HostRefused
from registry.egress.http1 import Connection, Failed, Failure
from registry.egress.pool import IdleConnections
from registry.egress.request import CHUNKED, Key, Target, head, parse
from registry.entries import Headers
from registry.errors import (
    AddressRefused,
    UpstreamError,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
    unsent,
)

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110 §9.2.2)."""

_FAILURES: dict[Failure, tuple[type[UpstreamUnavailable | UpstreamTimeout | UpstreamInvalid], str]] = {
    Failure.LOST: (UpstreamUnavailable, "the connection failed before it answered"),
    Failure.CUT: (UpstreamInvalid, "its answer was cut short"),
    Failure.GARBLED: (UpstreamInvalid, "its answer is not HTTP/1.1"),
    Failure.LATE: (UpstreamTimeout, "it did not answer in time"),
    Failure.STALLED: (UpstreamTimeout, "it stopped sending"),
}


class OpenPermit(Protocol):
    """What the way out asks of a permit: that the gate admitted the call and has not settled it."""

    @property
    def entry_name(self) -> str:
        """The entry's name, for error texts."""

    @property
    def due(self) -> bool:
        """Whether `reserve` is to be awaited before `use`."""

    async def reserve(self) -> None:
        """Have limits hold what the call may use; raises what refuses it."""

    def use(self) -> None:
        """Count one upstream request; raises when the permit is settled."""

    def missed(self) -> None:
        """Note that the request that was counted last was not sent."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """When waits end, in seconds."""

    connect_s: float = 5.0
    """Name, TCP, proxy and TLS together."""
    first_byte_s: float = 600.0
    """From the request being sent to the head of its answer."""
    agent_first_byte_s: float = 3600.0
    """An agent's unary answer may take as long as its task (A2A 1.0 §3.2.2: blocking is the default)."""
    stream_idle_s: float = 3600.0
    """Between two pieces of an answer's body, and for each part of a large request to be taken."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """One request to an upstream. A Struct: made for every request, at a tenth of a frozen dataclass's cost."""

    url: str
    method: str = "POST"
    headers: Headers = ()
    body: bytes | AsyncIterator[bytes] | None = None
    """One that comes in pieces is sent chunked, as fast as the upstream takes it, and never a second time."""
    trusted: bool = True
    """The operator wrote the origin; otherwise the address guard decides."""
    plain_inside_only: bool = False
    """Without TLS only into the networks that the operator opened; for what is not `trusted`."""
    is_direct: bool = False
    """Not by the operator's proxy; for what is `trusted`, which else decides by itself."""
    first_byte_s: float | None = None
    """None: the default deadline."""
    may_stream: bool = True
    """Whether the answer may be a stream, whose pieces must come on at once; a whole answer is read ahead, more cheaply."""

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent twice."""
        return self.method in IDEMPOTENT and (self.body is None or isinstance(self.body, bytes))

    def __repr__(self) -> str:
        """Without what may hold credentials."""
        return f"Outgoing({self.method})"


class Incoming(msgspec.Struct, eq=False):
    """An upstream's answer: status and headers are here, the body comes as it is read. It ends with its `Call`."""

    _connection: Connection
    _entry: str
    _max_bytes: int
    _headers: list[tuple[bytes, bytes]]
    status: int

    def __repr__(self) -> str:
        """Without what may hold credentials."""
        return f"Incoming({self.status})"

    def header(self, name: bytes) -> str | None:
        """The first value of a header, None when absent. `name` is written in lower case."""
        for found, value in self._headers:
            if found == name:
                return value.decode("latin-1")
        return None

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All headers, in the order they came, with names in lower case."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._headers]

    @property
    def media_type(self) -> str:
        """The Content-Type without its parameters, in lower case; empty when absent."""
        for found, value in self._headers:
            if found == b"content-type":
                return value.partition(b";")[0].strip().lower().decode("latin-1")
        return ""

    async def read(self) -> bytes:
        """Read the whole body.

        Raises:
            UpstreamInvalid: larger than the bound, or cut short.
            UpstreamTimeout: no byte came for the idle deadline.
        """
        body = self._connection.take()
        if not self._connection.complete and len(body) <= self._max_bytes:
            body = await self._rest(body)
        if len(body) > self._max_bytes:
            raise UpstreamInvalid(self._entry, "its answer is too large")
        return body

    async def _rest(self, body: bytes) -> bytes:
        pieces, size = [body], len(body)
        async for piece in self:
            pieces.append(piece)
            size += len(piece)
            if size > self._max_bytes:
                break
        return b"".join(pieces)

    def hold(self) -> None:
        """Read nothing more until `go_on`: what comes meanwhile is one chunk."""
        self._connection.hold()

    def go_on(self) -> None:
        """Read again."""
        self._connection.go_on()

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes; errors as in `read`. What came together is one chunk."""
        return self

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The same, piece by piece as the upstream has cut it: for readers who may be slow, so that little of it is in memory."""
        try:
            while piece := self._connection.take_first() or await self._connection.more(first=True):
                yield piece
        except Failed as error:
            raise _told(error, self._entry) from None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = self._connection.take() or await self._connection.more()
        except Failed as error:
            raise _told(error, self._entry) from None
        if not chunk:
            raise StopAsyncIteration
        return chunk


class Call(msgspec.Struct, eq=False):
    """One request under way: enter to send it, leave to close the connection or return it to the pool."""

    _egress: Egress
    _permit: OpenPermit
    _outgoing: Outgoing
    _connection: Connection | None = None
    _key: Key = ("", "", 0, "")

    async def __aenter__(self) -> Incoming:
        outgoing, egress, entry = self._outgoing, self._egress, self._permit.entry_name
        permit = self._permit
        try:
            target = parse(outgoing.url)
            head = egress.head(target, outgoing)
        except ValueError as error:
            raise UpstreamUnavailable(entry, f"it cannot be called as it is configured: {error}") from None
        address = ""
        self._key = target.key
        if not outgoing.trusted:
            address = await egress.checked(target, entry, plain_inside_only=outgoing.plain_inside_only)
            self._key = (*target.key[:3], address)
        elif outgoing.is_direct:
            address = target.host
            self._key = (*target.key[:3], address)
        if permit.due:
            await permit.reserve()
        permit.use()
        connection = egress.idle.take(self._key)
        if connection is not None:
            try:
                await self._send(connection, head)
            except Failed as error:
                # The server closed an idle connection while the request was under way. It may have read it all the
                # same, so only what may be done twice is sent again (RFC 9110 §9.2.2): never a tool's call.
                if error.failure is not Failure.LOST or not outgoing.is_repeatable:
                    raise _told(error, entry) from None
                connection = None
        if connection is None:
            connection = await self._dial(target, address, head)
        self._connection = connection
        return Incoming(connection, entry, egress.max_answer_bytes, connection.headers, connection.status)

    async def _dial(self, target: Target, address: str, head: bytes) -> Connection:
        """Send the request over a connection of its own."""
        permit = self._permit
        try:
            connection = await self._egress.dial(target, address, permit.entry_name)
        except UpstreamError:
            permit.missed()
            raise
        try:
            await self._send(connection, head)
        except Failed as error:
            raise _told(error, permit.entry_name) from None
        return connection

    def _send(self, connection: Connection, head: bytes) -> Awaitable[None]:
        outgoing = self._outgoing
        return connection.send(
            head,
            outgoing.body or b"",
            first_byte_s=outgoing.first_byte_s or self._egress.deadlines.first_byte_s,
            read_ahead=not outgoing.may_stream,
            bodiless=outgoing.method == "HEAD",
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._egress.idle.put(self._key, connection)


def _told(error: Failed, entry: str) -> UpstreamError:
    kind, reason = _FAILURES[error.failure]
    return kind(entry, reason)


class Sender(Protocol):
    """What requests to one server go through: the way out itself, or one that signs them first."""

    def send(self, permit: OpenPermit, outgoing: Outgoing) -> AbstractAsyncContextManager[Incoming]:
        """As `Egress.send`."""


class Egress:
    """The pooled way out. One for a process; safe to use from several tasks of one event loop."""

    def __init__(
        self,
        deadlines: Deadlines | None = None,
        *,
        guard: Guard | None = None,
        proxy: str | None = None,
        max_answer_bytes: int = 32 * 1024 * 1024,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.deadlines = deadlines or Deadlines()
        self.guard = guard or Guard()
        self.max_answer_bytes = max_answer_bytes
        self.idle = IdleConnections()
        self.proxy_url = proxy
        """The operator's proxy, with its credential, for ways out that bring their own connections."""
        self._proxy = None if proxy is None else Proxy.parse(proxy)
        self._dialler = Dialler(
            connect_s=self.deadlines.connect_s, idle_s=self.deadlines.stream_idle_s, proxy=self._proxy, tls=tls
        )

    def send(self, permit: OpenPermit, outgoing: Outgoing) -> Call:
        """Prepare one request; `async with` sends it and closes it.

        Raises, on entering:
            UpstreamUnavailable, UpstreamTimeout, UpstreamInvalid: no answer, or none that is HTTP.
            AddressRefused: the guard refused an address that the operator did not write.
        """
        return Call(self, permit, outgoing)

    def head(self, target: Target, outgoing: Outgoing) -> bytes:
        """Write a request's head; raises ValueError when it cannot be sent as it is."""
        body = outgoing.body
        length = None if body is None else len(body) if isinstance(body, bytes) else CHUNKED
        if length is None and outgoing.method in {"POST", "PUT", "PATCH"}:
            length = 0  # RFC 9110 §8.6: these are expected to have a body
        start = b""
        if self._proxy is not None and outgoing.trusted and not outgoing.is_direct and target.scheme == "http":
            start = self._proxy.start(outgoing.method, target)
        return head(target, outgoing.method, headers=outgoing.headers, length=length, start=start)

    async def checked(self, target: Target, entry: str, *, plain_inside_only: bool = False) -> str:
        """Resolve a target that the operator did not write to an address that may be dialled.

        Raises:
            AddressRefused: it has none.
        """
        opened_only = plain_inside_only and target.scheme == "http"
        try:
            with Deadline(self.deadlines.connect_s):
                return str(await self.guard.resolve(target.host, target.port, opened_only=opened_only))
        except (HostRefused, TimeoutError, ValueError):
            raise AddressRefused(entry) from None

    async def dial(self, target: Target, address: str, entry: str) -> Connection:
        """Open a connection; `address` as `checked` gave it, empty for a target of the operator's."""
        try:
            return await self._dialler.dial(target, address=address)
        except ssl.SSLCertVerificationError:
            raise unsent(UpstreamUnavailable(entry, "its certificate is not trusted")) from None
        except TimeoutError:
            raise unsent(UpstreamTimeout(entry, "it cannot be reached in time")) from None
        except (OSError, ValueError):
            raise unsent(UpstreamUnavailable(entry, "it cannot be reached")) from None

    def authorities(self) -> bytes | None:
        """The authorities that vouch for upstreams, in PEM, for ways out that bring their own TLS; None: their own."""
        return self._dialler.authorities()

    async def aclose(self) -> None:
        """Close all idle connections; a request under way closes its own."""
        self.idle.close()
