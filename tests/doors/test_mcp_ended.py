"""Calls whose server is switched off or edited, or whose hub ends, while they are under way."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers import mcp_asking
from tests.peers.mcp_hub import McpHub
from tests.peers.mcp_waiting import (
    ASKABLE,
    KINDS,
    ROOT,
    Waiting,
    hub_before,
    legacy_call,
    modern_call,
    read,
    session,
    settled,
)
from tests.processes import hub_process


async def under_way(
    http: httpx.AsyncClient, server: Waiting, tool: str = "peer__wait"
) -> list[asyncio.Task[httpx.Response]]:
    """Calls of clients of both eras, each with and without something to be asked, that the server works at."""
    calls = []
    for capabilities in ({}, ASKABLE):
        body, given = modern_call(tool, capabilities)
        calls.append(asyncio.create_task(http.post("/mcp", json=body, headers=given)))
        await server.until("waiting")
        given = await session(http, capabilities)
        calls.append(asyncio.create_task(http.post("/mcp", json=legacy_call(tool), headers=given)))
        await server.until("waiting")
    return calls


async def edited(hub: McpHub, **servers: Any) -> None:
    """Change hub.yaml's servers."""
    await hub.services.registry.follow_file(replace(hub.services.declared, servers=servers))


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_of_a_server_that_is_switched_off_end_at_once_and_say_why(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, server), hub.http(await hub.key("tool:*")) as http:
        calls = await under_way(http, server)
        await edited(hub)
        async with asyncio.timeout(20):
            answers = [read(await call) for call in calls]
        assert [answer["error"]["message"] for answer in answers] == ["peer__wait: it was switched off"] * 4
        await server.until("cancelled")
        await settled(hub, *["error"] * 4)


@pytest.mark.parametrize("kind", ["both", "legacy", "stdio-legacy"])
async def test_calls_of_a_server_whose_entry_is_edited_end_as_they_would_have(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, server), hub.http(await hub.key("tool:*")) as http:
        calls = await under_way(http, server)
        entry = hub.services.declared.servers["peer"]
        await edited(hub, peer=replace(entry, headers=(("x-new", "1"),), env=(("NEW", "1"),)))
        body, given = modern_call("peer__echo", {})
        assert "result" in read(await http.post("/mcp", json=body, headers=given))
        server.release()
        async with asyncio.timeout(20):
            answers = [read(await call) for call in calls]
        assert [answer["result"]["content"][0]["text"] for answer in answers] == ["released"] * 4
        await settled(hub, *["ok"] * 4)


async def test_sigterm_ends_calls_and_parked_calls_and_each_is_recorded_once(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        new = await stack.enter_async_context(mcp_asking.asking("modern"))
        old = await stack.enter_async_context(mcp_asking.asking("legacy"))
        yaml = f"""\
  limits: {{drain_s: 1}}
mcpServers:
  new: {{url: {new.url}}}
  old: {{url: {old.url}}}
  child: {{command: {sys.executable}, args: ['-m', tests.peers.mcp_asking, stdio-legacy, '{tmp_path}'], cwd: '{ROOT}'}}
"""
        hub = await stack.enter_async_context(hub_process(tmp_path, yaml))
        http = await stack.enter_async_context(hub.http(await hub.key("app", "tool:*")))
        for name in ("new", "old", "child"):
            await listed(http, name)
        calls = await under_way(http, Waiting(new, tmp_path), "new__wait")
        calls += await under_way(http, Waiting(old, tmp_path), "old__wait")
        body, given = modern_call("child__wait", {})
        calls.append(asyncio.create_task(http.post("/mcp", json=body, headers=given)))
        await Waiting(None, tmp_path).until("waiting")
        body, given = modern_call("old__ask", ASKABLE)
        assert read(await http.post("/mcp", json=body, headers=given))["result"]["resultType"] == "input_required"
        hub.send(signal.SIGTERM)
        async with asyncio.timeout(40):
            assert await hub.child.wait() == 0
        await asyncio.gather(*calls, return_exceptions=True)  # their connections end unanswered
        async with asyncio.timeout(20):
            await new.cancelled.wait()
            await old.cancelled.wait()
    assert not [line for line in hub.lines if "Traceback" in line or (" ERROR " in line and "uvicorn" not in line)]
    rows = sqlite3.connect(tmp_path / "hubbub.db").execute(
        "SELECT name, outcome, count(*) FROM usage WHERE name NOT LIKE '%echo' GROUP BY 1, 2"
    )
    assert sorted(rows) == [
        ("child__wait", "cancelled", 1),
        ("new__wait", "cancelled", 4),
        ("old__ask", "ok", 1),
        ("old__wait", "cancelled", 4),
    ]


async def listed(http: httpx.AsyncClient, server: str) -> None:
    """Wait until the tools of a server are there."""
    async with asyncio.timeout(30):
        while True:
            body, given = modern_call(f"{server}__echo", {})
            if "result" in read(await http.post("/mcp", json=body, headers=given)):
                return
            await asyncio.sleep(0.02)
