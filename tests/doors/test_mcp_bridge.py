"""What servers ask and tell during a call, between clients and servers of both eras (MCP 2025-11-25 and 2026-07-28)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp import MCPError

from tests.peers import mcp_asking
from tests.peers.mcp_hub import McpHub, open_mcp_hub

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

ROOT = Path(__file__).parents[2]
MODES = ("legacy", "2026-07-28", "auto")
HTTP = ("both", "modern", "legacy")
SERVERS = (*HTTP, "sse", "stdio", "stdio-legacy")


class Person:
    """Answers what a client is asked, and notes it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.progress: list[tuple[float, str | None]] = []
        self.logs: list[tuple[str, Any]] = []
        self.answering = asyncio.Event()
        self.answering.set()

    async def elicit(self, _context: Any, params: Any) -> t.ElicitResult:
        self.asked.append(params)
        await self.answering.wait()
        if params.mode == "url":
            return t.ElicitResult(action="accept")
        member = next(iter(params.requested_schema["properties"]))
        return t.ElicitResult(action="accept", content={member: f"my {member}"})

    async def sample(self, _context: Any, params: Any) -> t.CreateMessageResult:
        self.asked.append(params)
        return t.CreateMessageResult(role="assistant", model="mine", content=t.TextContent(type="text", text="hi"))

    async def roots(self, _context: Any) -> t.ListRootsResult:
        self.asked.append("roots")
        return t.ListRootsResult(roots=[t.Root(uri="file:///home/ann")])

    async def log(self, params: Any) -> None:
        self.logs.append((params.level, params.data))

    async def heard(self, progress: float, _total: float | None, message: str | None) -> None:
        self.progress.append((progress, message))

    @property
    def callbacks(self) -> dict[str, Any]:
        return {
            "elicitation_callback": self.elicit,
            "sampling_callback": self.sample,
            "list_roots_callback": self.roots,
            "logging_callback": self.log,
        }


@asynccontextmanager
async def hub_before(kind: str, directory: Path, more: str = "") -> AsyncIterator[tuple[McpHub, Any]]:
    """A hub before one asking server, called `peer`."""
    if kind.startswith("stdio"):
        entry = f"{{command: {sys.executable}, args: ['-m', tests.peers.mcp_asking, {kind}], cwd: '{ROOT}', sampling: true}}"
        async with open_mcp_hub(directory, f"mcpServers: {{peer: {entry}}}\n{more}") as hub:
            await hub.listed("peer__ask")
            yield hub, None
        return
    serving = mcp_asking.asking_over_sse() if kind == "sse" else mcp_asking.asking(kind)
    async with serving as peer:
        yaml = f"mcpServers: {{peer: {{url: {peer.url}, sampling: true}}}}\n{more}"
        async with open_mcp_hub(directory, yaml) as hub:
            await hub.listed("peer__ask")
            yield hub, peer


def text_of(result: Any) -> str:
    found: str = result.content[0].text
    return found


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_server_of_any_kind_asks_a_client_of_any_era(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, _):
        for mode in MODES:
            person = Person()
            async with hub.client(await hub.key("tool:*"), mode=mode, **person.callbacks) as client:
                said = {name: text_of(await client.call_tool(f"peer__{name}", {})) for name in ("ask", "ask_twice")}
                assert said["ask"].endswith("accept:{'name': 'my name'}")
                assert said["ask_twice"].endswith("accept:{'name': 'my name'} accept:{'color': 'my color'}")
                assert text_of(await client.call_tool("peer__sample", {})).endswith("mine:hi")
                assert text_of(await client.call_tool("peer__roots", {})).endswith("file:///home/ann")
                assert text_of(await client.call_tool("peer__visit", {})).endswith("accept:")
            messages = [params.message for params in person.asked if hasattr(params, "message")]
            assert messages == ["[peer] Who are you?"] * 2 + ["[peer] Which colour?", "[peer] Sign in"]
            era = said["ask"].split()[0]
            if kind == "both":
                assert era == ("legacy" if mode == "legacy" else "modern")
            else:
                assert era == ("legacy" if kind in {"legacy", "stdio-legacy", "sse"} else "modern")


async def test_a_stdio_server_that_speaks_both_eras_is_one_process_for_clients_of_each(tmp_path: Path) -> None:
    async with hub_before("stdio", tmp_path) as (hub, _):
        for mode in ("legacy", "2026-07-28"):
            person = Person()
            async with hub.client(await hub.key("tool:*"), mode=mode, **person.callbacks) as client:
                assert text_of(await client.call_tool("peer__ask", {})) == "modern accept:{'name': 'my name'}"
        upstream = hub.upstream("peer")
        assert upstream.owner.starts == 1
        assert not upstream._sessions._owners


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_client_that_declares_nothing_is_asked_nothing_and_nobody_waits(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, _):
        for mode in ("legacy", "2026-07-28"):
            async with hub.client(await hub.key("tool:*"), mode=mode) as client:
                for name in ("ask", "sample", "roots"):
                    async with asyncio.timeout(10):
                        try:
                            result = await client.call_tool(f"peer__{name}", {})
                        except MCPError:
                            continue
                    assert result.is_error or "legacy" not in text_of(result)


@pytest.mark.parametrize("kind", SERVERS)
async def test_progress_and_logs_reach_the_caller_alone(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, _):
        for mode in ("legacy", "2026-07-28"):
            person, other = Person(), Person()
            secret = await hub.key("tool:*")
            async with (
                hub.client(secret, mode=mode, **other.callbacks) as bystander,
                hub.client(secret, mode=mode, log_level="info", **person.callbacks) as client,
            ):
                if mode == "legacy":
                    await client.set_logging_level("info")
                await bystander.call_tool("peer__echo", {"text": "x"})
                result = await client.call_tool("peer__report", {}, progress_callback=person.heard)
                assert text_of(result) == "reported"
                assert person.progress == [(1, "step 1"), (2, "step 2")]
                if kind != "stdio":  # 2026-07-28 over stdio: one pipe for all callers, and logs carry no caller
                    assert ("warning", "look out") in person.logs
                    assert mode == "legacy" or len(person.logs) == 1
            assert not other.progress
            assert not other.logs
