"""Anthropic's door of a whole hub: keys, paths, errors, a real MCP server behind the tools."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import pytest

from tests.peers.anthropic_upstream import KEY, Said, anthropic_upstream

ASK: list[Any] = [{"role": "user", "content": "What is the current time in Europe/Berlin?"}]
OFFLINE = "models:\n  offline: {provider: offline}\n"
CLOCK = f"{OFFLINE}mcpServers:\n  clock: {{command: {sys.executable}, args: [-m, mcp_server_time]}}\n"


def client(url: str, secret: str, **members: Any) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(
        base_url=url, max_retries=0, timeout=30, _strict_response_validation=True, **(members or {"api_key": secret})
    )


@pytest.mark.parametrize("headers", ["x-api-key", "authorization"])
@pytest.mark.parametrize("path", ["/messages", "/v1/messages", "/v1/messages?beta=true"])
async def test_every_way_of_claude_code_leads_in(hub: Callable[..., Any], path: str, headers: str) -> None:
    async with hub(OFFLINE) as running:
        secret = await running.key("model:*")
        sent = {headers: secret if headers == "x-api-key" else f"Bearer {secret}", "anthropic-version": "2023-06-01"}
        async with httpx.AsyncClient(base_url=running.url, headers=sent, trust_env=False) as http:
            body = {"model": "offline", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
            answer = await http.post(path, json=body)
        assert answer.status_code == 200
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
        assert "hello" in answer.json()["content"][0]["text"]


async def test_tool_of_a_real_mcp_server_is_run_for_a_stream(hub: Callable[..., Any]) -> None:
    async with hub(CLOCK) as running:
        await running.services.sync.refresh("clock")
        async with (
            client(running.url, await running.key("model:offline", "tool:clock__*")) as sdk,
            sdk.beta.messages.stream(
                model="offline",
                max_tokens=100,
                messages=ASK,
                mcp_servers=[{"type": "url", "url": f"{running.url}/mcp/clock", "name": "clock"}],
                tools=[{"type": "mcp_toolset", "mcp_server_name": "clock"}],
                betas=["mcp-client-2025-11-20"],
            ) as stream,
        ):
            answer = await stream.get_final_message()
        use, result, text = answer.content
        assert (use.type, use.server_name, use.input) == ("mcp_tool_use", "clock", {"timezone": "Europe/Berlin"})
        assert (result.type, result.is_error, result.tool_use_id) == ("mcp_tool_result", False, use.id)
        assert "Europe/Berlin" in text.text


async def test_errors_have_anthropics_form(hub: Callable[..., Any]) -> None:
    async with hub(OFFLINE) as running:
        secret = await running.key("model:other")
        async with client(running.url, "sk-wrong") as sdk:
            with pytest.raises(anthropic.AuthenticationError) as wrong_key:
                await sdk.messages.create(model="offline", max_tokens=9, messages=ASK)
        assert wrong_key.value.type == "authentication_error"
        async with client(running.url, secret) as sdk:
            with pytest.raises(anthropic.NotFoundError) as forbidden:
                await sdk.messages.create(model="offline", max_tokens=9, messages=ASK)
        assert forbidden.value.type == "not_found_error"
        assert forbidden.value.request_id == forbidden.value.body["request_id"]  # type: ignore[index]
        async with running.http(secret) as http:
            assert (await http.get("/v1/messages")).status_code == 405
            answer = await http.post("/v1/messages", content=b"{", headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_silent_stream_is_pinged(hub: Callable[..., Any]) -> None:
    going_on = asyncio.Event()
    async with anthropic_upstream(Said("one two", hold_last=going_on)) as upstream:
        yaml = f"models:\n  claude: {{provider: anthropic, base_url: '{upstream.url}', api_key: {KEY}}}\n"
        body = {"model": "claude", "max_tokens": 9, "messages": ASK, "stream": True}
        pings = 0
        async with (
            asyncio.timeout(30),
            hub(yaml, setting="limits: {keep_alive_s: 0.05}") as running,
            running.http(await running.key("model:claude")) as http,
            http.stream("POST", "/v1/messages", json=body) as answer,
        ):
            async for line in answer.aiter_lines():
                pings += line == 'data: {"type":"ping"}'
                if pings == 3:  # one is the upstream's
                    going_on.set()
                if line.startswith("data: ") and json.loads(line[6:])["type"] == "message_stop":
                    break
        assert pings >= 3


async def test_what_the_provider_counted_is_recorded_for_the_key(hub: Callable[..., Any]) -> None:
    async with anthropic_upstream(Said("hi")) as upstream:
        yaml = f"models:\n  claude: {{provider: anthropic, base_url: '{upstream.url}/v1', api_key: {KEY}}}\n"
        async with hub(yaml) as running, client(running.url, await running.key("model:claude")) as sdk:
            await sdk.messages.create(model="claude", max_tokens=9, messages=ASK)
            await sdk.messages.count_tokens(model="claude", messages=ASK)
            one, counted = [permit.usage for permit in running.gate.permits if permit.kind == "model"]
        assert (one.input_tokens, one.output_tokens, one.estimated) == (10, 7, False)
        assert (counted.input_tokens, counted.output_tokens, counted.estimated) == (0, 0, False)


RAN: Any = {
    "type": "bash_code_execution_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": {
        "type": "bash_code_execution_result",
        "stdout": "",
        "stderr": "",
        "return_code": 0,
        "content": [{"type": "bash_code_execution_output", "file_id": "file_theirs"}],
    },
}
MADE: Any = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "up",
    "content": [RAN],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 1},
    "container": {"id": "container_theirs", "expires_at": "2030-01-01T00:00:00Z"},
}
CODE: Any = [{"type": "code_execution_20250825", "name": "code_execution"}]


def events_of(message: Any) -> tuple[bytes, ...]:
    end = {"stop_reason": "end_turn", "stop_sequence": None, "container": message["container"]}
    found: list[Any] = [
        {"type": "message_start", "message": {**message, "content": [], "container": None}},
        {"type": "content_block_start", "index": 0, "content_block": RAN},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    return tuple(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in found)


async def test_skills_of_the_providers_customer_are_refused_and_its_own_pass(hub: Callable[..., Any]) -> None:
    own, custom = ({"type": kind, "skill_id": f"{kind}_1", "version": "latest"} for kind in ("anthropic", "custom"))
    async with anthropic_upstream(Said("done")) as upstream:
        yaml = f"models:\n  m: {{provider: anthropic, model: up, base_url: '{upstream.url}', api_key: {KEY}}}\n"
        async with hub(yaml) as running, client(running.url, await running.key("model:m")) as sdk:
            asked: dict[str, Any] = {"model": "m", "max_tokens": 9, "tools": CODE, "messages": ASK}
            with pytest.raises(anthropic.BadRequestError, match="skills that a provider keeps"):
                await sdk.beta.messages.create(**asked, container={"skills": [own, custom]})
            with pytest.raises(anthropic.BadRequestError, match="threads that a provider keeps"):
                await sdk.beta.messages.create(**asked, thread={"type": "continue", "previous_message_id": "msg_1"})
            assert upstream.received == []
            await sdk.beta.messages.create(**asked, container={"skills": [own]})
        assert [one.body["container"] for one in upstream.received] == [{"skills": [own]}]


@pytest.mark.parametrize("stream", [False, True])
async def test_files_and_containers_of_a_provider_have_ids_of_the_hub(hub: Callable[..., Any], stream: bool) -> None:
    raw = events_of(MADE) if stream else (json.dumps(MADE).encode(),)
    async with anthropic_upstream(Said(raw=raw)) as upstream:
        yaml = f"models:\n  m: {{provider: anthropic, model: up, base_url: '{upstream.url}', api_key: {KEY}}}\n"
        async with hub(yaml) as running:
            ask: dict[str, Any] = {"model": "m", "max_tokens": 9, "tools": CODE, "messages": ASK}
            async with running.http(await running.key("model:m")) as http:
                answer = await http.post("/v1/messages", json={**ask, "stream": stream})
                assert "theirs" not in answer.text
                if stream:
                    said = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
                    block, container = said[1]["content_block"], said[3]["delta"]["container"]["id"]
                else:
                    block, container = answer.json()["content"][0], answer.json()["container"]["id"]
                talk = [*ASK, {"role": "assistant", "content": [block]}, *ASK]
                await http.post(
                    "/v1/messages", json={**ask, "stream": stream, "messages": talk, "container": container}
                )
                sent = upstream.received[-1].body
                assert sent["container"] == "container_theirs"
                assert sent["messages"][1]["content"] == [RAN]
            picture = {"type": "image", "source": {"type": "file", "file_id": "file_theirs"}}
            nested = {"type": "tool_result", "tool_use_id": "t", "content": [picture]}
            async with running.http(await running.key("model:m")) as stranger:
                for more in (
                    {"container": "container_theirs"},
                    {"container": {"id": container}},
                    {"messages": [{"role": "user", "content": [picture]}]},
                    {"messages": [{"role": "user", "content": [nested]}]},
                    {"messages": talk},
                ):
                    refused = await stranger.post("/v1/messages", json={**ask, **more})
                    assert (refused.status_code, refused.json()["error"]["type"]) == (404, "not_found_error"), more
            assert len(upstream.received) == 2
