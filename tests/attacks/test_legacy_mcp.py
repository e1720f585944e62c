"""Older MCP clients: sessions are one principal's, and what fails inside is not told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from sse_starlette import EventSourceResponse

from mcp_bridge import server
from mcp_bridge.in_session import Session
from registry.errors import NotFound
from tests.doors.test_mcp import servers
from tests.peers import mcp_servers
from tests.peers.mcp_hub import open_mcp_hub

LEGACY = {"mcp-protocol-version": "2025-11-25", "accept": "application/json, text/event-stream"}
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


def rpc(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def session(http: httpx.AsyncClient, path: str = "/mcp") -> dict[str, str]:
    """Open a session; returns the headers of its requests."""
    answer = await http.post(path, json=rpc("initialize", HELLO), headers=LEGACY)
    headers = {**LEGACY, "mcp-session-id": answer.headers["mcp-session-id"]}
    await http.post(path, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=headers)
    return headers


@pytest.mark.attack("2.1/21")
async def test_an_exceptions_text_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bug(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("postgres://user:hunter2@10.0.0.1/db")

    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__echo")
        monkeypatch.setattr(hub.dispatch, "relay", bug)
        async with hub.http(await hub.key("tool:*")) as http:
            headers = await session(http)
            call = rpc("tools/call", {"name": "peer__echo", "arguments": {"text": "x"}})
            answer = await http.post("/mcp", json=call, headers=headers)
            assert answer.json()["error"]["code"] == -32603
            assert answer.json()["error"]["data"]["requestId"] == answer.headers["x-request-id"]
            assert "hunter2" not in answer.text
            monkeypatch.undo()
            assert (await http.post("/mcp", json=call, headers=headers)).json()["result"]


@pytest.mark.attack("2.1/15", "2.2/19")
async def test_a_session_is_as_good_as_unknown_to_everybody_else(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__echo")
        async with hub.http(await hub.key("tool:*")) as alice, hub.http(await hub.key("tool:*")) as bob:
            headers = await session(alice)
            unknown = {**headers, "mcp-session-id": "0" * 32}
            for method in ("POST", "GET", "DELETE"):
                body = rpc("tools/list", {}) if method == "POST" else None
                stolen = await bob.request(method, "/mcp", json=body, headers=headers)
                absent = await bob.request(method, "/mcp", json=body, headers=unknown)
                assert stolen.status_code == absent.status_code == 404
                assert stolen.content == absent.content
            assert (await alice.post("/mcp", json=rpc("tools/list", {}), headers=headers)).json()["result"]["tools"]


async def test_a_session_that_was_ended_answers_no_more_however_late_the_sdk_closes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "when_closed", lambda *_: None)  # so late that it is never
    async with open_mcp_hub(tmp_path) as hub, hub.http(await hub.key("tool:*")) as http:
        headers = await session(http)
        assert (await http.post("/mcp", json=rpc("tools/list", {}), headers=headers)).status_code == 200
        assert (await http.delete("/mcp", headers=headers)).status_code == 200
        assert (await http.post("/mcp", json=rpc("tools/list", {}), headers=headers)).status_code == 404


async def test_nobody_can_open_so_many_sessions_that_others_find_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_SESSIONS_OF_ONE", 2)
    monkeypatch.setattr(server, "MAX_SESSIONS", 4)
    async with (
        open_mcp_hub(tmp_path, "") as hub,
        hub.http(await hub.key("tool:*")) as ann,
        hub.http(await hub.key("tool:*")) as bob,
        hub.http(await hub.key("tool:*")) as cid,
    ):
        first, _ = await session(ann), await session(ann)
        refused = await ann.post("/mcp", json=rpc("initialize", HELLO), headers=LEGACY)
        assert refused.status_code == 503
        assert "This key has too many sessions open" in refused.json()["error"]["message"]
        await session(bob)
        assert (await ann.delete("/mcp", headers=first)).status_code == 200
        await session(ann)
        await session(cid)
        refused = await cid.post("/mcp", json=rpc("initialize", HELLO), headers=LEGACY)
        assert "Too many sessions are open" in refused.json()["error"]["message"]
        assert (await cid.post("/mcp", json=rpc("ping", {}), headers=first)).status_code == 404


@pytest.mark.attack("2.1/15")
@pytest.mark.attack("2.2/24", defence="registry.access:Grants.allow")
async def test_a_session_shows_at_each_path_what_the_caller_may_see_there(tmp_path: Path) -> None:
    async with (
        mcp_servers.dual_era() as one,
        mcp_servers.dual_era() as two,
        open_mcp_hub(tmp_path, servers(one=one.url, two=two.url)) as hub,
    ):
        await hub.listed("one__echo", "two__echo")
        async with hub.http(await hub.key("tool:one__*")) as http:
            headers = await session(http, "/mcp/one")
            everywhere = await http.post("/mcp", json=rpc("tools/list", {}), headers=headers)
            assert {tool["name"].partition("__")[0] for tool in everywhere.json()["result"]["tools"]} == {"one"}
            elsewhere = await http.post("/mcp/two", json=rpc("tools/list", {}), headers=headers)
            assert elsewhere.status_code == 404
            assert not two.calls


async def test_a_server_switched_off_while_its_listing_waits_is_left_alone(tmp_path: Path) -> None:
    async with mcp_servers.legacy_only() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__echo")
        async with hub.sync._locks["peer"]:
            waiting = asyncio.create_task(hub.sync.refresh("peer"))
            await asyncio.sleep(0)
            await hub.services.registry.switch("server", "peer", on=False)
        with pytest.raises(NotFound):
            await waiting
        assert "peer" not in hub.dispatch._pool._upstreams


async def test_a_stream_for_the_servers_own_messages_begins_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventSourceResponse, "DEFAULT_PING_INTERVAL", 3600)  # nothing else would ever come
    async with (
        open_mcp_hub(tmp_path, "") as hub,
        hub.http(await hub.key("tool:*")) as http,
        http.stream("GET", "/mcp", headers=await session(http)) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.attack("2.2/13")
async def test_a_client_that_leaves_its_stream_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with open_mcp_hub(tmp_path, "") as hub, hub.http(await hub.key("tool:*")) as http:
        headers = await session(http)
        for _ in range(2):  # a session has one such stream: the second is let in once the first has ended
            async with asyncio.timeout(20):
                while True:
                    async with http.stream("GET", "/mcp", headers=headers) as answer:
                        if answer.status_code == 200:
                            break
                        assert answer.status_code == 409
                    await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
