"""A hub before one server that waits when it is told to, of any kind; clients of both eras by hand."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from registry.gate import Outcome
from tests.peers import mcp_asking
from tests.peers.mcp_hub import META, McpHub, headers, open_mcp_hub
from tests.peers.mcp_servers import Peer
from tests.until import until

LEGACY = {"mcp-protocol-version": "2025-11-25", "accept": "application/json, text/event-stream"}
ROOT = Path(__file__).parents[2]
KINDS = ("both", "modern", "legacy", "sse", "stdio", "stdio-legacy")
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
            await until(lambda: (self.directory / what).exists())
            (self.directory / what).unlink()

    def kill(self) -> None:
        """Kill -9 the process of it that was started last."""
        started = sorted(self.directory.glob("pid-*"), key=lambda one: one.stat().st_mtime_ns)
        os.kill(int(started[-1].name.removeprefix("pid-")), signal.SIGKILL)

    def release(self) -> None:
        """Let it answer."""
        if self.peer is not None:
            self.peer.release.set()
        else:
            (self.directory / "release").touch()


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
    await until(lambda: len(outcomes(hub)) >= len(expected))
    assert outcomes(hub) == list(expected)


def rpc(method: str, params: dict[str, Any], *, request_id: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def modern_call(tool: str, capabilities: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    meta = {**META, "io.modelcontextprotocol/clientCapabilities": capabilities}
    body = rpc("tools/call", {"name": tool, "arguments": {}, "_meta": meta})
    return body, headers("tools/call", tool)


def legacy_call(tool: str) -> dict[str, Any]:
    return rpc("tools/call", {"name": tool, "arguments": {}}, request_id=7)


def read(answer: httpx.Response) -> dict[str, Any]:
    """The JSON-RPC answer, be it alone or at the end of a stream."""
    is_stream = answer.headers["content-type"].startswith("text/event-stream")
    events = (
        [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")] if is_stream else [answer.text]
    )
    found: dict[str, Any] = json.loads(events[-1])
    return found


async def session(http: httpx.AsyncClient, capabilities: dict[str, Any]) -> dict[str, str]:
    """Open a session; returns the headers of its requests."""
    hello = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}
    answer = await http.post("/mcp", json=rpc("initialize", hello), headers=LEGACY)
    found = {**LEGACY, "mcp-session-id": answer.headers["mcp-session-id"]}
    await http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=found)
    return found


def cancels(peer: Peer | None) -> int:
    """How many `notifications/cancelled` came over HTTP."""
    return sum(b'"notifications/cancelled"' in seen.get(":body", b"") for seen in peer.requests) if peer else 0
