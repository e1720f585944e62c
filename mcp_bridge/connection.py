"""One connected SDK client to one server, over stdio or as a session over HTTP. The only module that knows the SDK's client.

It leans on the SDK's dispatcher for raw requests (`session._dispatcher`, private in 2.3: hence the pin `mcp<2.4`),
because its typed methods drop unknown fields and let one bad tool hide a whole list.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import mcp_types
from mcp import Client, ClientSession, MCPError
from mcp.client.streamable_http import streamable_http_client

from mcp_bridge.stdio import stdio_transport
from mcp_bridge.transport import PERMIT, EgressTransport
from mcp_bridge.wire import HUB, MODERN
from registry.egress.http import OpenPermit, Sender
from registry.entries import Server
from registry.errors import HubError, UpstreamError, UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable
from registry.judged import JsonObject

CALL_S = 600.0
"""How long one call may take, as everywhere on the way out."""

HANDSHAKE_S = 30.0
MAX_EVENT_BYTES = 16 * 1024 * 1024

_CONNECTION_CLOSED, _REQUEST_TIMEOUT, _PARSE_ERROR = -32000, -32001, -32700
"""Codes that the SDK's client makes up itself."""


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
    transport: EgressTransport | None
    """None: over stdio."""

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

    async def request(self, method: str, params: JsonObject, permit: OpenPermit) -> JsonObject:
        """Send one request and return its result.

        Raises:
            Lost: not executed; a new connection may.
            UpstreamFault: the server answered with an error.
            UpstreamError: no answer.
        """
        if self.is_lost:
            raise Lost
        options: dict[str, Any] = {"timeout": CALL_S}
        transport, number = self.transport, ""
        if transport is None:
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
    tools_changed: Callable[[], None]


@asynccontextmanager
async def connect(
    server: Server, *, egress: Sender, environment: Mapping[str, str], permit: OpenPermit, events: Events
) -> AsyncIterator[Connection]:
    """Open a connection and do the handshake; `permit` covers the connection's own traffic.

    To be entered and left by one task, without a deadline around it: the SDK opens task groups.

    Raises:
        UpstreamError: it cannot be reached or does not speak MCP.
    """

    async def hear(message: object) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            events.tools_changed()

    common: dict[str, Any] = {
        "cache": None,
        "client_info": mcp_types.Implementation(**HUB),
        "message_handler": hear,
        "read_timeout_seconds": HANDSHAKE_S,
    }
    transport = None
    async with AsyncExitStack() as stack:
        if server.command is not None:
            permit.use()
            client = Client(stdio_transport(server, environment, events.ended), mode="auto", **common)
        else:
            assert server.url is not None
            transport = EgressTransport(egress, server, permit)
            http = httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None, follow_redirects=False)
            await stack.enter_async_context(http)
            streams = streamable_http_client(server.url, http_client=http, max_sse_event_size=MAX_EVENT_BYTES)
            client = Client(streams, mode="legacy", **common)
        try:
            await stack.enter_async_context(client)
        except Exception as error:  # noqa: BLE001 - boundary: the SDK raises groups of anything
            failure = transport.failure if transport is not None else None
            raise _why(failure or error, permit.entry_name) from None
        yield Connection(client.protocol_version == MODERN, client.session, transport)


def _why(error: BaseException, entry: str) -> UpstreamError:
    """Say why no connection came about, in words that hold no address and no exception's text."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, FileNotFoundError):
        return UpstreamUnavailable(entry, "its command does not exist")
    if isinstance(error, OSError):
        return UpstreamUnavailable(entry, "its command cannot be started")
    if isinstance(error, MCPError) and error.error.code == _CONNECTION_CLOSED:
        return UpstreamUnavailable(entry, "it ended before the handshake was done")
    if isinstance(error, MCPError) and error.error.code == _REQUEST_TIMEOUT:
        return UpstreamTimeout(entry, "it did not answer the handshake in time")
    return UpstreamInvalid(entry, "its handshake is not MCP")
