"""Calls of 2026-07-28 clients that wait at older servers for an answer of their caller's: every way that they can end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcp_bridge import parking
from mcp_bridge.upstream import Upstream
from tests.peers import mcp_asking
from tests.peers.mcp_hub import McpHub, open_mcp_hub
from tests.peers.mcp_waiting import ASKABLE, Waiting, cancels, hub_before, modern_call, read, settled
from tests.until import until


async def call(http: httpx.AsyncClient, tool: str = "peer__ask", **params: Any) -> dict[str, Any]:
    """Call a tool as a client that can be asked."""
    body, given = modern_call(tool, ASKABLE)
    body["params"].update(params)
    return read(await http.post("/mcp", json=body, headers=given))


async def parked(http: httpx.AsyncClient, tool: str = "peer__ask") -> dict[str, Any]:
    """Have a call wait for input; returns what its retry brings."""
    asked = (await call(http, tool))["result"]
    assert asked["resultType"] == "input_required"
    content = {"name": "Ann", "yes": "yes"}
    responses = {key: {"action": "accept", "content": content} for key in asked["inputRequests"]}
    return {"inputResponses": responses, "requestState": asked["requestState"]}


async def nothing_is_left(upstream: Upstream) -> None:
    """Wait until no call waits, no timer runs, and every connection that was leased is ended or kept for a next call."""
    await until(
        lambda: not (upstream._parking._parked or len(upstream._sessions._owners) != len(upstream._sessions._warm))
    )


async def refused(http: httpx.AsyncClient, brought: dict[str, Any], tool: str = "peer__ask") -> None:
    """See that a retry is refused like one whose handle was made up."""
    answer = await call(http, tool, **brought)
    assert answer["error"]["code"] == -32602
    made_up = await call(http, tool, **{**brought, "requestState": "made up"})
    assert {**answer["error"], "data": None} == {**made_up["error"], "data": None}


@pytest.mark.parametrize("kind", ["legacy", "sse", "stdio-legacy"])
async def test_a_call_that_nobody_comes_back_for_is_cancelled_at_its_server(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parking, "LASTS_S", 0.2)
    async with hub_before(kind, tmp_path) as (hub, server), hub.http(await hub.key("tool:*")) as http:
        brought = await parked(http)
        await nothing_is_left(hub.upstream("peer"))
        await refused(http, brought)
        if server.peer is not None:
            assert cancels(server.peer) == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_principal_may_have_so_many_calls_wait_and_others_are_not_in_its_way(tmp_path: Path) -> None:
    async with (
        hub_before("legacy", tmp_path) as (hub, server),
        hub.http(await hub.key("tool:*")) as ann,
        hub.http(await hub.key("tool:*")) as bob,
    ):
        working = []
        for _ in range(parking.MAX_PARKED + 1):  # nobody waits for input in these
            working.append(asyncio.create_task(call(ann, "peer__wait")))
            await server.until("waiting")
        brought = [await parked(ann) for _ in range(parking.MAX_PARKED)]
        answer = await call(ann)
        assert answer["error"]["message"] == "Too many calls wait for input; answer or leave some of them."
        await parked(bob)
        server.release()
        assert all("result" in one for one in await asyncio.gather(*working))
        assert "result" in await call(ann, **brought[0])
        await parked(ann)
        assert len(hub.upstream("peer")._parking._parked) == parking.MAX_PARKED + 1


async def test_all_principals_together_may_have_so_many_calls_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "MAX_IN_ALL", 3)
    async with hub_before("legacy", tmp_path) as (hub, server):
        for number in range(4):
            async with hub.http(await hub.key("tool:*")) as http:
                answer = await call(http)
            assert ("error" in answer) == (number == 3)
        await until(
            lambda: cancels(server.peer) == 1
        )  # the one that found no room goes no further at the server either


@pytest.mark.parametrize("kind", ["legacy", "sse"])
async def test_a_retry_while_another_is_under_way_is_refused(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, server), hub.http(await hub.key("tool:*")) as http:
        brought = await parked(http, "peer__hold")
        first = asyncio.create_task(call(http, "peer__hold", **brought))
        await server.until("waiting")
        await refused(http, brought, "peer__hold")
        server.release()
        assert (await first)["result"]["content"][0]["text"] == "released"
        await refused(http, brought, "peer__hold")
        await nothing_is_left(hub.upstream("peer"))


@pytest.mark.parametrize("kind", ["legacy", "sse"])
async def test_a_client_that_leaves_during_its_retry_cancels_the_call(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, server), hub.http(await hub.key("tool:*")) as http:
        brought = await parked(http, "peer__hold")
        retry = asyncio.create_task(call(http, "peer__hold", **brought))
        await server.until("waiting")
        retry.cancel()
        await asyncio.wait([retry])
        await server.until("cancelled")
        await settled(hub, "ok", "cancelled")
        await nothing_is_left(hub.upstream("peer"))
        await refused(http, brought, "peer__hold")


@pytest.mark.parametrize("kind", ["legacy", "stdio-legacy"])
async def test_a_retry_after_the_servers_death_says_so_and_a_new_call_works(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, server), hub.http(await hub.key("tool:*")) as http:
        brought = await parked(http)
        await die(hub, server)
        answer = await call(http, **brought)
        assert answer["error"]["message"].startswith("peer__ask: ")
        await nothing_is_left(hub.upstream("peer"))
        await refused(http, brought)
        assert "result" in await call(http, **await parked(http))
        await nothing_is_left(hub.upstream("peer"))


async def die(hub: McpHub, server: Waiting) -> None:
    """End the server's side of the call that is parked, as a crash would."""
    ((waiting, _),) = hub.upstream("peer")._parking._parked.values()
    if server.peer is None:
        server.kill()
    else:
        for transport in list(server.peer.manager._server_instances.values()):
            await transport.terminate()
        server.peer.manager._server_instances.clear()
    async with asyncio.timeout(20):
        await asyncio.wait([waiting.task])


@pytest.mark.parametrize("how", ["edited", "switched off"])
async def test_a_parked_call_of_a_server_that_is_edited_or_switched_off_ends_there(tmp_path: Path, how: str) -> None:
    async with hub_before("legacy", tmp_path) as (hub, server), hub.http(await hub.key("tool:*")) as http:
        brought = await parked(http)
        before = hub.upstream("peer")
        entry = replace(hub.services.declared.servers["peer"], headers=(("x-new", "1"),))
        servers = {"peer": entry} if how == "edited" else {}
        await hub.services.registry.follow_file(replace(hub.services.declared, servers=servers))
        await until(lambda: cancels(server.peer) == 1)
        await nothing_is_left(before)
        if how == "edited":
            await refused(http, brought)
        else:
            assert (await call(http, **brought))["error"]["message"] == (await call(http))["error"]["message"]


async def test_a_parked_call_is_over_when_the_hub_starts_again(tmp_path: Path) -> None:
    async with mcp_asking.asking("legacy") as peer:
        yaml = f"mcpServers: {{peer: {{url: {peer.url}}}}}\n"
        async with open_mcp_hub(tmp_path, yaml) as hub:
            await hub.listed("peer__ask")
            secret = await hub.key("tool:*")
            async with hub.http(secret) as http:
                brought = await parked(http)
        assert cancels(peer) == 1
        async with open_mcp_hub(tmp_path, yaml) as hub, hub.http(secret) as http:
            await hub.listed("peer__ask")
            await refused(http, brought)
            assert "result" in await call(http, **await parked(http))
