"""Tools that a server of 2025-11-25 only runs as tasks, called by clients of both eras as any other tool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.peers.mcp_hub import McpHub, headers, message, open_mcp_hub
from tests.peers.mcp_legacy_tasks import RELATED, legacy_task_server
from tests.peers.mcp_servers import Peer, legacy_only

MODES: list[Any] = ["legacy", "2026-07-28"]


@asynccontextmanager
async def hub_of(directory: Path) -> AsyncIterator[tuple[McpHub, Peer]]:
    async with (
        legacy_only(legacy_task_server) as peer,
        open_mcp_hub(directory, f"mcpServers: {{peer: {{url: {peer.url}}}}}") as hub,
    ):
        await hub.listed("peer__work")
        yield hub, peer


@pytest.mark.parametrize("mode", MODES)
async def test_a_tool_that_only_runs_as_a_task_is_waited_for(tmp_path: Path, mode: Any) -> None:
    async with hub_of(tmp_path) as (hub, peer), hub.client(await hub.key("tool:*"), mode=mode) as client:
        (listed,) = (await client.list_tools()).tools
        assert not (listed.model_extra or {}).get("execution")
        peer.release.set()
        result = await client.call_tool("peer__work", {})
        assert result.content[0].text == "worked"
        assert result.meta is not None
        assert result.meta["x"] == 1
        assert RELATED not in result.meta
        assert peer.calls[0][1]["task"]


async def test_a_caller_who_leaves_cancels_the_task_at_its_server(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, peer), hub.http(await hub.key("tool:*")) as http:
        body = message("tools/call", {"name": "peer__work", "arguments": {}})
        call = asyncio.create_task(http.post("/mcp", json=body, headers=headers("tools/call", "peer__work")))
        async with asyncio.timeout(10):
            await peer.waiting.wait()
            call.cancel()
            await peer.cancelled.wait()
        method, params = peer.calls[-1]
        assert (method, params["taskId"]) == ("tasks/cancel", "own")


async def test_a_task_that_a_client_asks_for_in_its_own_words_is_none(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, peer), hub.http(await hub.key("tool:*")) as http:
        peer.release.set()
        params = {"name": "peer__work", "arguments": {}, "task": {"ttl": 1}}
        body = message("tools/call", params)
        answer = await http.post("/mcp", json=body, headers=headers("tools/call", "peer__work"))
        assert answer.json()["result"]["content"][0]["text"] == "worked"
        assert peer.calls[0][1]["task"]["ttl"] > 1
