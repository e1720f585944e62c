"""The upstreams of the MCP bridge, one for each server of the catalog, following its changes.

An upstream hides how its server is reached: 2026-07-28 over HTTP needs no connection; older HTTP servers and stdio
servers have an owner.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from mcp_bridge import modern
from mcp_bridge.modern import Listener, NotModern
from mcp_bridge.oauth.credentials import Credential, Credentials
from mcp_bridge.openapi.upstream import OpenApi
from mcp_bridge.owner import DRAIN_S, Owner
from mcp_bridge.wire import META_PREFIX, Answer, Request
from registry.catalog import Catalog
from registry.egress.http import Sender
from registry.entries import Server
from registry.errors import UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable
from registry.gate import Gate, Permit
from registry.identity import HUB, Principal
from registry.judged import JsonObject, decode, encode
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


class Upstream:
    """One server, ready to be asked."""

    def __init__(
        self,
        server: Server,
        owner: Owner,
        *,
        gate: Gate,
        egress: Sender,
        credential: Credential | None,
        api: OpenApi | None = None,
    ) -> None:
        self.server = server
        self.owner = owner
        self._gate = gate
        self._egress = egress
        self._credential = credential
        self._api = api
        self._is_modern: bool | None = False if server.command is not None else None
        self._probing = asyncio.Lock()
        self._calls: set[_Stoppable] = set()

    @property
    def token(self) -> str:
        """The access token that the server is shown now; empty: none."""
        return self._credential.access if self._credential is not None else ""

    async def request(self, request: Request, permit: Permit, *, listener: Listener | None = None) -> Answer:
        """Ask the server, in the revision that it speaks.

        Raises:
            UpstreamError: no answer, or the server was switched off meanwhile.
        """
        if self._api is not None:
            with _Stoppable(self._calls, permit.entry_name):
                return await self._api.request(request, permit, self._egress)
        if self._credential is not None:  # before a connection is opened in vain
            await self._credential.tokens()
        with _Stoppable(self._calls, permit.entry_name):
            for _ in range(2):
                if not (self._is_modern or await self._speaks_modern()):
                    return await self._owned(request, permit)
                try:
                    return await modern.post(
                        self._egress, self.server, permit=permit, request=request, listener=listener
                    )
                except NotModern:  # replaced by an older one since it was probed; ask again
                    self._is_modern = None
            raise UpstreamInvalid(permit.entry_name, "it does not settle on a protocol version")

    async def ready(self) -> None:
        """Connect if that is needed, so that a deadline after it is the server's own; raises `UpstreamError`."""
        if self._api is None and not await self._speaks_modern():
            await self.owner.connection()

    async def introduction(self, permit: Permit) -> JsonObject:
        """What the server says of itself: the result of `server/discover` or `initialize`; raises `UpstreamError`."""
        if self._api is not None:
            return {"capabilities": {"tools": {}}}
        if await self._speaks_modern():
            answer = await self.request(Request(method="server/discover"), permit)
            if answer.result is None:
                raise UpstreamInvalid(self.server.name, "it answered server/discover with an error")
            return {member: decode(raw) for member, raw in answer.result.items()}
        return (await self.owner.connection()).introduction

    async def _speaks_modern(self) -> bool:
        if self._is_modern is None:
            async with self._probing:
                if self._is_modern is None:
                    self._is_modern = await self._probe()
        return self._is_modern

    async def _probe(self) -> bool:
        with self._gate.admit(HUB, self.server) as permit:
            try:
                async with asyncio.timeout(modern.PROBE_S):
                    return await modern.is_modern(self._egress, self.server, permit)
            except TimeoutError:
                raise UpstreamTimeout(self.server.name, "it did not say in time which version it speaks") from None

    async def _owned(self, request: Request, permit: Permit) -> Answer:
        from mcp_bridge.connection import UpstreamFault  # noqa: PLC0415 - loads the SDK, which costs a second

        try:
            connection = await self.owner.connection()
            params = modern.envelope(request) if connection.is_modern else _without_envelope(request)
            result = await self.owner.request(request.method, decode(encode(params)), permit)
        except UpstreamFault as fault:
            return Answer(error=msgspec.Raw(encode(fault.error)))
        except UpstreamUnavailable:
            if self.server.command is None:
                self._is_modern = None  # it may come back as another
            raise
        return Answer(result={name: msgspec.Raw(encode(value)) for name, value in result.items()})

    async def stop(self, *, drain_s: float) -> None:
        """End the connection; without `drain_s` the calls under way end now."""
        if not drain_s:
            for call in self._calls:
                call.stop()
        await self.owner.stop(drain_s=drain_s)


class _Stoppable:
    """`with`: a call that `stop` ends at once, as one whose server was switched off. Use inside a task."""

    __slots__ = ("_calls", "_entry", "_stopped", "_task")

    def __init__(self, calls: set[_Stoppable], entry: str) -> None:
        self._calls = calls
        self._entry = entry
        self._stopped = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._calls.add(self)

    def stop(self) -> None:
        if self._task is not None and not self._stopped:
            self._stopped = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls.discard(self)
        # our own cancel is taken back; one that somebody else asked for meanwhile stays
        if self._stopped and self._task is not None and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise UpstreamUnavailable(self._entry, "it was switched off") from None


def _without_envelope(request: Request) -> JsonObject:
    """Older servers know no envelope; progress of a shared connection cannot be told apart, so none is asked for."""
    kept = {
        name: raw for name, raw in request.meta.items() if not name.startswith(META_PREFIX) and name != "progressToken"
    }
    return {**request.params, "_meta": kept} if kept else request.params


class Pool:
    """One upstream for each server; a changed server gets a new one, the others are untouched."""

    def __init__(
        self, registry: Registry, *, gate: Gate, credentials: Credentials, environment: Mapping[str, str]
    ) -> None:
        """`environment` is the hub's own; stdio servers see the harmless part of it."""
        self._gate = gate
        self._credentials = credentials
        self._environment = environment
        self._upstreams: OrderedDict[tuple[str, str], Upstream] = OrderedDict()
        self._apis: dict[str, OpenApi] = {}
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)
        self._stopping: set[asyncio.Task[None]] = set()
        self._closed = False
        self.tools_changed: Callable[[str], None] = lambda _server: None
        """Called with a server's name when it says that its tools changed."""
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
        sender = self._credentials.sender(server, principal)
        credential = self._credentials.of(server, principal)
        owner = self._owner(server, sender)
        api = self._api(server)
        upstream = Upstream(server, owner, gate=self._gate, egress=sender, credential=credential, api=api)
        self._upstreams[key] = upstream
        if len(self._upstreams) > MAX_UPSTREAMS:
            self._stop(self._upstreams.popitem(last=False)[1], DRAIN_S)
        return upstream

    async def connected(self, server: Server, principal: Principal) -> None:
        """Wait a while for a principal to connect its account."""
        credential = self._credentials.of(server, principal)
        if credential is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CONSENT_S):
                    await credential.connected.wait()

    async def aclose(self) -> None:
        """End every connection and child."""
        self._closed = True
        for upstream in self._upstreams.values():
            self._stop(upstream, 0.0)
        self._upstreams.clear()
        if self._stopping:
            await asyncio.wait(self._stopping)

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

    def _owner(self, server: Server, sender: Sender) -> Owner:
        def open_connection(events: Events) -> AbstractAsyncContextManager[Connection]:
            return self._open(server, sender, events)

        return Owner(
            server.name,
            open_connection,
            idle_s=STDIO_IDLE_S if server.command is not None else HTTP_IDLE_S,
            starting=self._starting,
            tools_changed=lambda: self.tools_changed(server.name),
        )

    @asynccontextmanager
    async def _open(self, server: Server, sender: Sender, events: Events) -> AsyncIterator[Connection]:
        from mcp_bridge.connection import connect  # noqa: PLC0415 - loads the SDK, which costs a second

        with self._gate.admit(HUB, server) as permit:
            async with connect(
                server, egress=sender, environment=self._environment, permit=permit, events=events
            ) as connection:
                yield connection

    def _follow(self, old: Catalog, new: Catalog) -> None:
        """Let go of servers that are gone or switched off, now, and of changed ones when their calls are done."""
        for key, upstream in list(self._upstreams.items()):
            server = new.servers.get(upstream.server.name)
            if server != upstream.server:
                del self._upstreams[key]
                self._apis.pop(upstream.server.name, None)
                self._stop(upstream, 0.0 if server is None else DRAIN_S)

    def _stop(self, upstream: Upstream, drain_s: float) -> None:
        task = asyncio.get_running_loop().create_task(upstream.stop(drain_s=drain_s))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
