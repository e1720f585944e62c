"""One connected SDK client to one server, over stdio or as a session over HTTP. The only module that knows the SDK's client.

It leans on the SDK's dispatcher for raw requests (`session._dispatcher`, private in 2.3: hence the pin `mcp<2.4`),
because its typed methods drop unknown fields and let one bad tool hide a whole list.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio
import httpx2
import mcp_types
import msgspec
from mcp import ClientSession, MCPError
from mcp.client import sse
from mcp.client._probe import negotiate_auto
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher

from mcp_bridge.ears import Ears, is_heard, with_token
from mcp_bridge.listener import NOT_ANSWERED, Listener, Unanswered
from mcp_bridge.listening import LISTEN
from mcp_bridge.modern import Told, envelope
from mcp_bridge.stdio.children import Children
from mcp_bridge.stdio.transport import stdio_transport
from mcp_bridge.transport import PERMIT, EgressTransport
from mcp_bridge.wire import HUB, META_LOG_LEVEL, META_PREFIX, MODERN, Request
from registry.egress.http import OpenPermit, Sender
from registry.entries import Server
from registry.errors import HubError, UpstreamError, UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable
from registry.judged import JsonObject, decode, encode

CALL_S = 600.0
"""How long one call may take, as everywhere on the way out."""

ASKING_CALL_S = 3600.0
"""The same for a call during which a person may be asked."""

HANDSHAKE_S = 30.0
MAX_EVENT_BYTES = 16 * 1024 * 1024

# it has no parameter for it, and reads a megabyte: a larger event would end the connection
sse.sse_within_origin = partial(sse.sse_within_origin, max_event_size=MAX_EVENT_BYTES)  # type: ignore[attr-defined]

_CONNECTION_CLOSED, _REQUEST_TIMEOUT, _PARSE_ERROR = -32000, -32001, -32700
"""Codes that the SDK's client makes up itself."""


_OVER = (anyio.ClosedResourceError, anyio.BrokenResourceError)
# what came too late for a call that was given up is no error, and no traceback in the log
logging.getLogger("mcp.client.streamable_http").addFilter(
    lambda record: record.exc_info is None or not isinstance(record.exc_info[1], _OVER)
)


class Lost(Exception):
    """The request met a connection or session that was gone already: it was not executed."""


class UpstreamFault(Exception):
    """The server answered with a JSON-RPC error, `error`."""

    def __init__(self, error: JsonObject) -> None:
        super().__init__()
        self.error = error


@dataclass(slots=True)
class Connection:
    """A connected client; used by many tasks, entered and left by its owner alone."""

    is_modern: bool
    """Whether the server speaks 2026-07-28 here."""
    session: ClientSession
    ears: Ears
    server: Server
    transport: EgressTransport | None
    """None: over stdio."""
    level: Any = None
    """The logging level that was asked for last."""

    @property
    def is_lost(self) -> bool:
        """Whether nothing sent now could be executed."""
        lost_session = self.transport is not None and self.transport.session_lost
        return lost_session or bool(self.session._dispatcher._closed)  # type: ignore[attr-defined]  # noqa: SLF001 - see above

    @property
    def introduction(self) -> JsonObject:
        """What the server said of itself in the handshake."""
        capabilities = self.session.server_capabilities
        said = capabilities.model_dump(by_alias=True, exclude_none=True) if capabilities is not None else {}
        return {"capabilities": said, "instructions": self.session.instructions}

    async def request(self, request: Request, permit: OpenPermit, listener: Listener | None = None) -> JsonObject:
        """Send one request and return its result; `listener` hears and answers what the server says meanwhile.

        Raises:
            Lost: not executed; a new connection may.
            UpstreamFault: the server answered with an error.
            UpstreamError: no answer.
        """
        params = envelope(request, sampling=self.server.sampling) if self.is_modern else _without_envelope(request)
        params = decode(encode(params))
        if listener is None or not is_heard(request, listener, self.ears):
            within_s = CALL_S if request.method != LISTEN else None
            return await self._send(request.method, params, permit, within_s)
        if not self.ears.is_shared:
            await self._log_at(request)
        async with self.ears.hearing(request, listener) as hearing:
            within = CALL_S if self.ears.is_shared else ASKING_CALL_S
            return await self._send(request.method, with_token(params, hearing), permit, within)

    async def notify(self, method: str) -> None:
        """Send a notification under the connection's own permit; one that does not arrive is nobody's loss."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HANDSHAKE_S):
                await self.session._dispatcher.notify(method, None)  # noqa: SLF001 - see above

    async def _log_at(self, request: Request) -> None:
        """Have the server log at the level that the call asks for, if another is in force."""
        raw = request.meta.get(META_LOG_LEVEL)
        level = decode(raw) if raw is not None else None
        if level is not None and level != self.level and not self.is_lost:
            self.level = level
            with suppress(MCPError):  # it has no logging, or is gone, which the call itself will find
                await self.session._dispatcher.send_raw_request(  # noqa: SLF001 - see above
                    "logging/setLevel", {"level": level}, {"timeout": HANDSHAKE_S}
                )

    async def _send(self, method: str, params: JsonObject, permit: OpenPermit, within_s: float | None) -> JsonObject:
        if self.is_lost:
            raise Lost
        if permit.due:  # here rather than where the SDK sends it, in a task of its own
            await permit.reserve()
        options: dict[str, Any] = {"timeout": within_s}
        transport, number = self.transport, ""
        if transport is None or self.server.is_sse:  # one pipe for all calls, opened under the connection's own permit
            transport = None
            permit.use()
        else:
            number = transport.enlist(permit)
            options["headers"] = {PERMIT: number}
        failure: HubError | None = None
        try:
            try:
                result = await self.session._dispatcher.send_raw_request(method, params, options)  # type: ignore[arg-type]  # noqa: SLF001 - see above
            finally:
                if transport is not None:
                    failure = transport.dismiss(number)
        except MCPError as error:
            if transport is not None and transport.session_lost:
                raise Lost from None
            raise failure or _fault(error, permit.entry_name) from None
        return dict(result)


def _without_envelope(request: Request) -> JsonObject:
    """Older servers know no envelope; a progress token is the connection's own business."""
    kept = {
        name: raw for name, raw in request.meta.items() if not name.startswith(META_PREFIX) and name != "progressToken"
    }
    return {**request.params, "_meta": kept} if kept else request.params


class _Session(ClientSession):
    """The SDK's session with ears of the hub's own, which neither sieve what a server says nor reorder it."""

    def __init__(self, ears: Ears, capabilities: msgspec.Raw | None, told: Told, **options: Any) -> None:
        super().__init__(**options)
        self._ears = ears
        self._told = told
        self._declared = decode(capabilities) if capabilities is not None else {}

    def _build_capabilities(self, version: str) -> mcp_types.ClientCapabilities:
        return mcp_types.ClientCapabilities.model_validate(self._declared)

    async def _on_request(self, _dctx: Any, method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
        if method == "ping":
            return {}
        try:
            return await self._ears.asked(method, dict(params or {}))
        except Unanswered as error:
            raise MCPError(error.code, error.message) from None
        except UpstreamError as error:
            raise MCPError(NOT_ANSWERED, error.text) from None

    def _intercept_notification(self, method: str, params: Mapping[str, Any] | None) -> bool:
        said = dict(params or {})
        self._ears.heard(method, said)
        self._told(method, said)
        return super()._intercept_notification(method, params)


def _fault(error: MCPError, entry: str) -> Exception:
    code = error.error.code
    if code == _CONNECTION_CLOSED:
        return UpstreamUnavailable(entry, "the connection ended before it answered")
    if code == _REQUEST_TIMEOUT:
        return UpstreamTimeout(entry, "it did not answer in time")
    if code == _PARSE_ERROR:
        return UpstreamInvalid(entry, "its answer is not MCP")
    return UpstreamFault(error.error.model_dump(by_alias=True, exclude_unset=True))


@dataclass(frozen=True, slots=True)
class Events:
    """What a connection tells its owner."""

    ended: Callable[[], None]
    """It can carry nothing more."""
    told: Told
    """The server said something, method and params."""
    deaf: Callable[[], None]
    """It hears nothing any more of what the server says unasked."""


@asynccontextmanager
async def connect(
    server: Server,
    *,
    egress: Sender,
    children: Children,
    permit: OpenPermit,
    events: Events,
    capabilities: msgspec.Raw | None = None,
) -> AsyncIterator[Connection]:
    """Open a connection and do the handshake; `permit` covers the connection's own traffic.

    `capabilities` are those of the one caller that it is for; None: it is shared, and nobody can be asked anything.
    A server that refuses Streamable HTTP is tried over the transport of 2024-11-05.
    To be entered and left by one task, without a deadline around it: the SDK opens task groups.

    Raises:
        UpstreamError: it cannot be reached or does not speak MCP.
    """
    async with AsyncExitStack() as stack:
        if server.command is not None:
            permit.use()
            streams = stdio_transport(children, server, is_shared=capabilities is None, on_end=events.ended)
            opening = _handshake(server, streams, events, capabilities=capabilities)
            yield await _entered(opening, stack, permit.entry_name, None)
            return
        transport = EgressTransport(egress, server, permit, events.deaf)
        try:
            opening = _over_http(server, transport, events, capabilities)
            connection = await _entered(opening, stack, permit.entry_name, transport)
        except UpstreamError:
            if server.is_sse or not transport.refused_post:
                raise
            server = replace(server, is_sse=True)
            transport = EgressTransport(egress, server, permit, events.deaf)
            opening = _over_http(server, transport, events, capabilities)
            connection = await _entered(opening, stack, permit.entry_name, transport)
        yield connection


async def _entered(
    opening: AbstractAsyncContextManager[Connection],
    stack: AsyncExitStack,
    entry: str,
    transport: EgressTransport | None,
) -> Connection:
    """Enter a connection; raises `UpstreamError`."""
    try:
        return await stack.enter_async_context(opening)
    except Exception as error:  # noqa: BLE001 - boundary: the SDK raises groups of anything
        failure = transport.failure if transport is not None else None
        raise _why(failure or error, entry) from None


@asynccontextmanager
async def _handshake(
    server: Server,
    streams: AbstractAsyncContextManager[TransportStreams],
    events: Events,
    *,
    capabilities: msgspec.Raw | None,
    transport: EgressTransport | None = None,
) -> AsyncIterator[Connection]:
    ears = Ears(server, capabilities)
    async with (
        streams as (incoming, outgoing),
        _Session(
            ears,
            capabilities,
            events.told,
            dispatcher=JSONRPCDispatcher(incoming, outgoing),
            client_info=mcp_types.Implementation(**HUB),
            read_timeout_seconds=HANDSHAKE_S,
        ) as session,
    ):
        await (negotiate_auto(session) if transport is None else session.initialize())
        yield Connection(session.protocol_version == MODERN, session, ears, server, transport)


@asynccontextmanager
async def _over_http(
    server: Server, transport: EgressTransport, events: Events, capabilities: msgspec.Raw | None
) -> AsyncIterator[Connection]:
    """Over Streamable HTTP, or the two streams of 2024-11-05."""
    assert server.url is not None

    def client(*_: object, **__: object) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None, follow_redirects=False)

    async with AsyncExitStack() as stack:
        if server.is_sse:
            streams: AbstractAsyncContextManager[TransportStreams] = sse.sse_client(
                server.url, httpx_client_factory=client
            )
        else:
            http = await stack.enter_async_context(client())
            streams = streamable_http_client(server.url, http_client=http, max_sse_event_size=MAX_EVENT_BYTES)
        yield await stack.enter_async_context(
            _handshake(server, streams, events, capabilities=capabilities, transport=transport)
        )


def _why(error: BaseException, entry: str) -> UpstreamError:
    """Say why no connection came about, in words that hold no address and no exception's text."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, MCPError) and error.error.code == _CONNECTION_CLOSED:
        return UpstreamUnavailable(entry, "it ended before the handshake was done")
    if isinstance(error, MCPError) and error.error.code == _REQUEST_TIMEOUT:
        return UpstreamTimeout(entry, "it did not answer the handshake in time")
    return UpstreamInvalid(entry, "its handshake is not MCP")
