"""Prompts, resources, templates, completion and what the hub does not know, with real clients and servers of both eras."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp import Client, MCPError

from llm.results import told
from registry.identity import admin
from tests.peers import mcp_servers
from tests.peers.mcp_hub import McpHub, headers, message, open_mcp_hub
from tests.peers.mcp_kinds import NOTE, PAGE, server_of_all_kinds

ERAS = ["legacy", "2026-07-28"]
PEERS: list[Any] = [mcp_servers.dual_era, mcp_servers.legacy_only]
Serve = Callable[..., AbstractAsyncContextManager[mcp_servers.Peer]]


@asynccontextmanager
async def hub_of(
    tmp_path: Path, serve: Serve = mcp_servers.dual_era, more: str = ""
) -> AsyncIterator[tuple[McpHub, mcp_servers.Peer]]:
    """A hub in front of `my_kinds`, a server of everything."""
    async with serve(server_of_all_kinds) as peer:
        yaml = f"mcpServers:\n  my_kinds: {{url: {peer.url}}}\n{more}"
        async with open_mcp_hub(tmp_path, yaml) as hub:
            await hub.listed("my_kinds__show")
            yield hub, peer


def uris(result: Any) -> list[str]:
    _, link, embedded = result.content
    return [link.uri, embedded.resource.uri, result.meta["ui"]["resourceUri"]]


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("serve", PEERS)
async def test_everything_is_listed_and_used_through_the_aggregate(tmp_path: Path, serve: Serve, mode: str) -> None:
    async with hub_of(tmp_path, serve) as (hub, peer), hub.client(await hub.key("server:*"), mode=mode) as client:
        prompts = (await client.list_prompts()).prompts
        assert [one.name for one in prompts] == ["my_kinds__greet", "my_kinds__cite", "my_kinds__secret"]
        assert prompts[0].title == "Greet"
        assert prompts[0].icons is not None
        assert prompts[0].icons[0].src == "https://icons.example/a.png"
        resources = (await client.list_resources()).resources
        assert [one.uri for one in resources] == [
            "my.kinds+memo:first",
            "my.kinds+file:///private/key",
            "ui://my.kinds/board/main.html",
        ]
        (template,) = (await client.list_resource_templates()).resource_templates
        assert template.uri_template == "my.kinds+memo:{name}"
        tool = (await client.list_tools()).tools[0]
        assert tool.meta == {"ui": {"resourceUri": "ui://my.kinds/board/main.html"}, "vendor.example/x": [1]}
        assert (tool.annotations and tool.annotations.read_only_hint, tool.output_schema) == (True, {"type": "object"})

        got = await client.get_prompt("my_kinds__greet", {"who": "Ann"})
        assert json.loads(got.messages[0].content.text.removeprefix("Greet ")) == {"who": "Ann"}
        assert got.messages[1].content.resource.uri == "my.kinds+memo:first"
        for resource in (resources[0].uri, resources[2].uri, "my.kinds+memo:other"):
            (contents,) = (await client.read_resource(resource)).contents
            assert contents.uri == resource
            assert contents.text == f"text of {peer.calls[-1][1]['uri']}"
        result = await client.call_tool("my_kinds__show", {})
        assert uris(result) == ["my.kinds+memo:first", "my.kinds+memo:first", "ui://my.kinds/board/main.html"]
        assert result.structured_content == {"uri": NOTE}
        assert result.meta["vendor.example/y"] == 2


async def test_a_model_is_told_the_servers_own_uris_which_its_other_tools_take(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _):
        tool = hub.services.registry.catalog.tools["my_kinds__show"]
        with hub.gate.admit(admin(), tool) as permit:
            result = await hub.dispatch.call(admin(), tool.exposed, arguments={}, within=permit)
    assert told(result) == f"uri\n[resource first: {NOTE}]\nembedded"
    assert result["content"][2]["resource"]["uri"] == NOTE


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_one_servers_path_shows_it_as_it_is(tmp_path: Path, mode: str) -> None:
    async with hub_of(tmp_path) as (hub, peer):
        async with hub.client(await hub.key("server:my_kinds"), mode=mode, path="/mcp/my_kinds") as client:
            assert [one.name for one in (await client.list_prompts()).prompts] == ["greet", "cite", "secret"]
            assert [one.uri for one in (await client.list_resources()).resources] == [NOTE, "file:///private/key", PAGE]
            (template,) = (await client.list_resource_templates()).resource_templates
            assert template.uri_template == "memo:{name}"
            assert (await client.read_resource(PAGE)).contents[0].uri == PAGE
            assert uris(await client.call_tool("show", {})) == [NOTE, NOTE, PAGE]
            assert client.instructions is not None
            assert client.instructions.startswith("Ask me about memos.")
            assert len(client.instructions) < 8200
            offered = client.server_capabilities
            assert all((offered.tools, offered.prompts, offered.resources, offered.completions))
        assert [name for name, _ in peer.calls] == ["read", "show"]


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("serve", PEERS)
async def test_arguments_are_completed_under_shown_names(tmp_path: Path, serve: Serve, mode: str) -> None:
    async with hub_of(tmp_path, serve) as (hub, _), hub.client(await hub.key("server:*"), mode=mode) as client:
        of_prompt = await client.complete(
            t.PromptReference(type="ref/prompt", name="my_kinds__greet"),
            {"name": "who", "value": "A"},
            context_arguments={"x": "1"},
        )
        assert of_prompt.completion.values == ["greet A", "x"]
        reference = t.ResourceTemplateReference(type="ref/resource", uri="my.kinds+memo:{name}")
        of_template = await client.complete(reference, {"name": "name", "value": "f"})
        assert of_template.completion.values == ["memo:{name} f"]
        with pytest.raises(MCPError) as caught:
            await client.complete(t.PromptReference(type="ref/prompt", name="greet"), {"name": "who", "value": "A"})
        assert caught.value.error.code == -32602


async def test_a_server_without_completions_completes_nothing(tmp_path: Path) -> None:
    tools = mcp_servers.modern([])

    def script(asked: dict[str, Any]) -> tuple[int, bytes, bytes] | None:
        result: Any = None
        if asked.get("method") == "server/discover":
            result = {"supportedVersions": ["2026-07-28"], "capabilities": {"prompts": {}}}
        if asked.get("method") == "prompts/list":
            result = {"prompts": [{"name": "p"}]}
        if result is None:
            return tools(asked)
        return (
            200,
            b"application/json",
            json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", **result}}).encode(),
        )

    async with (
        mcp_servers.scripted(script) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n") as hub,
    ):
        await hub.sync.refresh("peer")
        params = {"ref": {"type": "ref/prompt", "name": "peer__p"}, "argument": {"name": "a", "value": ""}}
        answer = await post(hub, await hub.key("prompt:*"), "completion/complete", params)
        assert answer["result"]["completion"] == {"values": []}
        asked = [seen["mcp-method"] for seen in peer.requests]
        assert set(asked) == {"server/discover", "prompts/list"}  # a capability that is lacking costs nothing


async def post(
    hub: McpHub, secret: str, method: str, params: dict[str, Any], name: str | None = None, path: str = "/mcp"
) -> Any:
    async with hub.http(secret) as http:
        return (await http.post(path, json=message(method, params), headers=headers(method, name))).json()


async def test_what_is_not_granted_looks_absent(tmp_path: Path) -> None:
    """Each pair: something that exists and is not granted, and something that does not exist."""
    pairs = [
        ("prompts/get", "name", "my_kinds__secret", "my_kinds__none"),
        ("resources/read", "uri", "my.kinds+file:///private/key", "my.kinds+file:///private/none"),
        ("resources/read", "uri", "my.kinds+file:///private/key", "nobody+file:///private/key"),
        ("resources/read", "uri", "my.kinds+file:///private/key", "file:///private/key"),
        ("tools/call", "name", "my_kinds__hidden", "my_kinds__none"),
    ]
    async with hub_of(tmp_path) as (hub, peer):
        secret = await hub.key("prompt:my_kinds__greet", "resource:my_kinds__memo:*", "tool:my_kinds__show")
        async with hub.client(secret, mode="2026-07-28") as client:
            assert [one.name for one in (await client.list_prompts()).prompts] == ["my_kinds__greet"]
            assert [one.uri for one in (await client.list_resources()).resources] == ["my.kinds+memo:first"]
            assert (await client.read_resource("my.kinds+memo:other")).contents
        peer.calls.clear()
        for method, key, forbidden, absent in pairs:
            answers = [(await post(hub, secret, method, {key: name}, name))["error"] for name in (forbidden, absent)]
            said = [
                (one["code"], one["message"].replace(name, "X"))
                for one, name in zip(answers, (forbidden, absent), strict=True)
            ]
            assert said[0] == said[1], method
            assert said[0][0] == -32602
        assert peer.calls == []


@pytest.mark.attack("2.1/13")
async def test_another_tenant_sees_nothing(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, peer), hub.client(await hub.key("server:other")) as client:
        assert (await client.list_prompts()).prompts == []
        assert (await client.list_resources()).resources == []
        assert (await client.list_resource_templates()).resource_templates == []
        assert client.instructions is None
        for attempt in (client.read_resource(f"my.kinds+{NOTE}"), client.get_prompt("my_kinds__greet", {"who": "x"})):
            with pytest.raises(MCPError) as caught:
                await attempt
            assert caught.value.error.code == -32602
        assert peer.calls == []


@pytest.mark.parametrize("serve", PEERS)
async def test_a_resource_that_is_not_there_has_the_code_of_the_clients_era(tmp_path: Path, serve: Serve) -> None:
    async with hub_of(tmp_path, serve) as (hub, _):
        answer = await post(
            hub, await hub.key("server:*"), "resources/read", {"uri": "my.kinds+memo:none"}, "my.kinds+memo:none"
        )
        assert answer["error"]["code"] == -32602


async def test_what_was_read_is_the_callers_alone_and_not_kept_long(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _):
        uri = f"my.kinds+{NOTE}"
        result = (await post(hub, await hub.key("server:*"), "resources/read", {"uri": uri}, uri))["result"]
        assert (result["resultType"], result["cacheScope"], result["ttlMs"]) == ("complete", "private", 60_000)


@pytest.mark.parametrize("mode", ERAS)
async def test_a_method_the_hub_does_not_know_goes_to_one_server_that_is_granted_whole(
    tmp_path: Path, mode: str
) -> None:
    async with hub_of(tmp_path) as (hub, _):
        for grant, path, known in (
            ("server:my_kinds", "/mcp/my_kinds", True),
            ("server:my_kinds", "/mcp", False),
            ("tool:my_kinds__*", "/mcp/my_kinds", False),
        ):
            secret = await hub.key(grant)
            if mode == "legacy":
                answer = await asked_by_session(hub, secret, path)
            else:
                answer = await post(hub, secret, "vendor.example/do", {"n": 1}, path=path)
            if known:
                assert answer["result"]["echo"] == {"n": 1}
            else:
                assert answer["error"]["code"] == -32601


async def asked_by_session(hub: McpHub, secret: str, path: str) -> Any:
    async with hub.client(secret, mode="legacy", path=path) as client:
        try:
            return {"result": await raw(client, "vendor.example/do", {"n": 1})}
        except MCPError as error:
            return {"error": {"code": error.error.code}}


async def raw(client: Client, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """A request that the SDK has no method for, or warns of."""
    return await client.session._dispatcher.send_raw_request(method, params, {"timeout": 10})


async def test_the_headers_of_an_unknown_method_go_with_it(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _):
        answer = await post(
            hub,
            await hub.key("server:*"),
            "vendor.example/do",
            {},
            "=?base64?Z3LDtsOfZQ==?=",
            "/mcp/my_kinds",
        )
        assert answer["result"]["name"] == "=?base64?Z3LDtsOfZQ==?="


@pytest.mark.parametrize("method", ["tasks/list", "resources/subscribe", "notifications/x", "initialize"])
async def test_methods_with_state_are_never_relayed_raw(tmp_path: Path, method: str) -> None:
    async with hub_of(tmp_path) as (hub, peer):
        before = len(peer.requests)
        answer = await post(
            hub, await hub.key("server:*"), method, {"taskId": "of somebody else"}, path="/mcp/my_kinds"
        )
        assert answer["error"]["code"] == -32601
        assert len(peer.requests) == before


async def test_a_tool_that_is_not_listed_is_callable_with_the_whole_server_alone(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, peer):
        for grant, code in (("server:my_kinds", None), ("tool:my_kinds__*", -32602)):
            answer = await post(hub, await hub.key(grant), "tools/call", {"name": "new"}, "new", "/mcp/my_kinds")
            assert answer.get("error", {}).get("code") == code
        assert [name for name, _ in peer.calls] == ["new"]


async def test_a_denied_tool_is_neither_listed_nor_callable(tmp_path: Path) -> None:
    async with mcp_servers.dual_era(server_of_all_kinds) as peer:
        yaml = f"mcpServers:\n  my_kinds: {{url: {peer.url}, allowed_tools: ['*'], denied_tools: ['hid*']}}\n"
        async with open_mcp_hub(tmp_path, yaml) as hub:
            await hub.listed("my_kinds__show")
            secret = await hub.key("server:*")
            async with hub.client(secret, mode="2026-07-28", path="/mcp/my_kinds") as client:
                assert [tool.name for tool in (await client.list_tools()).tools] == ["show"]
            for name in ("hidden", "hidden2"):
                answer = await post(hub, secret, "tools/call", {"name": name}, name, "/mcp/my_kinds")
                assert answer["error"]["code"] == -32602
            assert peer.calls == []


async def test_a_toolset_reads_what_its_tools_lead_to(tmp_path: Path) -> None:
    async with (
        hub_of(tmp_path, more="toolsets: {some: {description: Boards, tools: ['my_kinds__show']}}\n") as (
            hub,
            _,
        ),
        hub.client(await hub.key("server:*"), path="/mcp/some") as client,
    ):
        assert (await client.list_resources()).resources == []
        assert (await client.list_prompts()).prompts == []
        link = (await client.call_tool("my_kinds__show", {})).content[1]
        assert (await client.read_resource(link.uri)).contents[0].text == f"text of {NOTE}"
        assert client.instructions is not None
        assert client.instructions.startswith("Boards\n\nmy_kinds: Ask me")
        assert len(client.instructions) < 400


@pytest.mark.parametrize("level", ["debug", "loud"])
async def test_an_older_client_sets_its_log_level(tmp_path: Path, level: Any) -> None:
    async with hub_of(tmp_path) as (hub, _), hub.client(await hub.key("server:*"), mode="legacy") as client:
        assert await raw(client, "ping", {}) == {}
        assert client.server_capabilities.logging is not None
        if level == "debug":
            assert await raw(client, "logging/setLevel", {"level": level}) == {}
        else:
            with pytest.raises(MCPError):
                await raw(client, "logging/setLevel", {"level": level})


BAD_PROMPTS = [
    {"name": "good", "description": None},
    {"name": ""},
    {"name": "typed", "arguments": [{"title": "no name"}]},
    {"name": "good"},
]
BAD_RESOURCES = [
    {"uri": "a:1", "name": "n"},
    {"uri": "a:2"},
    {"uri": "a:3\n", "name": "n"},
    {"uri": "a:4", "name": "n", "size": "1"},
]


async def test_a_bad_prompt_or_resource_is_set_apart_alone_and_says_why(tmp_path: Path) -> None:
    def script(asked: dict[str, Any]) -> tuple[int, bytes, bytes] | None:
        results = {
            "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"prompts": {}, "resources": {}}},
            "prompts/list": {"prompts": BAD_PROMPTS, "nextCursor": "again"},
            "resources/list": {"resources": BAD_RESOURCES},
        }
        found = results.get(asked["method"])
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
        if found is None:
            body["error"] = {"code": -32601, "message": "Method not found"}
        else:
            body["result"] = {"resultType": "complete", **found}
        return 200, b"application/json", json.dumps(body).encode()

    async with (
        mcp_servers.scripted(script) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n") as hub,
    ):
        await hub.sync.refresh("peer")
        async with hub.http(await hub.key("admin:*")) as http:
            shown = (await http.get("/api/mcp-servers/peer")).json()
        assert (shown["prompts"], shown["resources"], shown["templates"]) == (["peer__good"], ["peer+a:1"], [])
        reasons = shown["quarantined"]
        assert reasons["prompt #2"].startswith("its name must be")
        assert "arguments" in reasons["prompt typed"]
        assert reasons["resource a:2"] == "its name is missing"
        assert {"resource #3", "resource a:4"} <= reasons.keys()
        async with hub.client(await hub.key("server:*")) as client:
            assert [one.name for one in (await client.list_prompts()).prompts] == ["peer__good"]
        uri = "peer+a:4"
        answer = await post(hub, await hub.key("server:*"), "resources/read", {"uri": uri}, uri)
        assert answer["error"]["code"] == -32602


async def test_a_kind_that_cannot_be_listed_keeps_what_is_known_of_it_alone(tmp_path: Path) -> None:
    broken = asyncio.Event()
    listed = [{"name": "t", "inputSchema": {"type": "object"}}]
    tools = mcp_servers.modern(listed)

    def script(asked: dict[str, Any]) -> tuple[int, bytes, bytes] | None:
        method, result = asked["method"], None
        if method == "server/discover":
            result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}, "prompts": {}}}
        if method == "prompts/list":
            if broken.is_set():
                return 500, b"text/plain", b"broken"
            result = {"prompts": [{"name": "p"}]}
        if result is None:
            return tools(asked)
        body = {"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", **result}}
        return 200, b"application/json", json.dumps(body).encode()

    async with (
        mcp_servers.scripted(script) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n") as hub,
    ):
        await hub.sync.refresh("peer")
        broken.set()
        listed.append({**listed[0], "name": "new"})
        with pytest.raises(Exception, match="failed"):
            await hub.sync.refresh("peer")
        catalog = hub.services.registry.catalog
        assert (list(catalog.tools), list(catalog.prompts)) == (["peer__t", "peer__new"], ["peer__p"])
