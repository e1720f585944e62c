"""Search mode of the MCP door: three tools in place of all, in both eras."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from mcp_bridge.search import MANY_TOOLS, META_COST
from registry.declared.toolsets import SEARCH_NAMES
from tests.conftest import ADMIN_KEY
from tests.peers import mcp_servers
from tests.peers.mcp_hub import McpHub, headers, message, open_mcp_hub
from tests.peers.mcp_kinds import server_of_all_kinds

ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])


def yaml(peer: mcp_servers.Peer) -> str:
    return (
        f"mcpServers: {{peer: {{url: {peer.url}}}}}\n"
        "toolsets: {some: {mode: search, tools: [{tool: peer__echo, as: say, description: Repeats a sentence}]}}\n"
    )


@asynccontextmanager
async def connected(
    hub: McpHub, secret: str, *, era: Any, path: str = "/mcp", mode: str | None = None
) -> AsyncIterator[Client]:
    given = {"authorization": f"Bearer {secret}", **({"x-hubbub-mcp-mode": mode} if mode else {})}
    async with (
        httpx2.AsyncClient(headers=given, trust_env=False, timeout=30) as http,
        Client(streamable_http_client(hub.url + path, http_client=http), mode=era, cache=None) as client,
    ):
        yield client


async def names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


def said(result: Any) -> Any:
    return json.loads(result.content[0].text)


@ERAS
async def test_a_tool_is_found_described_and_called(tmp_path: Path, era: str) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, yaml(peer)) as hub:
        await hub.listed("peer__echo")
        async with connected(hub, await hub.key("tool:*"), era=era, mode="search") as client:
            listed = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert tuple(listed) == SEARCH_NAMES
            worst = listed["call_tool"].annotations
            assert worst is not None
            assert (worst.read_only_hint, worst.destructive_hint, worst.open_world_hint) == (False, True, True)
            found = said(await client.call_tool("search_tools", {"query": "something that echoes", "limit": 1}))
            echo = {"kind": "tool", "name": "peer__echo", "parameters": "text?", "description": "echo it"}
            assert found == {"found": [echo]}
            described = said(await client.call_tool("describe_tool", {"name": "peer__echo"}))
            assert (described["name"], described["inputSchema"]) == ("peer__echo", mcp_servers.TEXT)
            asked = {"name": "peer__echo", "arguments": {"text": "hï", "name": "n"}}
            result = await client.call_tool("call_tool", asked)
            assert result.structured_content == {"echoed": {"text": "hï", "name": "n"}}
            assert (await client.call_tool("peer__echo", {})).structured_content == {"echoed": {}}
            assert said(await client.call_tool("call_tool", {"name": "peer__region", "arguments": {"region": "e"}}))
        assert peer.calls == [("echo", {"text": "hï", "name": "n"}), ("echo", {}), ("region", {"region": "e"})]
        called = [permit.entry_name for permit in hub.gate.permits if permit.kind == "tool"]
        assert called == ["peer__echo", "peer__echo", "peer__region"]


@ERAS
async def test_what_a_model_got_wrong_is_told_to_it(tmp_path: Path, era: str) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, yaml(peer)) as hub:
        await hub.listed("peer__echo")
        async with connected(hub, await hub.key("tool:*"), era=era, mode="search") as client:
            for name, arguments, text in (
                ("search_tools", {}, "query must be a string"),
                ("search_tools", {"query": "a", "limit": 0}, "limit must be a whole number above 0"),
                ("describe_tool", {"name": 1}, "name must be a string"),
                ("call_tool", {"name": "peer__echo", "arguments": "{}"}, "arguments must be an object"),
            ):
                result = await client.call_tool(name, arguments)
                assert (result.is_error, result.content[0].text) == (True, text)
            none = await client.call_tool("search_tools", {"query": '"zzz" OR NEAR(* -'})
            assert none.content[0].text == "Nothing matches. Try other words; There are 5 tools, of: peer."
        assert not peer.calls


@ERAS
async def test_a_hidden_tool_is_neither_found_nor_told_from_an_absent_one(tmp_path: Path, era: str) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, yaml(peer)) as hub:
        await hub.listed("peer__echo")
        async with connected(hub, await hub.key("tool:peer__echo"), era=era, mode="search") as client:
            found = said(await client.call_tool("search_tools", {"query": "peer it wait fail"}))
            assert [tool["name"] for tool in found["found"]] == ["peer__echo"]
            for asked in ("describe_tool", "call_tool"):
                answers = []
                for name in ("peer__fail", "peer__none", "call_tool"):
                    with pytest.raises(MCPError) as caught:
                        await client.call_tool(asked, {"name": name})
                    answers.append((caught.value.error.code, caught.value.error.message.replace(name, "X")))
                assert set(answers) == {(-32602, "No tool 'X' here.")}
        assert not peer.calls


@ERAS
async def test_a_prompt_is_found_described_and_answers_as_a_tool_does(tmp_path: Path, era: str) -> None:
    async with mcp_servers.dual_era(server_of_all_kinds) as peer, open_mcp_hub(tmp_path, yaml(peer)) as hub:
        await hub.listed("peer__show")
        key = await hub.key("tool:peer__show", "prompt:peer__greet")
        async with connected(hub, key, era=era, mode="search") as client:
            listed = (await client.list_tools()).tools
            assert "There are 1 tools and 1 prompts, of: peer." in (listed[0].description or "")
            found = said(await client.call_tool("search_tools", {"query": "greet peer"}))["found"]
            assert [(one["kind"], one["name"], one["parameters"]) for one in found] == [
                ("prompt", "peer__greet", "who"),
                ("tool", "peer__show", ""),
            ]
            described = said(await client.call_tool("describe_tool", {"name": "peer__greet", "kind": "prompt"}))
            assert (described["name"], described["arguments"][0]["name"]) == ("peer__greet", "who")
            result = await client.call_tool("call_tool", {"name": "peer__greet", "arguments": {"who": "Ann"}})
            asks, text, answers, memo = result.content
            assert (asks.text, text.text, answers.text) == ("user:", 'Greet {"who": "Ann"}', "assistant:")
            assert memo.resource.uri == "peer+memo:first"
            assert not result.is_error
            for name, kind in (("peer__cite", "prompt"), ("peer__show", "prompt"), ("peer__greet", "tool")):
                with pytest.raises(MCPError) as caught:
                    await client.call_tool("call_tool", {"name": name, "kind": kind})
                assert caught.value.error.message == f"No {kind} {name!r} here."
            wrong = await client.call_tool("describe_tool", {"name": "peer__greet", "kind": "agent"})
            assert (wrong.is_error, wrong.content[0].text) == (True, "kind must be tool or prompt")
        assert peer.calls == [("greet", {"who": "Ann"})]
        called = [(permit.kind, permit.entry_name) for permit in hub.gate.permits if permit.kind != "server"]
        assert called == [("prompt", "peer__greet")]


@ERAS
async def test_a_pace_counts_the_call_once(tmp_path: Path, era: str) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, yaml(peer)) as hub:
        await hub.listed("peer__echo")
        secret = await hub.key("tool:*", requests_per_minute=1, mcp_mode="search")
        async with connected(hub, secret, era=era) as client:
            await client.call_tool("search_tools", {"query": "echo"})
            await client.call_tool("call_tool", {"name": "peer__echo"})
            with pytest.raises(MCPError):
                await client.call_tool("call_tool", {"name": "peer__echo"})
        assert len(peer.calls) == 1


@ERAS
async def test_the_mode_is_the_headers_else_the_keys_else_the_toolsets(tmp_path: Path, era: str) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, yaml(peer)) as hub:
        await hub.listed("peer__echo")
        everything = ["peer__echo", "peer__wait", "peer__tell", "peer__region", "peer__fail"]
        three = list(SEARCH_NAMES)
        for key, header, path, expected in (
            (None, None, "/mcp", everything),
            ("search", None, "/mcp", three),
            ("search", "full", "/mcp", everything),
            (None, "search", "/mcp", three),
            (None, None, "/mcp/some", three),
            ("full", None, "/mcp/some", ["say"]),
            ("search", "search", "/mcp/peer", ["echo", "wait", "tell", "region", "fail"]),
        ):
            async with connected(hub, await hub.key("tool:*", mcp_mode=key), era=era, path=path, mode=header) as client:
                assert await names(client) == expected, (key, header, path)


async def test_a_toolset_is_searched_by_the_words_it_uses(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, yaml(peer)) as hub:
        await hub.listed("peer__echo")
        async with connected(hub, await hub.key("tool:*"), era="auto", path="/mcp/some") as client:
            found = said(await client.call_tool("search_tools", {"query": "repeating sentences"}))
            assert [tool["name"] for tool in found["found"]] == ["say"]
            assert said(await client.call_tool("call_tool", {"name": "say", "arguments": {"text": "a"}})) == {
                "text": "a"
            }
            with pytest.raises(MCPError):
                await client.call_tool("call_tool", {"name": "peer__wait"})


async def test_a_tool_that_is_registered_later_is_found(tmp_path: Path) -> None:
    async with (
        mcp_servers.dual_era() as peer,
        mcp_servers.dual_era(tools=("paint",)) as late,
        open_mcp_hub(tmp_path, yaml(peer)) as hub,
    ):
        await hub.listed("peer__echo")
        async with connected(hub, await hub.key("tool:*"), era="auto", mode="search") as client:
            assert "Nothing" in (await client.call_tool("search_tools", {"query": "paint"})).content[0].text
            await hub.services.registry.put("server", "late", {"url": late.url}, trusted=True)
            await hub.listed("late__paint")
            assert "late__paint" in (await client.call_tool("search_tools", {"query": "paint"})).content[0].text


async def test_an_unknown_mode_and_a_name_that_stands_twice_are_refused(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, yaml(peer)) as hub:
        await hub.listed("peer__echo")
        async with hub.http(await hub.key("tool:*")) as http:
            given = {**headers("tools/list"), "x-hubbub-mcp-mode": "some"}
            answer = await http.post("/mcp", json=message("tools/list"), headers=given)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)
            body = json.dumps(message("tools/call", {"name": "call_tool", "arguments": {"name": "peer__echo"}}))
            twice = body.replace('"name": "peer__echo"', '"name": "peer__fail", "name": "peer__echo"')
            given = {**headers("tools/call", "call_tool"), "x-hubbub-mcp-mode": "search"}
            answer = await http.post("/mcp", content=twice, headers=given)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)
        assert not peer.calls


@ERAS
async def test_a_long_list_says_what_search_mode_would_save(tmp_path: Path, era: str) -> None:
    many = tuple(f"tool_{number}" for number in range(MANY_TOOLS + 1))
    async with mcp_servers.dual_era(tools=many) as peer, open_mcp_hub(tmp_path, yaml(peer)) as hub:
        await hub.listed("peer__tool_0")
        for grants, path, mode, is_told in (
            (["tool:*"], "/mcp", "full", True),
            (["tool:*"], "/mcp", "search", False),
            (["tool:*"], "/mcp/peer", "full", False),
            (["tool:peer__tool_1*"], "/mcp", "full", False),
        ):
            async with connected(hub, await hub.key(*grants), era=era, path=path, mode=mode) as client:
                told = ((await client.list_tools()).meta or {}).get(META_COST)
                assert (told is not None) is is_told, (grants, path, mode)
                if told:
                    assert (told["tools"], told["tokens"] > told["searchTokens"] > 0) == (len(many), True)
                    assert "x-hubbub-mcp-mode: search" in told["advice"]


async def test_the_api_says_what_a_view_costs(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path, yaml(peer)) as hub:
        await hub.listed("peer__echo")
        async with hub.http(ADMIN_KEY) as http:
            await http.post("/api/keys", json={"name": "rita", "allow": ["tool:peer__echo"]})
            (toolset,) = (await http.get("/api/toolsets")).json()["items"]
            assert toolset == (await http.get("/api/toolsets/some")).json()
            assert (toolset["mode"], toolset["view"]["tools"]) == ("search", 1)
            assert toolset["presented"] == [{"tool": "peer__echo", "as": "say", "description": "Repeats a sentence"}]
            server = (await http.get("/api/mcp-servers/peer")).json()["view"]
            assert (server["tools"], server["search_tokens"], server["advice"]) == (5, None, None)
            key = (await http.get("/api/keys/rita")).json()["view"]
            assert key["tools"] == 1
            assert 0 < key["tokens"] < server["tokens"]
            assert (await http.get("/api/toolsets/none")).status_code == 404
        async with hub.http(await hub.key("tool:*")) as http:
            assert (await http.get("/api/toolsets")).status_code == 404
