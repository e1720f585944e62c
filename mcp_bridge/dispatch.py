"""The one way to MCP servers, whoever asks for what: the MCP door in either revision, a chat, an own agent.

Decides by the caller's view, passes the gate, asks the upstream, hands back its answer raw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from mcp_bridge import agent_shapes
from mcp_bridge.agent_tools import AgentTools
from mcp_bridge.consent import connected, is_invitation, result_of
from mcp_bridge.handles import Handles
from mcp_bridge.listener import Front, Listener
from mcp_bridge.outcome import result_of_call
from mcp_bridge.personal import Personal
from mcp_bridge.pool import Pool
from mcp_bridge.requests import tool_call
from mcp_bridge.screening import behind_guards, judged, screened
from mcp_bridge.tasks import Tasks, request_of, shown, shown_of_agent
from mcp_bridge.uris import split_uri
from mcp_bridge.views import AGGREGATE, Offered, View, Views, may_show
from mcp_bridge.wire import TASK, Answer, Request, as_raw
from registry.access import SEPARATOR
from registry.discreet import discreet
from registry.entries import AgentTool, Feature, Server, Tool
from registry.errors import ConsentNeeded, NotFound, UpstreamUnavailable
from registry.gate import Gate, Permit
from registry.identity import TASK_HEADER_NAME, Principal
from registry.judged import JsonObject, encode
from registry.registry import Registry
from registry.search.finding import Seeker
from registry.search.meaning import Asker, Meanings


class Dispatch:
    """Shows principals what they may use, and relays what they ask of it."""

    def __init__(
        self,
        registry: Registry,
        *,
        gate: Gate,
        pool: Pool,
        handles: Handles,
        personal: Personal,
        agents: AgentTools | None = None,
    ) -> None:
        """Without `agents` (as `hubbub doctor`) none can be called."""
        self._registry = registry
        self._gate = gate
        self._pool = pool
        self._agents = agents
        self._personal = personal
        self._views = Views()
        self.tasks = Tasks(handles)
        self.first: Mapping[str, asyncio.Future[None]] = {}
        """As `Sync.first`: what of lists has to be waited for."""
        self.meanings: Meanings | None = None
        """What tools mean; None: they are searched by words alone."""

    def view(self, principal: Principal, path: str = AGGREGATE) -> View:
        """The principal's tools at a path of the MCP door; raises `NotFound`."""
        catalog = self._registry.catalog
        own = self._personal.view(catalog, principal, path) if self._personal.servers else None
        return own or self._views.of(catalog, principal.grants, path)

    @property
    def serves_accounts(self) -> bool:
        """Whether any server lists to accounts, so that callers' own lists are to be read."""
        return bool(self._personal.servers)

    @property
    def prepares(self) -> bool:
        """Whether callers are to be prepared for: some list of theirs may not be known."""
        return bool(self._personal.servers or self.first)

    def has_own_lists(self, principal: Principal) -> bool:
        """Whether the principal may be shown something else than others with the same grants."""
        return self._personal.has(principal)

    async def prepare(
        self, principal: Principal, paths: Sequence[str | None] = (), *, named: str | None = None
    ) -> None:
        """Wait a while until it is known what servers list for the principal's own accounts, and at all.

        `paths`: as `offered` takes them; of no other server the first list is waited for. `named`: the name or URI that is
        asked for there; None: all are.
        """
        first = {server for path in paths for server in self._unread(principal, path or AGGREGATE, named)}
        if first:
            await asyncio.wait([self.first[server] for server in first])
        await self._personal.prepare(principal)

    def _unread(self, principal: Principal, path: str, named: str | None) -> list[str]:
        """The servers whose first list is being read, and may have what is asked for at a path."""
        catalog = self._registry.catalog
        found = [server for server in self.first if may_show(catalog, principal.grants, path, server)]
        if not found or named is None or path in catalog.servers:
            return found
        uri = split_uri(named)
        server = uri[0] if uri is not None else named.partition(SEPARATOR)[0]
        if server in catalog.servers:
            return [server] if server in found else []
        return [] if named in self.view(principal, path).tools else found  # a toolset's own name for a tool, or none

    def seeker(self, principal: Principal, request_id: str) -> Seeker | None:
        """Who searches by meaning, where that can be done."""
        return None if self.meanings is None else Seeker(self.meanings, Asker(principal, request_id))

    def tool(self, principal: Principal, name: str, *, path: str = AGGREGATE) -> Tool:
        """The tool that is shown to the principal as `name` at `path`; raises `NotFound`."""
        return self.view(principal, path).tool(name)

    def renew(self, principal: Principal) -> None:
        """Have what servers list for the principal's own accounts read again, where that is old."""
        self._personal.renew(principal)

    async def relay(
        self,
        principal: Principal,
        callee: Feature | Server,
        request: Request,
        *,
        request_id: str = "",
        within: Permit | None = None,
        listener: Listener | None = None,
    ) -> Answer:
        """Ask the server of what a view showed; a server itself is called with methods that the hub does not know.

        Every request of a caller to an MCP server, or to an agent as a tool, passes here. `within` is the permit of the
        request that the call is part of.

        Raises:
            NotFound: not granted, or gone.
            RateLimited: the key's pace.
            UpstreamError: no answer.
        """
        if isinstance(callee, AgentTool):
            assert self._agents is not None, "no agent is a tool without"
            return await self._agents.call(
                principal, callee, request, request_id=request_id, within=within, listener=listener
            )
        server = self._registry.catalog.servers.get(callee.server if isinstance(callee, Feature) else callee.name)
        if server is None:
            raise NotFound(callee.kind, callee.grant_name)
        with self._gate.admit(principal, callee, request_id=request_id, within=within) as permit:
            if permit.unjudged:
                request = await judged(permit, callee, request)
            request = _in_task(request, principal)
            if server.limits or server.tool_bounds or permit.is_counted:
                _count(permit, server, callee, request)
            if server.unavailable is not None:
                raise UpstreamUnavailable(server.name, server.unavailable)
            if server.serves_accounts and is_invitation(callee):
                await self._pool.sign_in(server, principal)
                return Answer(as_raw(connected(server.name)))
            upstream = self._pool.upstream(server, principal)
            answer = await upstream.request(request, permit, listener=behind_guards(listener, permit))
            if server.price is not None and request.method == "tools/call" and answer.error is None:
                permit.charge(server.price.of(request.name or ""))
            if permit.screens:
                answer = await screened(permit, answer)
        if answer.error is not None:
            return Answer(error=msgspec.Raw(discreet(server, bytes(answer.error), upstream.token)))
        return answer

    async def follow(
        self,
        principal: Principal,
        view: View,
        request: Request,
        *,
        request_id: str = "",
        within: Permit | None = None,
        listener: Listener | None = None,
    ) -> Answer:
        """Ask about a task that a call of the principal became; `request` is the caller's own, its name the task's.

        Raises:
            InvalidParams: no such task of theirs in the view.
            HubError: as `relay`.
        """
        task = self.tasks.open(request.name or "", view, principal)
        asked = request_of(task, request)
        answer = await self.relay(principal, task.tool, asked, request_id=request_id, within=within, listener=listener)
        if answer.result is not None and isinstance(task.tool, AgentTool):
            return Answer(shown_of_agent(answer.result, task))
        server = self._registry.catalog.servers.get(task.tool.server)
        if answer.result is None or server is None:
            return answer
        token = self._pool.upstream(server, principal).token
        return Answer(shown(answer.result, task, asked, view=view, server=server, token=token))

    async def list_for(self, principal: Principal, server_name: str) -> None:
        """List a server for a principal that has just connected its account; raises `NotFound`."""
        await self._personal.refresh(server_name, principal)

    async def connected(self, principal: Principal, server_name: str) -> None:
        """Wait a while for a principal to connect its account at a server."""
        server = self._registry.catalog.servers.get(server_name)
        if server is not None:
            await self._pool.connected(server, principal)

    async def roots_changed(self, front: Front) -> None:
        """Tell the servers that may ask a front session for its roots that these are others now."""
        await self._pool.roots_changed(front)

    def offered(self, principal: Principal, source: str | None) -> Sequence[Offered]:
        """The tools of a server or toolset that a chat of the principal may use; none for an unknown one.

        None: of all; `agent`, which no server is called: the agents.
        """
        if source == agent_shapes.SERVER:
            return [tool for tool in self.view(principal).offered if tool.server == source]
        try:
            return self.view(principal, source or AGGREGATE).offered
        except NotFound:
            return ()

    async def guarded(self, principal: Principal, name: str, *, arguments: JsonObject, within: Permit) -> JsonObject:
        """What guards leave of the arguments of a call that is to be approved, which is made when it is.

        Raises:
            NotFound: there is no such tool for the principal.
            PolicyRefused: a rule or a guard is against the call.
        """
        return await self._gate.foreseen(principal, self.tool(principal, name), within).left(arguments)

    async def call(
        self, principal: Principal, name: str, *, arguments: JsonObject, within: Permit | None = None
    ) -> JsonObject:
        """Call a tool by its exposed name and return its result decoded; a JSON-RPC error becomes an `isError` result.

        URIs in it are the server's own: a model gives them to other tools of that server, as arguments.

        Raises:
            HubError: as `relay`.
        """
        tool = self.tool(principal, name)
        request = tool_call(tool, {"arguments": msgspec.Raw(encode(arguments))})
        try:
            answer = await self.relay(principal, tool, request, within=within)
        except ConsentNeeded as needed:
            return result_of(needed)
        return result_of_call(answer, tool)


def _in_task(request: Request, principal: Principal) -> Request:
    """A request that says which task tree it is part of, where it is of one."""
    if principal.task is None:
        return request
    token = principal.task.token
    meta = {**request.meta, TASK: msgspec.Raw(encode(token))} if request.method == "tools/call" else request.meta
    return msgspec.structs.replace(request, headers=(*request.headers, (TASK_HEADER_NAME, token)), meta=meta)


CALLS = frozenset({"tools/call", "prompts/get", "resources/read"})
"""Requests that limits count. Others are about what those made, or look at what there is."""


def _count(permit: Permit, server: Server, callee: Feature | Server, request: Request) -> None:
    """Tell a permit of the server's limits, and what the call costs."""
    if isinstance(callee, Feature) and request.method not in CALLS:
        permit.uncounted()
        return
    limits = server.limits_of(callee) if isinstance(callee, Feature) else ()  # the gate knows a server's own
    price = server.price
    usd = None if price is None else price.of(request.name or "") if request.method == "tools/call" else price.call
    permit.bound(limits, usd)
