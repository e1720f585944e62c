"""The upstreams of the MCP bridge, one for each server of the catalog, following its changes.

An upstream hides how its server is reached: 2026-07-28 over HTTP needs no connection; older HTTP servers and stdio
servers have an owner.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from mcp_bridge.handles import Handles
from mcp_bridge.line import Line
from mcp_bridge.listener import Front
from mcp_bridge.oauth.credentials import Credentials
from mcp_bridge.openapi.upstream import OpenApi
from mcp_bridge.owner import DRAIN_S, Owner
from mcp_bridge.sessions import Sessions
from mcp_bridge.stdio.children import Children
from mcp_bridge.upstream import Access, Upstream
from registry.catalog import Catalog
from registry.egress.http import Sender
from registry.entries import Server
from registry.errors import UpstreamUnavailable
from registry.gate import Gate
from registry.identity import HUB, Principal
from registry.registry import Registry

if TYPE_CHECKING:
    from mcp_bridge.connection import Connection, Events

STARTS_AT_ONCE = 4
"""Connections opened at the same time: more Python or Node children starting together starve one another."""

CONSENT_S = 30.0
"""How long a client that opened a connect link waits in one request; it may ask again."""

MAX_UPSTREAMS = 10_000
"""Servers, or where each principal has a credential of its own, servers times principals; the oldest go first."""

STDIO_IDLE_S = 900.0
HTTP_IDLE_S = 300.0

MAX_STDIO_SESSIONS = 32
"""Children of one server that serve one caller each, beside the shared one."""

MAX_HTTP_SESSIONS = 2000
"""Sessions with one server that serve one caller each."""


class Pool:
    """One upstream for each server; a changed server gets a new one, the others are untouched."""

    def __init__(
        self,
        registry: Registry,
        *,
        gate: Gate,
        credentials: Credentials,
        handles: Handles,
        children: Children,
    ) -> None:
        self._gate = gate
        self._credentials = credentials
        self._handles = handles
        self._children = children
        self._upstreams: OrderedDict[tuple[str, str], Upstream] = OrderedDict()
        self._apis: dict[str, OpenApi] = {}
        self._lines: dict[str, tuple[Server, Line]] = {}
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)
        self._stopping: set[asyncio.Task[None]] = set()
        self._closed = False
        self.lists_changed: Callable[[str], None] = lambda _server: None
        """Called with a server's name when it says that what it offers changed."""
        registry.subscribe(self._follow)

    def upstream(self, server: Server, principal: Principal = HUB) -> Upstream:
        """The upstream of a server of the current catalog; where the principal has a credential of its own, its own."""
        key = (server.name, "") if server.auth is None else (server.name, self._credentials.scope_of(server, principal))
        upstream = self._upstreams.get(key)
        if upstream is not None and (upstream.server is server or upstream.server == server):
            return upstream
        if self._closed:
            raise UpstreamUnavailable(server.name, "the hub is stopping")
        if upstream is not None:
            self._stop(upstream, DRAIN_S)
        upstream = self._made(server, principal, self._line(server))
        self._upstreams[key] = upstream
        if len(self._upstreams) > MAX_UPSTREAMS:
            self._stop(self._upstreams.popitem(last=False)[1], DRAIN_S)
        return upstream

    def guest(self, server: Server) -> Upstream:
        """An upstream for a server outside the catalog; whoever asks for it stops it."""
        if self._closed:
            raise UpstreamUnavailable(server.name, "the hub is stopping")
        return self._made(server, HUB, Line(server.name, server.concurrency))

    def _made(self, server: Server, principal: Principal, line: Line) -> Upstream:
        sender, credential = self._credentials.sender(server, principal), self._credentials.of(server, principal)
        access = Access(sender, credential, self._api(server), line, self._saying(server))
        limit = MAX_STDIO_SESSIONS if server.command is not None else MAX_HTTP_SESSIONS
        sessions = Sessions(lambda capabilities: self._owner(server, sender, capabilities), limit=limit)
        owner = self._owner(server, sender, None)
        return Upstream(server, owner, sessions, gate=self._gate, handles=self._handles, access=access)

    async def sign_in(self, server: Server, principal: Principal) -> None:
        """Make sure of what a principal shows to a server; raises `ConsentNeeded`, or `UpstreamError`."""
        credential = self._credentials.of(server, principal)
        if credential is not None:
            await credential.tokens()

    async def connected(self, server: Server, principal: Principal) -> None:
        """Wait a while for a principal to connect its account."""
        credential = self._credentials.of(server, principal)
        if credential is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CONSENT_S):
                    await credential.connected.wait()

    async def roots_changed(self, front: Front) -> None:
        """As `Dispatch.roots_changed`."""
        await asyncio.gather(*(upstream.roots_changed(front) for upstream in self._upstreams.values()))

    async def aclose(self) -> None:
        """End every connection and child."""
        self._closed = True
        for upstream in self._upstreams.values():
            self._stop(upstream, 0.0)
        self._upstreams.clear()
        if self._stopping:
            await asyncio.wait(self._stopping)

    def _line(self, server: Server) -> Line:
        """The one line before a server, whichever account its calls use."""
        found = self._lines.get(server.name)
        if found is None or found[0] != server:
            found = self._lines[server.name] = server, Line(server.name, server.concurrency)
        return found[1]

    def _api(self, server: Server) -> OpenApi | None:
        """The one reader of a server's OpenAPI document, for all its upstreams."""
        if server.openapi is None:
            return None
        api = self._apis.get(server.name)
        if api is None or api.server != server:
            # the document is nobody's account's
            egress = self._credentials.sender(replace(server, auth=None), HUB)
            api = self._apis[server.name] = OpenApi(server, egress)
        return api

    def _owner(self, server: Server, sender: Sender, capabilities: msgspec.Raw | None) -> Owner:
        def open_connection(events: Events) -> AbstractAsyncContextManager[Connection]:
            return self._open(server, sender, events, capabilities)

        return Owner(
            server.name,
            open_connection,
            idle_s=STDIO_IDLE_S if server.command is not None else HTTP_IDLE_S,
            starting=self._starting,
            admit=lambda: self._gate.admit(HUB, server),
            lists_changed=self._saying(server),
        )

    def _saying(self, server: Server) -> Callable[[], None]:
        return lambda: self.lists_changed(server.name)

    @asynccontextmanager
    async def _open(
        self, server: Server, sender: Sender, events: Events, capabilities: msgspec.Raw | None
    ) -> AsyncIterator[Connection]:
        from mcp_bridge.connection import connect  # noqa: PLC0415 - loads the SDK, which costs a second

        with self._gate.admit(HUB, server) as permit:
            async with connect(
                server,
                egress=sender,
                children=self._children,
                permit=permit,
                events=events,
                capabilities=capabilities,
            ) as connection:
                yield connection

    def _follow(self, old: Catalog, new: Catalog) -> None:
        """Let go of servers that are gone or switched off, now, and of changed ones when their calls are done."""
        for key, upstream in list(self._upstreams.items()):
            server = new.servers.get(upstream.server.name)
            if server != upstream.server:
                del self._upstreams[key]
                self._apis.pop(upstream.server.name, None)
                self._lines.pop(upstream.server.name, None)
                self._stop(upstream, 0.0 if server is None else DRAIN_S)

    def _stop(self, upstream: Upstream, drain_s: float) -> None:
        task = asyncio.get_running_loop().create_task(upstream.stop(drain_s=drain_s))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
