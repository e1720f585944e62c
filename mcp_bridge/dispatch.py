"""The one tool call of the hub, whoever asks: the MCP door in either revision, a chat, an own agent.

Decides by the caller's view, passes the gate, asks the upstream, hands back its answer raw.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mcp_bridge.headers import annotated, parameter_headers
from mcp_bridge.modern import Listener
from mcp_bridge.pool import Pool
from mcp_bridge.views import AGGREGATE, Offered, View, Views
from mcp_bridge.wire import Answer, Request
from registry.discreet import discreet
from registry.entries import Headers, Tool
from registry.errors import InvalidParams, NotFound, UpstreamInvalid, UpstreamUnavailable
from registry.gate import Gate, Permit
from registry.identity import Principal
from registry.judged import JsonObject, RawObject, decode, encode
from registry.registry import Registry


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of a tool call, beside which tool it is."""

    arguments: msgspec.Raw | None = None
    """A JSON object, encoded; None: none were given."""
    params: RawObject = {}
    """Further members of the params, passed on as they came: never `name`, `arguments` or `_meta`."""
    meta: RawObject = {}
    """The caller's `_meta`."""


class Dispatch:
    """Lists and calls tools for principals."""

    def __init__(self, registry: Registry, *, gate: Gate, pool: Pool) -> None:
        self._registry = registry
        self._gate = gate
        self._pool = pool
        self._views = Views()

    def view(self, principal: Principal, path: str = AGGREGATE) -> View:
        """The principal's tools at a path of the MCP door; raises `NotFound`."""
        return self._views.of(self._registry.catalog, principal.grants, path)

    def tool(self, principal: Principal, name: str, *, path: str = AGGREGATE) -> Tool:
        """The tool that is shown to the principal as `name` at `path`; raises `NotFound`."""
        tool = self.view(principal, path).tools.get(name)
        if tool is None:
            raise NotFound("tool", name)
        return tool

    async def call_tool(
        self,
        principal: Principal,
        tool: Tool,
        call: Call,
        *,
        request_id: str = "",
        within: Permit | None = None,
        listener: Listener | None = None,
    ) -> Answer:
        """Call a tool that `tool` or `view` returned. Every tool call of the hub passes here.

        `within` is the permit of the request that the call is part of.

        Raises:
            NotFound: not granted, or gone.
            RateLimited: the key's pace.
            UpstreamError: no answer.
        """
        server = self._registry.catalog.servers.get(tool.server)
        if server is None:
            raise NotFound("tool", tool.exposed)
        with self._gate.admit(principal, tool, request_id=request_id, within=within) as permit:
            if server.unavailable is not None:
                raise UpstreamUnavailable(server.name, server.unavailable)
            request = _request(tool, call)
            answer = await self._pool.upstream(server).request(request, permit, listener=listener)
        if answer.error is not None:
            return Answer(error=msgspec.Raw(discreet(server, bytes(answer.error))))
        return answer

    def offered(self, principal: Principal, source: str | None) -> Sequence[Offered]:
        """The tools of a server or toolset (None: all) that a chat of the principal may use; none for an unknown one."""
        try:
            return self.view(principal, source or AGGREGATE).offered
        except NotFound:
            return ()

    async def call(self, principal: Principal, name: str, *, arguments: JsonObject, within: Permit) -> JsonObject:
        """Call a tool by its exposed name and return its result decoded; a JSON-RPC error becomes an `isError` result.

        Raises:
            HubError: as `call_tool`.
        """
        tool = self.tool(principal, name)
        answer = await self.call_tool(principal, tool, Call(arguments=msgspec.Raw(encode(arguments))), within=within)
        if answer.result is None:
            return {"content": [{"type": "text", "text": answer.error_text}], "isError": True}
        result: JsonObject = {member: decode(raw) for member, raw in answer.result.items()}
        check_complete(answer, tool)
        return result


def check_complete(answer: Answer, tool: Tool) -> None:
    """Refuse a result that asks its caller for input; raises `UpstreamInvalid`."""
    kind = (answer.result or {}).get("resultType")
    if kind is not None and decode(kind) != "complete":
        raise UpstreamInvalid(tool.grant_name, "it asks for input, which cannot be passed on here")


def _request(tool: Tool, call: Call) -> Request:
    params: JsonObject = {**call.params, "name": tool.name}
    if call.arguments is not None:
        params["arguments"] = call.arguments
    meta = call.meta
    if "baggage" in meta:
        meta = {name: raw for name, raw in meta.items() if name != "baggage"}
    headers: Headers = ()
    if annotated(tool.description):
        given = decode(call.arguments) if call.arguments is not None else {}
        headers = parameter_headers(decode(tool.description)["inputSchema"], given)
    return Request(method="tools/call", params=params, meta=meta, name=tool.name, headers=headers)


def check_arguments(raw: msgspec.Raw | None) -> msgspec.Raw | None:
    """Return the arguments if they are an object or absent; null counts as absent.

    Raises:
        InvalidParams: they are something else.
    """
    if raw is None:
        return None
    text = bytes(raw).lstrip()
    if text == b"null":
        return None
    if not text.startswith(b"{"):
        raise InvalidParams("arguments must be an object", member="arguments")
    return raw
