"""What calls cost, through the doors: messages to agents, tools, models; what failed or only looked costs nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from agents.speech import SPEECHES, Speech
from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.mcp_servers import dual_era
from tests.peers.openai_upstream import USAGE, Turn, openai_upstream


def rpc(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "mine", "method": method, "params": params}


def said(text: str) -> dict[str, Any]:
    return {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}]}}


async def costs(running: Hub, kind: str) -> list[float | None]:
    """Of each call of a kind, as `GET /api/usage` has it by request."""
    async with running.http(ADMIN_KEY) as admin:
        items = (await admin.get("/api/usage", params={"by": "kind,name,outcome"})).json()["items"]
    return [(item["calls"], item["cost_usd"]) for item in items if item["kind"] == kind]


@pytest.mark.parametrize("speech", SPEECHES, ids=str)
async def test_messages_to_an_agent_are_charged_and_looking_is_free(hub: OpenHub, speech: Speech) -> None:
    async with (
        open_agent(speech) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}, price: {{call: 0.5}}}}\n") as running,
        running.http(await running.key("agent:*", "tool:*")) as http,
    ):
        first = (await http.post("/a2a/echo", json=rpc("SendMessage", said("hello")))).json()["result"]
        async with http.stream("POST", "/a2a/echo", json=rpc("SendStreamingMessage", said("hello"))) as stream:
            await stream.aread()
        assert await costs(running, "agent") == [(2, 1.0)]
        looked = await http.post("/a2a/echo", json=rpc("GetTask", {"id": first["task"]["id"]}))
        assert "result" in looked.json()
        assert (await http.post("/a2a/echo", json=rpc("GetTask", {"id": "none"}))).json()["error"]
        assert sum(cost or 0 for _, cost in await costs(running, "agent")) == 1.0


async def call(http: httpx.AsyncClient, name: str) -> dict[str, Any]:
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": name}
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = rpc("tools/call", {"name": name, "arguments": {"text": "x"}, "_meta": meta})
    accept = {"accept": "application/json, text/event-stream"}
    return (await http.post("/mcp", json=body, headers={**headers, **accept})).json()


async def test_the_first_glob_that_fits_a_tool_says_what_it_costs(hub: OpenHub) -> None:
    async with dual_era() as server:
        priced = "{call: 0.25, tools: {'ec*': 1, 'e*': 2}}"
        yaml = f"mcpServers:\n  s: {{url: '{server.url}', price: {priced}}}\n  free: {{url: '{server.url}'}}\n"
        async with hub(yaml) as running:
            for name in ("s", "free"):
                await running.services.sync.refresh(name)
            async with running.http(await running.key("tool:*")) as http:
                for name in ("s__echo", "s__region", "free__echo"):
                    assert "result" in await call(http, name)
                assert "error" in await call(http, "s__fail")
            async with running.http(ADMIN_KEY) as admin:
                items = (await admin.get("/api/usage", params={"by": "name"})).json()["items"]
    assert {item["name"]: item["cost_usd"] for item in items} == {
        "free__echo": None,
        "s__echo": 1.0,
        "s__fail": None,
        "s__region": 0.25,
    }


async def test_prices_are_written_and_shown_by_the_api(hub: OpenHub) -> None:
    async with openai_upstream(Turn("hi")) as upstream, hub() as running, running.http(ADMIN_KEY) as admin:
        body = {"name": "m", "provider": "openai", "base_url": upstream.url, "api_key": "sk-up-000"}
        wrong = await admin.post("/api/models", json={**body, "price": {"input": -1, "ouput_": 2}})
        assert wrong.status_code == 400
        assert "price.input" in wrong.text
        assert "did you mean 'output'" in wrong.text
        made = await admin.post("/api/models", json={**body, "price": {"input": 1e6, "output": 2e6, "reasoning": 1e7}})
        assert made.status_code == 201
        assert made.json()["price"]["reasoning"] == 1e7
        asked = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        answer = (await admin.post("/v1/chat/completions", json=asked)).json()
        thought = USAGE["completion_tokens_details"]["reasoning_tokens"]
        expected = USAGE["prompt_tokens"] + 2 * (USAGE["completion_tokens"] - thought) + 10 * thought
        assert answer["hub"]["usage"]["cost_usd"] == pytest.approx(expected)
        [item] = (await admin.get("/api/usage", params={"by": "name"})).json()["items"]
        assert (item["cost_usd"], item["reasoning_tokens"]) == (pytest.approx(expected), thought)
