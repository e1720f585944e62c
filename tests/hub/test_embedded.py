"""`hub.Hub` without a server: real MCP server, real A2A agent, scripted model."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp.types as t
import pytest
from mcp import Client
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel import Server

from hub import Hub, HubError, acompletion
from hub.mcp_tools import call_anthropic_tool, call_openai_tool, load_mcp_tools
from registry.declared.config import ConfigInvalid
from registry.errors import InvalidRequest, NotFound, RateLimited, Unauthenticated, UpstreamUnavailable
from registry.spending.usage import summary
from tests.peers.a2a_agent import sdk_agent
from tests.peers.mcp_servers import TEXT, Peer, dual_era
from tests.peers.openai_upstream import USAGE, Turn, openai_upstream

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
PRICE = {"input": 1000, "output": 2000}
ROUND_USD = (USAGE["prompt_tokens"] * 1000 + USAGE["completion_tokens"] * 2000) / 1e6
KEY = "sk-of-a-program-00000001"


def model(url: str, **members: Any) -> dict[str, Any]:
    return {"m": {"provider": "openai", "model": "up", "base_url": url, "api_key": "sk-upstream-000", **members}}


async def used(hub: Hub, *by: str) -> list[dict[str, Any]]:
    await hub._services.usage.flush()
    return await hub._services.database.read(lambda session: summary(session, by, None, None))


async def test_a_chat_runs_tools_and_says_what_each_round_and_the_whole_cost() -> None:
    turns = (Turn(calls=(("s__echo", '{"text":"x"}'),)), Turn("Done"))
    async with dual_era() as server, openai_upstream(*turns) as upstream:
        servers = {"s": {"url": server.url, "price": {"call": 0.25, "tools": {"e*o": 0.5}}}}
        async with Hub.open({"models": model(upstream.url, price=PRICE), "mcpServers": servers}) as hub:
            tools = [{"type": "mcp", "server_label": "s", "server_url": "hub/mcp/s"}]
            answer = await hub.chat(model="m", messages=HELLO, tools=tools)
            rows = await used(hub, "kind")
    assert answer.choices[0].message.content == answer["choices"][0]["message"]["content"] == "Done"
    assert answer.hub.tool_calls[0].tool == "echo"
    assert [one.model for one in answer.hub.usage.rounds] == ["m", "m"]
    assert [one.cost_usd for one in answer.hub.usage.rounds] == pytest.approx([ROUND_USD] * 2)
    assert answer.hub.usage.cost_usd == pytest.approx(2 * ROUND_USD + 0.5)
    assert {row["kind"]: row["cost_usd"] for row in rows} == pytest.approx({"model": 2 * ROUND_USD, "tool": 0.5})


async def test_a_whole_answer_that_passes_through_has_its_cost_and_else_the_providers_bytes() -> None:
    async with openai_upstream(Turn("hi"), Turn("hi")) as upstream:
        models = {**model(upstream.url, price=PRICE), "unpriced": model(upstream.url)["m"]}
        async with Hub.open({"models": models}) as hub:
            priced = await hub.chat(model="m", messages=HELLO)
            unpriced = await hub.chat(model="unpriced", messages=HELLO)
            rows = await used(hub, "name")
    assert priced.pop("hub") == {"usage": {"cost_usd": pytest.approx(ROUND_USD)}}
    assert priced == unpriced
    assert {row["name"]: row["cost_usd"] for row in rows} == {"m": pytest.approx(ROUND_USD), "unpriced": None}
    reasoned = USAGE["completion_tokens_details"]["reasoning_tokens"]
    assert [row["reasoning_tokens"] for row in rows] == [reasoned, reasoned]


async def test_a_stream_that_passes_through_says_its_cost_with_its_usage() -> None:
    async with (
        openai_upstream(Turn("a b"), Turn("a b")) as upstream,
        Hub.open({"models": model(upstream.url, price=PRICE)}) as hub,
    ):
        wanted = {"stream_options": {"include_usage": True}}
        chunks = [chunk async for chunk in await hub.chat(model="m", messages=HELLO, stream=True, **wanted)]
        plain = [chunk async for chunk in await hub.chat(model="m", messages=HELLO, stream=True)]
        [row] = await used(hub)
    assert chunks[-1].usage == USAGE
    assert chunks[-1].hub == {"usage": {"cost_usd": pytest.approx(ROUND_USD)}}
    assert [chunk for chunk in plain if chunk.get("usage") or "hub" in chunk] == []
    assert row["cost_usd"] == pytest.approx(2 * ROUND_USD)


async def test_chunks_come_as_they_are_made_and_leaving_ends_the_request() -> None:
    last = asyncio.Event()
    async with (
        openai_upstream(Turn("one two three", hold_last=last)) as upstream,
        Hub.open({"models": model(upstream.url)}) as hub,
    ):
        stream = await hub.chat(model="m", messages=HELLO, stream=True)
        said = ""
        async for chunk in stream:
            said += chunk.choices[0].delta.get("content") or ""
            if "two" in said:
                break
        await stream.aclose()
        [row] = await used(hub, "outcome")
    assert row["outcome"] == "cancelled"


async def test_a_stream_that_nobody_reads_does_not_keep_the_hub_open() -> None:
    last = asyncio.Event()
    async with asyncio.timeout(30), openai_upstream(Turn("a " * 500, hold_last=last)) as upstream:
        try:
            async with Hub.open({"models": model(upstream.url)}) as hub:
                await hub.chat(model="m", messages=HELLO, stream=True)
        finally:
            last.set()


async def test_what_fails_before_or_within_a_stream_is_an_error_of_the_hub() -> None:
    turns = (Turn(status=500, error=b"{}"), Turn("one two three", cut_after=2))
    async with openai_upstream(*turns) as upstream, Hub.open({"models": model(upstream.url, retries=0)}) as hub:
        with pytest.raises(UpstreamUnavailable):
            await hub.chat(model="m", messages=HELLO, stream=True)
        stream = await hub.chat(model="m", messages=HELLO, stream=True)
        with pytest.raises(HubError, match=r"cut short|broke|ended"):
            [chunk async for chunk in stream]
        with pytest.raises(NotFound, match="No model 'x'"):
            await hub.chat(model="x", messages=HELLO)


async def test_tools_and_agents_are_called_listed_and_charged() -> None:
    async with dual_era() as server, sdk_agent() as agent:
        config = {
            "mcpServers": {"s": {"url": server.url}},
            "agents": {"research": {"url": agent.url, "price": {"call": 0.05}}},
        }
        async with Hub.open(config) as hub:
            assert {"s__echo", "agent__research"} <= {tool.name for tool in hub.list_tools()}
            assert hub.list_tools("anthropic")[0].input_schema
            result = await hub.call_tool("s__echo", {"text": "x"})
            assert result.content[0].type == "text"
            assert (await hub.call_tool("s__fail", {"text": "x"})).isError
            first = await hub.send_message("research", "one two")
            assert first.task.status.state == "TASK_STATE_COMPLETED"
            again = {"parts": [{"text": "three"}], "metadata": {"mine": 1}}
            second = await hub.send_message("research", again, context_id=first.task.contextId)
            assert second.task.contextId == first.task.contextId
            with pytest.raises(NotFound):
                await hub.send_message("nobody", "x")
            with pytest.raises(HubError):
                await hub.call_tool("s__nothing")
            rows = await used(hub, "kind")
    assert {row["kind"]: row["cost_usd"] for row in rows} == {"tool": None, "agent": pytest.approx(0.1)}


async def test_a_key_has_its_own_grants_and_pace() -> None:
    key = {"name": "p", "key": KEY, "allow": ["model:offline"], "limits": {"requests_per_minute": 1}}
    config = {"models": {"offline": {"provider": "offline"}, "other": {"provider": "offline"}}, "keys": [key]}
    async with Hub.open(config, key=KEY) as hub:
        assert hub.list_models() == ["offline"]
        with pytest.raises(NotFound):
            await hub.chat(model="other", messages=HELLO)
        await hub.chat(model="offline", messages=HELLO)
        with pytest.raises(RateLimited):
            await hub.chat(model="offline", messages=HELLO)
        assert [row["key"] for row in await used(hub, "key")] == ["p"]
    with pytest.raises(Unauthenticated):
        async with Hub.open(config, key="sk-unknown"):
            pass


async def test_a_file_keeps_its_state_and_names_its_faults(tmp_path: Path) -> None:
    file = tmp_path / "hub.yaml"
    file.write_text(f"hub: {{database: 'sqlite:///{tmp_path}/kept.db'}}\nmodels: {{offline: {{provider: offline}}}}\n")
    for calls in (1, 2):
        async with Hub.open(file) as hub:
            await hub.chat(model="offline", messages=HELLO)
            assert (await used(hub))[0]["calls"] == calls
    file.write_text("models: {m: {provider: opnai}}\n")
    with pytest.raises(ConfigInvalid, match="did you mean 'openai'"):
        async with Hub.open(str(file)):
            pass


async def test_a_missing_key_of_a_provider_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    async with Hub.open() as hub:
        with pytest.raises(UpstreamUnavailable, match="GROQ_API_KEY"):
            await hub.chat(model="groq/llama-3.3-70b", messages=HELLO)
        with pytest.raises(InvalidRequest):
            await hub.chat(model="", messages=HELLO)
        with pytest.raises(InvalidRequest, match="api_key is said by the environment"):
            await hub.chat(model="groq/x", messages=HELLO, api_key="sk-mine")


async def test_acompletion_answers_and_streams_in_any_loop() -> None:
    answer = await acompletion("offline/any", HELLO)
    assert "hello" in answer.choices[0].message.content
    stream: AsyncIterator[Any] = await acompletion("offline/any", HELLO, stream=True)
    said = "".join([chunk.choices[0].delta.get("content", "") async for chunk in stream if chunk.choices])
    assert "hello" in said
    assert not [name for name in os.listdir() if name.endswith(".db")]


async def test_importing_the_package_loads_nothing_of_it() -> None:
    program = (
        "import sys, hub; print(*sorted(name for name in sys.modules if name.startswith(('hub', 'registry', 'mcp'))))"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    printed, _ = await child.communicate()
    assert printed.split() == [b"hub"]


def paged(peer: Peer, **_options: Any) -> Server[Any]:
    """Three pages of tools."""
    schema = {**TEXT, "$defs": {"x": {"type": "integer"}}, "additionalProperties": False}

    async def list_tools(_ctx: Any, params: Any) -> t.ListToolsResult:
        page = int((params and params.cursor) or 0)
        tools = [t.Tool(name=f"tool{page}", description="d", input_schema=schema)]
        return t.ListToolsResult(tools=tools, next_cursor=str(page + 1) if page < 2 else None)

    async def call_tool(_ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
        peer.calls.append((params.name, params.arguments or {}))
        return t.CallToolResult(content=[t.TextContent(type="text", text="done")])

    return Server("paged", on_list_tools=list_tools, on_call_tool=call_tool)


async def test_tools_of_a_session_are_loaded_from_all_pages_with_their_schemas() -> None:
    async with dual_era(paged) as server, Client(server.url) as client:
        found = await load_mcp_tools(client, format="openai")
        assert [tool["function"]["name"] for tool in found] == ["tool0", "tool1", "tool2"]
        assert found[2]["function"]["parameters"]["$defs"] == {"x": {"type": "integer"}}
        assert set((await load_mcp_tools(client, format="anthropic"))[0]) == {"name", "description", "input_schema"}
        assert [tool.name for tool in await load_mcp_tools(client)] == ["tool0", "tool1", "tool2"]
        asked = {"id": "1", "type": "function", "function": {"name": "tool1", "arguments": '{"text":"x"}'}}
        assert (await call_openai_tool(client, asked)).content[0].text == "done"
        block = {"type": "tool_use", "id": "1", "name": "tool2", "input": {"text": "y"}}
        assert not (await call_anthropic_tool(client, block)).is_error
        for wrong in (
            {"function": {"name": "tool1", "arguments": "[1]"}},
            {"function": {"name": "tool1", "arguments": "{"}},
            {},
        ):
            with pytest.raises(ValueError, match=r"not a JSON object|no call of a function"):
                await call_openai_tool(client, wrong)
        with pytest.raises(ValueError, match="tool_use"):
            await call_anthropic_tool(client, {"type": "text", "text": "x"})
        with pytest.raises(ValueError, match="none of"):
            await load_mcp_tools(client, format="gemini")  # type: ignore[arg-type]
    assert server.calls == [("tool1", {"text": "x"}), ("tool2", {"text": "y"})]


async def test_a_plain_client_session_is_paged_too() -> None:
    async with (
        dual_era(paged) as server,
        streamable_http_client(server.url) as streams,
        ClientSession(*streams[:2]) as session,
    ):
        await session.initialize()
        assert len(await load_mcp_tools(session)) == 3
