"""Calls that end before their server answers: the server hears of it, and each is settled once (MCP, Cancellation)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.gate import Outcome
from tests.attacks.test_legacy_mcp import LEGACY, rpc
from tests.peers import mcp_asking
from tests.peers.mcp_hub import META, McpHub, headers, open_mcp_hub
from tests.peers.mcp_servers import Peer

ROOT = Path(__file__).parents[2]
SERVERS = ("both", "modern", "legacy", "sse", "stdio", "stdio-legacy")
ASKABLE = {"elicitation": {"form": {}}}


@dataclass
class Waiting:
    """A server whose tool `wait` waits, in this process or in one of its own."""

    peer: Peer | None
    directory: Path

    async def until(self, what: str) -> None:
        """Wait until it is `waiting` or `cancelled`; once for each time it is."""
        async with asyncio.timeout(20):
            if self.peer is not None:
                await getattr(self.peer, what).wait()
                getattr(self.peer, what).clear()
                return
            while not (self.directory / what).exists():
                await asyncio.sleep(0.01)
            (self.directory / what).unlink()


@asynccontextmanager
async def hub_before(kind: str, directory: Path) -> AsyncIterator[tuple[McpHub, Waiting]]:
    """A hub before one server, called `peer`."""
    if kind.startswith("stdio"):
        args = f"['-m', tests.peers.mcp_asking, {kind}, '{directory}']"
        yaml = f"mcpServers: {{peer: {{command: {sys.executable}, args: {args}, cwd: '{ROOT}'}}}}\n"
        async with open_mcp_hub(directory, yaml) as hub:
            await hub.listed("peer__wait")
            yield hub, Waiting(None, directory)
        return
    serving = mcp_asking.asking_over_sse() if kind == "sse" else mcp_asking.asking(kind)
    async with serving as peer, open_mcp_hub(directory, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n") as hub:
        await hub.listed("peer__wait")
        yield hub, Waiting(peer, directory)


def outcomes(hub: McpHub) -> list[Outcome]:
    """How the calls of tools that wait ended so far, each once."""
    permits = [one for one in hub.gate.permits if one.kind == "tool" and one.entry_name != "peer__echo"]
    found = [hub.gate.outcomes.get(id(permit), []) for permit in permits]
    assert all(len(one) <= 1 for one in found)
    return [one[0] for one in found if one]


async def settled(hub: McpHub, *expected: Outcome) -> None:
    """Wait until that many calls have ended, and see how."""
    async with asyncio.timeout(20):
        while len(outcomes(hub)) < len(expected):
            await asyncio.sleep(0.01)
    assert outcomes(hub) == list(expected)


def modern_call(tool: str, capabilities: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    meta = {**META, "io.modelcontextprotocol/clientCapabilities": capabilities}
    body = rpc("tools/call", {"name": tool, "arguments": {}, "_meta": meta})
    return body, headers("tools/call", tool)


def legacy_call(tool: str) -> dict[str, Any]:
    return {**rpc("tools/call", {"name": tool, "arguments": {}}), "id": 7}


async def session(http: httpx.AsyncClient, capabilities: dict[str, Any]) -> dict[str, str]:
    """Open a session; returns the headers of its requests."""
    hello = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}
    answer = await http.post("/mcp", json=rpc("initialize", hello), headers=LEGACY)
    found = {**LEGACY, "mcp-session-id": answer.headers["mcp-session-id"]}
    await http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=found)
    return found


async def leave(call: asyncio.Task[Any]) -> None:
    call.cancel()
    await asyncio.wait([call])


def cancels(peer: Peer | None) -> int:
    """How many `notifications/cancelled` came over HTTP."""
    return sum(b'"notifications/cancelled"' in seen.get(":body", b"") for seen in peer.requests) if peer else 0


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_modern_client_that_leaves_cancels_its_call_at_the_server(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, server), hub.http(await hub.key("tool:*")) as http:
        for number, capabilities in enumerate(({}, ASKABLE), start=1):
            body, given = modern_call("peer__wait", capabilities)
            call = asyncio.create_task(http.post("/mcp", json=body, headers=given))
            await server.until("waiting")
            await leave(call)
            await server.until("cancelled")
            await settled(hub, *["cancelled"] * number)
        if kind in {"both", "modern"}:
            assert cancels(server.peer) == 0  # the connection closes, and says it all
        elif server.peer is not None:
            assert cancels(server.peer) == 2
        body, given = modern_call("peer__echo", {})
        assert "result" in (await http.post("/mcp", json=body, headers=given)).json()
        assert hub.upstream("peer").owner.starts <= 1


async def by_leaving(_http: httpx.AsyncClient, _session: dict[str, str], call: asyncio.Task[httpx.Response]) -> None:
    await leave(call)


async def by_notification(http: httpx.AsyncClient, given: dict[str, str], call: asyncio.Task[httpx.Response]) -> None:
    told = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7, "reason": "no more"}}
    assert (await http.post("/mcp", json=told, headers=given)).status_code == 202
    async with asyncio.timeout(20):
        assert "result" not in (await call).text


@pytest.mark.parametrize("kind", SERVERS)
async def test_an_older_client_cancels_its_call_at_the_server(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, server), hub.http(await hub.key("tool:*")) as http:
        ways = [(cancel, capabilities) for cancel in (by_leaving, by_notification) for capabilities in ({}, ASKABLE)]
        for number, (cancel, capabilities) in enumerate(ways, start=1):
            given = await session(http, capabilities)
            call = asyncio.create_task(http.post("/mcp", json=legacy_call("peer__wait"), headers=given))
            await server.until("waiting")
            await cancel(http, given, call)
            await server.until("cancelled")
            await settled(hub, *["cancelled"] * number)
            assert "result" in (await http.post("/mcp", json=legacy_call("peer__echo"), headers=given)).json()
        if kind == "modern":
            assert cancels(server.peer) == 0
        elif server.peer is not None:
            assert cancels(server.peer) == len(ways)
