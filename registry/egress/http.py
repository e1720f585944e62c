"""HTTP towards upstreams: the only place that dials. Pooled; every wait ends; no redirect is followed.

Headers are built from scratch by the caller of this module; nothing of a downstream request comes here by itself.
A request cannot be made without an open permit of the gate.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from types import TracebackType
from typing import Protocol

import msgspec
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import ConnectError, PyreqwestError, RequestTimeoutError
from pyreqwest.http import Url
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response as Reqwest

from registry.deadline import Deadline
from registry.egress.guard import Guard, HostRefused
from registry.entries import Headers
from registry.errors import AddressRefused, UpstreamError, UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable

MAX_IDLE_CONNECTIONS = 256
"""Kept open per upstream: enough for a busy hub, few enough for its file descriptors."""


class OpenPermit(Protocol):
    """What the way out asks of a permit: that the gate admitted the call and has not settled it."""

    @property
    def entry_name(self) -> str:
        """The entry's name, for error texts."""

    def use(self) -> None:
        """Count one upstream request; raises when the permit is settled."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """When waits end, in seconds."""

    connect_s: float = 5.0
    first_byte_s: float = 600.0
    agent_first_byte_s: float = 3600.0
    """An agent's unary answer may take as long as its task (A2A 1.0 §3.2.2: blocking is the default)."""
    stream_idle_s: float = 3600.0


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """One request to an upstream. A Struct: made for every request, at a tenth of a frozen dataclass's cost."""

    url: str
    method: str = "POST"
    headers: Headers = ()
    body: bytes | None = None
    trusted: bool = True
    """The operator wrote the origin; otherwise the address guard decides."""
    first_byte_s: float | None = None
    """None: the default deadline."""
    may_stream: bool = True
    """Whether the answer may be a stream, whose pieces must come on at once; a whole answer is read ahead, more cheaply."""


class Incoming:
    """An upstream's answer: status and headers are here, the body comes as it is read."""

    __slots__ = ("_entry", "_max_bytes", "_reader", "_response", "status")

    def __init__(self, response: Reqwest, entry: str, max_bytes: int) -> None:
        self._response = response
        self._reader = response.body_reader
        self._entry = entry
        self._max_bytes = max_bytes
        self.status = response.status

    def header(self, name: str) -> str | None:
        """The first value of a header, None when absent."""
        return self._response.get_header(name)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All headers, in the order they came."""
        return list(self._response.headers.items())

    @property
    def media_type(self) -> str:
        """The Content-Type without its parameters, in lower case; empty when absent."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """Read the whole body.

        Raises:
            UpstreamInvalid: larger than the bound, or cut short.
            UpstreamTimeout: no byte came for the idle deadline.
        """
        length = self.header("content-length")
        if length is not None and length.isdecimal() and int(length) <= self._max_bytes:
            try:
                return bytes(await self._reader.bytes())
            except PyreqwestError as error:
                raise self._broken(error) from None
        chunks: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > self._max_bytes:
                raise UpstreamInvalid(self._entry, "its answer is too large")
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; errors as in `read`."""
        read = self._reader.read_chunk
        try:
            while (chunk := await read()) is not None:
                yield bytes(chunk)
        except PyreqwestError as error:
            raise self._broken(error) from None

    def _broken(self, error: PyreqwestError) -> UpstreamError:
        if isinstance(error, RequestTimeoutError):
            return UpstreamTimeout(self._entry, "it stopped sending")
        return UpstreamInvalid(self._entry, "its answer was cut short")


class Call:
    """One request under way: enter to send it, leave to close the connection or return it to the pool."""

    __slots__ = ("_egress", "_guarded", "_outgoing", "_permit", "_stream")

    def __init__(self, egress: Egress, permit: OpenPermit, outgoing: Outgoing) -> None:
        self._egress = egress
        self._permit = permit
        self._outgoing = outgoing
        self._stream: StreamRequest | None = None
        self._guarded: Client | None = None

    async def __aenter__(self) -> Incoming:
        outgoing, egress, entry = self._outgoing, self._egress, self._permit.entry_name
        self._permit.use()
        client = egress.client
        if not outgoing.trusted:
            client = self._guarded = await egress.guarded_client(outgoing.url, entry)
        request = client.request(outgoing.method, _parsed(outgoing.url)).headers(outgoing.headers)
        if outgoing.body is not None:
            request = request.body_bytes(outgoing.body)
        if outgoing.may_stream:
            request = request.streamed_read_buffer_limit(0)
        self._stream = request.build_streamed()
        try:
            with Deadline(outgoing.first_byte_s or egress.deadlines.first_byte_s):
                response = await self._stream.__aenter__()
        except (TimeoutError, PyreqwestError) as error:
            self._stream = None
            await self._close_guarded()
            raise _failure(error, entry) from None
        except BaseException:
            self._stream = None
            await self._close_guarded()
            raise
        return Incoming(response, entry, egress.max_answer_bytes)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            await self._stream.__aexit__(kind, error, trace)
        await self._close_guarded()

    async def _close_guarded(self) -> None:
        if self._guarded is not None:
            await self._guarded.close()


def _failure(error: BaseException, entry: str) -> UpstreamUnavailable | UpstreamTimeout | UpstreamInvalid:
    if isinstance(error, ConnectError):
        return UpstreamUnavailable(entry, "it cannot be reached")
    if isinstance(error, TimeoutError):  # RequestTimeoutError is one
        return UpstreamTimeout(entry, "it did not answer in time")
    return UpstreamUnavailable(entry, "the connection failed before it answered")


_parsed = lru_cache(maxsize=4096)(Url)
"""Parsed addresses; a hub calls few different ones, and parsing costs as much as finding the connection."""


class Egress:
    """The pooled way out. One for a process; safe to use from several tasks."""

    def __init__(
        self,
        deadlines: Deadlines | None = None,
        *,
        guard: Guard | None = None,
        proxy: str | None = None,
        max_answer_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self.deadlines = deadlines or Deadlines()
        self.guard = guard or Guard()
        self.max_answer_bytes = max_answer_bytes
        self._proxy = proxy
        self.client = self._builder().pool_max_idle_per_host(MAX_IDLE_CONNECTIONS).build()

    def send(self, permit: OpenPermit, outgoing: Outgoing) -> Call:
        """Prepare one request; `async with` sends it and closes it.

        Raises, on entering:
            UpstreamUnavailable, UpstreamTimeout: no answer.
            AddressRefused: the guard refused an address that the operator did not write.
        """
        return Call(self, permit, outgoing)

    async def guarded_client(self, url: str, entry: str) -> Client:
        """Build a client that can reach one checked address only, for a URL that the operator did not write."""
        try:
            parsed = Url(url)
            host, port = parsed.host_str, parsed.port_or_known_default
            if parsed.scheme not in {"http", "https"} or not host or port is None:
                raise AddressRefused(entry)
            async with asyncio.timeout(self.deadlines.connect_s):
                address = await self.guard.resolve(host, port)
        except (HostRefused, TimeoutError, ValueError, PyreqwestError):
            raise AddressRefused(entry) from None
        builder = self._builder(proxied=False).pool_max_idle_per_host(0)
        if parsed.domain is not None:  # a literal address is dialled as it was checked
            builder = builder.resolve(host, str(address), port)
        return builder.build()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.client.close()

    def _builder(self, *, proxied: bool = True) -> ClientBuilder:
        builder = (
            ClientBuilder()
            .follow_redirects(False)
            .referer(False)
            .no_proxy()
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .connect_timeout(timedelta(seconds=self.deadlines.connect_s))
            .read_timeout(timedelta(seconds=self.deadlines.stream_idle_s))
            .user_agent("hubbub")
        )
        if proxied and self._proxy is not None:
            builder = builder.proxy(ProxyBuilder.all(self._proxy))
        return builder
