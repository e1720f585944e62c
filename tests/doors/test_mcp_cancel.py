"""Calls that their clients give up: the server hears of it, and each is settled once (MCP, Cancellation)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers.mcp_hub import McpHub
from tests.peers.mcp_waiting import (
    ASKABLE,
    KINDS,
    cancels,
    hub_before,
    legacy_call,
    modern_call,
    read,
    session,
    settled,
)
from tests.until import until


async def leave(call: asyncio.Task[Any]) -> None:
    call.cancel()
    await asyncio.wait([call])


@pytest.mark.parametrize("kind", KINDS)
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
        assert "result" in read(await http.post("/mcp", json=body, headers=given))
        assert hub.upstream("peer").owner.starts <= 1


async def by_leaving(_http: httpx.AsyncClient, _session: dict[str, str], call: asyncio.Task[httpx.Response]) -> None:
    await leave(call)


async def by_notification(http: httpx.AsyncClient, given: dict[str, str], call: asyncio.Task[httpx.Response]) -> None:
    told = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7, "reason": "no more"}}
    assert (await http.post("/mcp", json=told, headers=given)).status_code == 202
    async with asyncio.timeout(20):
        assert "result" not in (await call).text


@pytest.mark.parametrize("kind", KINDS)
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
            assert "result" in read(await http.post("/mcp", json=legacy_call("peer__echo"), headers=given))
        if kind == "modern":
            assert cancels(server.peer) == 0
        elif server.peer is not None:
            assert cancels(server.peer) == len(ways)


@pytest.mark.parametrize("kind", ["both", "modern", "legacy", "sse"])
async def test_a_call_ends_with_its_session(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, server), hub.http(await hub.key("tool:*")) as http:
        given = await session(http, ASKABLE)
        call = asyncio.create_task(http.post("/mcp", json=legacy_call("peer__wait"), headers=given))
        await server.until("waiting")
        assert (await http.delete("/mcp", headers=given)).status_code == 200
        await server.until("cancelled")
        await settled(hub, "cancelled")
        async with asyncio.timeout(20):
            assert "result" not in (await call).text
        await nothing_is_open(hub)


@pytest.mark.parametrize("kind", ["both", "modern", "legacy", "sse"])
async def test_an_older_client_that_leaves_while_it_is_asked_ends_its_call(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, server), hub.http(await hub.key("tool:*")) as http:
        given = await session(http, ASKABLE)
        async with asyncio.timeout(20):
            async with http.stream("POST", "/mcp", json=legacy_call("peer__ask"), headers=given) as answer:
                async for line in answer.aiter_lines():
                    if "elicitation/create" in line:
                        break
            await settled(hub, "cancelled")
            if kind != "modern":  # one of 2026-07-28 waits for nothing meanwhile
                await until(lambda: cancels(server.peer) == 1)
        assert (await http.delete("/mcp", headers=given)).status_code == 200
        await nothing_is_open(hub)


async def nothing_is_open(hub: McpHub) -> None:
    """Wait until the connections of older clients' sessions have ended with them."""
    sessions = hub.upstream("peer")._sessions
    await until(lambda: not (sessions._owners or sessions._of_fronts or sessions._ending))
