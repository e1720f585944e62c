"""The MCP door with real clients and real servers (surface.md 5-7; MCP 2025-11-25 and 2026-07-28)."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from tests.peers import mcp_servers
from tests.peers.mcp_hub import META, McpHub, headers, message, open_mcp_hub
from tests.until import until

TIME = f"time: {{command: {sys.executable}, args: ['-m', mcp_server_time, '--local-timezone', UTC]}}"


def servers(**urls: str) -> str:
    lines = "".join(
        f"  {name}: {{url: {url}, headers: {{x-upstream: secret-of-{name}}}}}\n" for name, url in urls.items()
    )
    return f"mcpServers:\n{lines}"


def text_of(result: Any) -> str:
    return result.content[0].text


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
async def test_a_client_of_either_era_uses_servers_of_either_era_and_stdio(tmp_path: Path, mode: str) -> None:
    async with AsyncExitStack() as stack:
        new = await stack.enter_async_context(mcp_servers.dual_era())
        old = await stack.enter_async_context(mcp_servers.legacy_only())
        hub = await stack.enter_async_context(open_mcp_hub(tmp_path, servers(new=new.url, old=old.url) + f"  {TIME}\n"))
        await hub.listed("new__echo", "old__echo", "time__get_current_time")
        secret = await hub.key("tool:*")
        async with hub.client(secret, mode=mode) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert {"new__echo", "old__echo", "time__get_current_time", "time__convert_time"} <= set(names)
            for name in ("new__echo", "old__echo"):
                result = await client.call_tool(name, {"text": "hï"})
                assert json.loads(text_of(result)) == {"text": "hï"}
                assert result.structured_content == {"echoed": {"text": "hï"}}
            result = await client.call_tool("time__get_current_time", {"timezone": "UTC"})
            assert json.loads(text_of(result))["timezone"] == "UTC"
        assert [name for name, _ in new.calls] == ["echo"]
        assert all(seen["x-upstream"] == "secret-of-new" for seen in new.requests)
        assert all(
            secret not in json.dumps({k: str(v) for k, v in seen.items()}) for seen in new.requests + old.requests
        )


async def test_one_server_is_served_with_its_own_tool_names(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__echo")
        secret = await hub.key("tool:peer__*")
        for mode in ("legacy", "2026-07-28"):
            async with hub.client(secret, mode=mode, path="/mcp/peer") as client:
                assert [tool.name for tool in (await client.list_tools()).tools] == [
                    "echo",
                    "wait",
                    "tell",
                    "region",
                    "fail",
                ]
                assert text_of(await client.call_tool("echo", {})) == "{}"


async def test_a_toolset_shows_what_its_globs_choose(tmp_path: Path) -> None:
    yaml = 'toolsets: {some: {tools: ["peer__e*"]}}\n'
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url) + yaml) as hub:
        await hub.listed("peer__echo")
        async with hub.client(await hub.key("tool:*"), path="/mcp/some") as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["peer__echo"]
            with pytest.raises(MCPError) as caught:
                await client.call_tool("peer__wait", {})
            assert caught.value.error.code == -32602


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_tool_is_called_by_the_name_that_a_toolset_gives_it(tmp_path: Path, mode: str) -> None:
    yaml = "toolsets: {some: {tools: [{tool: peer__echo, as: say, description: Says it}]}}\n"
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url) + yaml) as hub:
        await hub.listed("peer__echo")
        async with hub.client(await hub.key("tool:peer__echo"), mode=mode, path="/mcp/some") as client:
            (tool,) = (await client.list_tools()).tools
            assert (tool.name, tool.description) == ("say", "Says it")
            assert json.loads(text_of(await client.call_tool("say", {"text": "a"}))) == {"text": "a"}
            with pytest.raises(MCPError):
                await client.call_tool("peer__echo", {})
        assert peer.calls == [("echo", {"text": "a"})]
        assert ("tool", "peer__echo") in [(permit.kind, permit.entry_name) for permit in hub.gate.permits]


async def test_the_cursor_configuration_of_litellm_works(tmp_path: Path) -> None:
    """`http://localhost:4000/mcp/` with `x-litellm-api-key: Bearer sk-…`."""
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__echo")
        given = {"x-litellm-api-key": f"Bearer {await hub.key('tool:*')}"}
        async with (
            httpx2.AsyncClient(headers=given, trust_env=False) as http,
            Client(streamable_http_client(f"{hub.url}/mcp/", http_client=http), mode="legacy") as client,
        ):
            assert "peer__echo" in [tool.name for tool in (await client.list_tools()).tools]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.attack("2.1/16")
async def test_call_to_a_hidden_tool_is_answered_like_an_unknown_one(tmp_path: Path, mode: str) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__echo")
        async with hub.client(await hub.key("tool:peer__echo"), mode=mode) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["peer__echo"]
            answers = []
            for name in ("peer__fail", "peer__none"):
                with pytest.raises(MCPError) as caught:
                    await client.call_tool(name, {})
                answers.append((caught.value.error.code, caught.value.error.message.replace(name, "X")))
            assert answers[0] == answers[1]
        assert not peer.calls


@pytest.mark.attack("2.2/28")
async def test_a_server_that_is_not_the_callers_looks_absent(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__echo")
        async with hub.http(await hub.key("tool:other__*")) as http:
            answers = []
            for name in ("peer", "none"):
                answer = await http.post(f"/mcp/{name}", json=message("tools/list"), headers=headers("tools/list"))
                error = answer.json()["error"]
                answers.append((answer.status_code, error["code"], error["message"].replace(name, "X")))
            assert answers[0] == answers[1]
            assert answers[0][:2] == (404, -32602)


async def post(hub: McpHub, secret: str, body: Any, given: dict[str, str], path: str = "/mcp") -> tuple[int, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with hub.http(secret) as http:
        answer = await http.post(path, content=content, headers=given)
        return answer.status_code, answer.json() if answer.content else None


LIST = headers("tools/list")
CALL = headers("tools/call", "peer__echo")
ECHO = message("tools/call", {"name": "peer__echo", "arguments": {"text": "a"}})


WRONG: list[tuple[Any, dict[str, str], int, int]] = [
    (message("tools/list"), {**LIST, "mcp-method": "tools/call"}, 400, -32020),
    (ECHO, {**CALL, "mcp-name": "peer__fail"}, 400, -32020),
    (ECHO, headers("tools/call"), 400, -32020),
    (message("tools/list"), {**LIST, "mcp-protocol-version": "2027-01-01"}, 400, -32020),
    (message("nothing/here"), headers("nothing/here"), 404, -32601),
    ({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}, LIST, 400, -32602),
    ({**message("tools/list"), "id": None}, LIST, 400, -32600),
    ({**message("tools/list"), "id": 1.5}, LIST, 400, -32600),
    ({**message("tools/list"), "jsonrpc": "1.0"}, LIST, 400, -32600),
    ([message("tools/list")], LIST, 400, -32600),
    (b"{", LIST, 400, -32700),
    (b"[" * 1000 + b"]" * 1000, LIST, 400, -32700),
    (message("tools/call", {"name": "peer__echo", "arguments": [1]}), CALL, 400, -32602),
    (message("tools/call", {"name": "peer__echo", "Arguments": {}}), CALL, 400, -32600),
    (message("tools/list", {"cursor": "abc"}), LIST, 400, -32602),
]


@pytest.mark.attack("2.1/23")
async def test_a_wrong_modern_request_is_refused_by_the_specifications_code(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__echo")
        secret = await hub.key("tool:*")
        for body, given, status, code in WRONG:
            found, answer = await post(hub, secret, body, given)
            assert (found, answer["error"]["code"]) == (status, code), (body, given)
        assert not peer.calls


async def test_an_unknown_version_is_told_the_known_ones(tmp_path: Path) -> None:
    async with open_mcp_hub(tmp_path) as hub:
        body = message("tools/list")
        body["params"]["_meta"] = {**META, "io.modelcontextprotocol/protocolVersion": "2027-01-01"}
        found, answer = await post(hub, await hub.key("tool:*"), body, {**LIST, "mcp-protocol-version": "2027-01-01"})
        assert (found, answer["error"]["code"]) == (400, -32022)
        assert answer["error"]["data"]["supported"] == ["2026-07-28"]


TWICE: list[Any] = [
    json.dumps(ECHO).replace('"name": "peer__echo"', '"name": "peer__fail", "name": "peer__echo"').encode(),
    json.dumps(ECHO).replace('"name": "peer__echo"', '"name": "peer__fail", "n\\u0061me": "peer__echo"').encode(),
    json.dumps(ECHO).replace('"name": "peer__echo"', '"Name": "peer__fail", "name": "peer__echo"').encode(),
    json.dumps(ECHO).replace('"method":', '"method": "tools/list", "method":').encode(),
    json.dumps(ECHO).replace('"arguments":', '"arguments": {"text": "evil"}, "arguments":').encode(),
    json.dumps(ECHO).replace('"params":', '"params": {"name": "peer__fail"}, "params":').encode(),
]


@pytest.mark.attack("2.2/25")
async def test_what_was_judged_is_what_is_sent(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__echo")
        secret = await hub.key("tool:peer__echo")
        legacy = {"mcp-protocol-version": "2025-11-25", "content-type": "application/json"}
        for body in TWICE:
            for given in (CALL, legacy):
                found, _ = await post(hub, secret, body, given)
                assert found == 400, body
        assert not peer.calls


async def test_parameter_headers_are_checked_and_written_anew(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__region")
        secret = await hub.key("tool:*")
        body = message("tools/call", {"name": "peer__region", "arguments": {"region": "eu"}})
        given = headers("tools/call", "peer__region")
        for wrong in ({}, {"mcp-param-region": "us"}):
            found, answer = await post(hub, secret, body, {**given, **wrong})
            assert (found, answer["error"]["code"]) == (400, -32020)
        found, answer = await post(hub, secret, body, {**given, "mcp-param-region": "eu"})
        assert found == 200, answer
        assert peer.requests[-1]["mcp-param-region"] == "eu"
        assert peer.requests[-1]["mcp-name"] == "region"


async def test_a_modern_list_is_complete_private_and_keeps_unknown_members(tmp_path: Path) -> None:
    odd = {"name": "odd.tool", "inputSchema": {"type": "object", "x": 12345678901234567890}, "future": {"n": 1.0}}
    async with (
        mcp_servers.scripted(mcp_servers.modern([odd])) as peer,
        open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub,
    ):
        await hub.sync.refresh("peer")
        found, answer = await post(hub, await hub.key("tool:*"), message("tools/list", request_id="a"), LIST)
        result = answer["result"]
        assert (found, answer["id"], result["resultType"], result["cacheScope"]) == (200, "a", "complete", "private")
        assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "hubbub"
        (tool,) = result["tools"]
        assert {**tool, "name": "odd.tool"} == odd
        assert tool["name"].startswith("peer__odd_tool_")
        found, answer = await post(hub, await hub.key("tool:*"), message("tools/list"), LIST, path="/mcp/peer")
        assert answer["result"]["tools"] == [odd]


async def test_notifications_are_taken_and_other_http_methods_are_not(tmp_path: Path) -> None:
    async with open_mcp_hub(tmp_path) as hub:
        secret = await hub.key("tool:*")
        body = message("notifications/cancelled")
        del body["id"]
        assert await post(hub, secret, body, headers("notifications/cancelled")) == (202, None)
        async with hub.http(secret) as http:
            for method in ("GET", "DELETE", "PUT"):
                answer = await http.request(method, "/mcp", headers={"mcp-protocol-version": "2026-07-28"})
                assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


async def test_a_key_over_its_pace_gets_429_in_either_era(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__echo")
        async with hub.http(await hub.key("tool:*", requests_per_minute=1)) as http:
            assert (await http.post("/mcp", json=ECHO, headers=CALL)).status_code == 200
            opened = await http.post("/mcp", json=HELLO)
            session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
            await http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session)
            for given in (CALL, session):
                refused = await http.post("/mcp", json=ECHO, headers=given)
                assert refused.status_code == 429
                assert int(refused.headers["retry-after"]) > 0
                assert refused.json()["error"]["code"] == -32603
        assert len(peer.calls) == 1


@pytest.mark.attack("2.1/15", "2.2/19")
async def test_a_session_answers_the_principal_that_opened_it_alone(tmp_path: Path) -> None:
    async with (
        open_mcp_hub(tmp_path) as hub,
        hub.http(await hub.key("tool:*")) as alice,
        hub.http(await hub.key("tool:*")) as bob,
    ):
        opened = await alice.post("/mcp", json=HELLO, headers={"accept": "application/json"})
        assert (opened.status_code, opened.json()["result"]["protocolVersion"]) == (200, "2025-11-25")
        session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        await alice.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session)
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        assert (await alice.post("/mcp", json=ping, headers=session)).json()["result"] == {}
        assert (await bob.post("/mcp", json=ping, headers=session)).status_code == 404
        assert (await bob.delete("/mcp", headers=session)).status_code == 404
        assert (await alice.delete("/mcp", headers=session)).status_code == 200
        assert (await alice.post("/mcp", json=ping, headers=session)).status_code == 404


async def leave(hub: McpHub, peer: mcp_servers.Peer, tool: str) -> None:
    """Call a tool that waits, and leave while it does."""
    body = message("tools/call", {"name": tool, "arguments": {}})
    body["params"]["_meta"] = {**META, "progressToken": "p"}
    call = asyncio.create_task(post(hub, await hub.key("tool:*"), body, headers("tools/call", tool)))
    async with asyncio.timeout(10):
        await peer.waiting.wait()
        call.cancel()
        await asyncio.wait([call])


async def test_a_caller_who_leaves_a_stream_ends_the_upstream_call(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__tell")
        await leave(hub, peer, "peer__tell")
        async with asyncio.timeout(10):
            await peer.cancelled.wait()


async def test_the_permit_of_a_caller_who_leaves_settles_as_cancelled(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__wait")
        await leave(hub, peer, "peer__wait")
        await until(lambda: ["cancelled"] in hub.gate.outcomes.values())


async def test_a_caller_who_leaves_before_the_first_byte_ends_the_upstream_call(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__wait")
        await leave(hub, peer, "peer__wait")
        async with asyncio.timeout(10):
            await peer.cancelled.wait()


async def test_an_error_of_a_tool_reaches_its_caller_as_it_is(tmp_path: Path) -> None:
    fault = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32042, "message": "ask first", "data": {"future": [1]}}}
    script = mcp_servers.modern(
        [{"name": "t", "inputSchema": {"type": "object"}}],
        call=lambda _: (200, b"application/json", json.dumps(fault).encode()),
    )
    async with mcp_servers.scripted(script) as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__t")
        body = message("tools/call", {"name": "peer__t"}, request_id="x")
        found, answer = await post(hub, await hub.key("tool:*"), body, headers("tools/call", "peer__t"))
        assert (found, answer["id"], answer["error"]) == (200, "x", fault["error"])


async def test_what_an_upstream_streams_before_its_result_is_streamed(tmp_path: Path) -> None:
    told = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "p", "progress": 1}}
    done = {"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", "content": [], "future": 1}}
    events = b"".join(b"event: message\r\ndata: %b\r\n\r\n" % json.dumps(event).encode() for event in (told, done))
    script = mcp_servers.modern(
        [{"name": "t", "inputSchema": {"type": "object"}}], call=lambda _: (200, b"text/event-stream", events)
    )
    async with mcp_servers.scripted(script) as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__t")
        body = message("tools/call", {"name": "peer__t"}, request_id="x")
        async with hub.http(await hub.key("tool:*")) as http:
            answer = await http.post("/mcp", json=body, headers=headers("tools/call", "peer__t"))
        assert answer.headers["content-type"] == "text/event-stream"
        got = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        assert got[0] == told
        assert (got[1]["id"], got[1]["result"]["future"]) == ("x", 1)


BAD = [
    (200, b"application/json", b"garbage"),
    (200, b"text/html", b"<html>"),
    (200, b"application/json", b'{"jsonrpc":"2.0","id":1}'),
    (200, b"text/event-stream", b"data: {}\n\n"),
    (500, b"text/plain", b"internal address 10.0.0.1"),
    (401, b"application/json", b"{}"),
    (302, b"text/plain", b""),
    (429, b"text/plain", b""),
]


async def test_an_upstream_that_answers_garbage_is_named_and_nothing_of_it_told(tmp_path: Path) -> None:
    answers = iter(BAD)
    script = mcp_servers.modern([{"name": "t", "inputSchema": {"type": "object"}}], call=lambda _: next(answers))
    async with mcp_servers.scripted(script) as peer, open_mcp_hub(tmp_path, servers(peer=peer.url)) as hub:
        await hub.listed("peer__t")
        body = message("tools/call", {"name": "peer__t"})
        async with hub.http(await hub.key("tool:*")) as http:
            for bad in BAD:
                answer = await http.post("/mcp", json=body, headers=headers("tools/call", "peer__t"))
                assert '"code":-32603' in answer.text, bad
                assert "peer__t" in answer.text
                assert "10.0.0.1" not in answer.text
                assert peer.url not in answer.text
