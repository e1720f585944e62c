"""The OpenAI doors of a whole hub: keys, paths, a real MCP server behind the tools."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.peers.openai_upstream import Turn, chunk, head, openai_upstream

ASK: list[Any] = [{"role": "user", "content": "hello"}]
CLOCK = f"""
models:
  offline: {{provider: offline}}
mcpServers:
  clock: {{command: {sys.executable}, args: [-m, mcp_server_time]}}
"""


def client(url: str, secret: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=url, api_key=secret, max_retries=0, timeout=30)


async def listed(registry: Any) -> None:
    """Wait until a server's tools are in the catalog."""
    found = asyncio.Event()
    registry.subscribe(lambda _old, new: found.set() if new.tools else None)
    if not registry.catalog.tools:
        async with asyncio.timeout(30):
            await found.wait()


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_official_client_works_with_and_without_v1(hub: Callable[..., Any], prefix: str) -> None:
    async with hub("models:\n  offline: {provider: offline}\n") as running:
        secret = await running.key("model:*")
        async with client(running.url + prefix, secret) as sdk:
            assert [model.id async for model in await sdk.models.list()] == ["offline"]
            answer = await sdk.chat.completions.create(model="offline", messages=ASK)
            assert "hello" in (answer.choices[0].message.content or "")


async def test_errors_have_the_form_of_openai(hub: Callable[..., Any]) -> None:
    async with hub("models:\n  offline: {provider: offline}\n") as running:
        secret = await running.key("model:other")
        async with client(f"{running.url}/v1", "sk-wrong") as sdk:
            with pytest.raises(openai.AuthenticationError) as wrong_key:
                await sdk.models.list()
            assert wrong_key.value.code == "invalid_api_key"
        async with client(f"{running.url}/v1", secret) as sdk:
            with pytest.raises(openai.NotFoundError) as forbidden:
                await sdk.chat.completions.create(model="offline", messages=ASK)
            assert forbidden.value.code == "model_not_found"
        async with running.http(secret) as http:
            assert (await http.get("/v1/chat/completions")).status_code == 405
            answer = await http.post("/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_usage_of_a_provider_is_recorded_for_the_key(hub: Callable[..., Any]) -> None:
    async with openai_upstream(Turn("hi")) as upstream:
        yaml = (
            f"models:\n  m: {{provider: openai, model: up, base_url: '{upstream.url}', api_key: sk-upstream-key-000}}\n"
        )
        async with hub(yaml) as running:
            async with client(f"{running.url}/v1", await running.key("model:m")) as sdk:
                await sdk.chat.completions.create(model="m", messages=ASK)
            (permit,) = [permit for permit in running.gate.permits if permit.kind == "model"]
            assert (permit.usage.input_tokens, permit.usage.output_tokens) == (9, 4)
            assert upstream.received[0].headers["authorization"] == "Bearer sk-upstream-key-000"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_model_said_aloud_is_referred_to_by_an_id_of_the_hub(
    hub: Callable[..., Any], stream: bool
) -> None:
    """Providers keep it for a while, and their ids are good for all of the hub's callers."""
    up = {"model": "up"}
    spoken = {"id": "audio_theirs", "data": "AAAA", "expires_at": 1, "transcript": "hi"}
    whole = {
        **head(up, "chat.completion"),
        "choices": [{"index": 0, "message": {"role": "assistant", "content": None}}],
    }
    whole["choices"][0] |= {"finish_reason": "stop", "logprobs": None}
    whole["choices"][0]["message"] |= {"audio": spoken, "refusal": None}
    raw = (chunk(up, {"role": "assistant", "audio": spoken}), chunk(up, {}, "stop"), b"data: [DONE]\n\n")
    async with openai_upstream(Turn(raw=raw, error=json.dumps(whole).encode())) as upstream:
        yaml = f"models:\n  m: {{provider: openai, model: up, base_url: '{upstream.url}', api_key: sk-upstream-000}}\n"
        async with hub(yaml) as running:
            asked: Any = {"model": "m", "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
            async with client(f"{running.url}/v1", await running.key("model:m")) as sdk:
                answer: Any = await sdk.chat.completions.create(**asked, messages=ASK, stream=stream)
                if stream:
                    (name,) = [one.choices[0].delta.audio.id async for one in answer if one.choices[0].delta.role]
                else:
                    name = answer.choices[0].message.audio.id
                assert "theirs" not in name
                talk = [*ASK, {"role": "assistant", "audio": {"id": name}}, *ASK]
                await sdk.chat.completions.create(**asked, messages=talk)
                assert upstream.received[-1].body["messages"][1]["audio"] == {"id": "audio_theirs"}
                with pytest.raises(openai.BadRequestError, match="voices that a provider keeps"):
                    await sdk.chat.completions.create(**{**asked, "audio": {"voice": {"id": "v"}}}, messages=ASK)
            async with client(f"{running.url}/v1", await running.key("model:m")) as stranger:
                for theirs in (name, "audio_theirs"):
                    talk[1]["audio"]["id"] = theirs
                    with pytest.raises(openai.NotFoundError):
                        await stranger.chat.completions.create(**asked, messages=talk)
            assert len(upstream.received) == 2


@pytest.mark.parametrize("source", ["hub", "hub/mcp/clock", "litellm_proxy/mcp/clock"])
async def test_tool_of_a_real_mcp_server_is_run_for_a_streamed_chat(hub: Callable[..., Any], source: str) -> None:
    async with hub(CLOCK) as running:
        secret = await running.key("model:offline", "tool:clock__*")
        async with client(f"{running.url}/v1", secret) as sdk:
            await listed(running.services.registry)
            stream = await sdk.chat.completions.create(
                model="offline",
                messages=[{"role": "user", "content": "What is the current time in Europe/Berlin?"}],
                tools=[{"type": "mcp", "server_label": "clock", "server_url": source, "require_approval": "never"}],  # type: ignore[list-item]
                stream=True,
            )
            chunks = [chunk async for chunk in stream]
            said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert "Europe/Berlin" in said
            reported = [call for chunk in chunks if hasattr(chunk, "hub") for call in chunk.hub.get("tool_calls", ())]
            assert [(call["server"], call["arguments"]) for call in reported] == [
                ("clock", {"timezone": "Europe/Berlin"})
            ]
