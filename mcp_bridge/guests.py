"""Servers that a chat request brings along: listed and called for that one request, never in the catalog.

Only those that the operator lets in (`hub.foreign_mcp`), to callers who hold `server:{url}`, through the address guard.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec

from mcp_bridge.outcome import result_of_call
from mcp_bridge.pool import Pool
from mcp_bridge.requests import tool_call
from mcp_bridge.screening import judged, screened
from mcp_bridge.sync import tools_of
from mcp_bridge.upstream import Upstream
from mcp_bridge.views import Offered, offered
from registry.access import SEPARATOR, matches
from registry.catalog import Catalog
from registry.entries import Headers, Server, Tool
from registry.errors import InvalidRequest, NotFound
from registry.gate import Gate, Permit
from registry.identity import Principal
from registry.judged import JsonObject, encode
from registry.limits import Limit
from registry.names import name_fault
from registry.trust.listings import Listed
from registry.trust.pins import examine, grave
from registry.trust.scanning import Names

logger = logging.getLogger(__name__)

_PLAIN = re.compile(
    r"(https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:/(?!\.)[!$&-.0-;=@-Z_a-z~]*)*)(?:\?[!-~]*)?"
)
"""Addresses that every parser reads alike; the group is what is judged. No user, backslash, dots
that lead upwards or escapes: the one who judges must read the host and the path that are asked."""


@dataclass(frozen=True, slots=True)
class _Callee:
    """What the gate judges and usage names: the server's address, without what may be secret in it."""

    grant_name: str
    kind: ClassVar[str] = "server"
    limits: ClassVar[tuple[Limit, ...]] = ()
    call_usd: ClassVar[float | None] = None


class Guest:
    """One server during one request."""

    def __init__(self, upstream: Upstream, callee: _Callee, tools: Sequence[Tool], gate: Gate) -> None:
        self._upstream = upstream
        self._callee = callee
        self._tools = {tool.exposed: tool for tool in tools}
        self._gate = gate

    @property
    def offered(self) -> Sequence[Offered]:
        """Its tools."""
        return [offered(tool) for tool in self._tools.values()]

    async def guarded(self, principal: Principal, name: str, *, arguments: JsonObject, within: Permit) -> JsonObject:
        """What guards leave of the arguments of a call; as `Dispatch.guarded`."""
        assert name in self._tools, "it was offered"
        return await self._gate.foreseen(principal, self._callee, within).left(arguments)

    async def call(self, principal: Principal, name: str, *, arguments: JsonObject, within: Permit) -> JsonObject:
        """Call a tool by its exposed name; as `Dispatch.call`."""
        tool = self._tools[name]
        request = tool_call(tool, {"arguments": msgspec.Raw(encode(arguments))})
        with self._gate.admit(principal, self._callee, within=within) as permit:
            answer = await self._upstream.request(await judged(permit, tool, request), permit)
            if permit.screens:
                answer = await screened(permit, answer)
        return result_of_call(answer, tool)


class Guests:
    """Lets them in. One for a process."""

    def __init__(self, catalog: Callable[[], Catalog], pool: Pool, *, gate: Gate, allowed: Sequence[str]) -> None:
        """`allowed` are globs over addresses."""
        self._catalog = catalog
        self._pool = pool
        self._gate = gate
        self._allowed = allowed

    @asynccontextmanager
    async def visit(
        self, principal: Principal, *, url: str, label: str | None, headers: Headers
    ) -> AsyncIterator[Guest]:
        """Connect to a server for the length of a request.

        Raises:
            InvalidRequest: the operator does not let it in, or its label cannot be a name.
            NotFound: the caller holds no grant for it.
            UpstreamError: it cannot be listed.
        """
        found = _PLAIN.fullmatch(url)
        plain = found[1] if found is not None else ""
        if not plain or not any(matches(glob, plain) for glob in self._allowed):
            raise InvalidRequest(
                f"tool source {url!r} is not served here, and servers elsewhere are not let in; write 'hub/mcp/{{name}}', or "
                "have the operator list it under hub.foreign_mcp",
                member="tools",
            )
        callee = _Callee(plain)
        if not principal.grants.allow("server", plain):
            raise NotFound("server", plain)
        name = _name(label, urlsplit(plain).hostname or "", self._catalog())
        server = Server(name=name, url=url, headers=headers, owner="api", trusted=False)
        upstream = self._pool.guest(server)
        try:
            with self._gate.admit(principal, callee) as permit:
                await permit.judge({}, screening=True)
                permit.screens = False  # a list is no result
                permit.uncounted()
                listed = await self._scanned(name, await tools_of(upstream, permit))
            tools = [
                Tool(
                    server=name,
                    name=one.name,
                    exposed=one.exposed,
                    grant_name=f"{name}{SEPARATOR}{one.name}",
                    description=one.description,
                )
                for one in listed
                if one.quarantined is None and grave(one) is None
            ]
            yield Guest(upstream, callee, tools, self._gate)
        finally:
            await upstream.stop(drain_s=0.0)

    async def _scanned(self, name: str, found: Sequence[Listed]) -> Sequence[Listed]:
        """What was listed with what is suspicious in it: nothing of it was approved, nor can be."""
        names = Names(
            [
                *((tool.server, tool.name) for tool in self._catalog().tools.values()),
                *((name, one.name) for one in found),
            ]
        )
        rows = (await asyncio.to_thread(examine, name, found, names)).rows
        for one in rows:
            if (finding := grave(one)) is not None:
                logger.warning("not offered", extra={"server": name, "tool": one.name, "reason": finding.text})
        return rows


def _name(label: str | None, host: str, catalog: Catalog) -> str:
    """What its tools are called by: the caller's label, else its host."""
    name = label or "".join(letter if letter.isalnum() else "-" for letter in host.lower())[:32].strip("-")
    if fault := name_fault(name):
        raise InvalidRequest(f"server_label {name!r}: {fault}", member="tools")
    if name in catalog.servers or name in catalog.toolsets:
        raise InvalidRequest(
            f"server_label {name!r} is the name of a server of the hub; choose another", member="tools"
        )
    return name
