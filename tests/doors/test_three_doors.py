"""One request through each of the three LLM doors: the same calls, usage and cost, whatever format the model's provider speaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import pytest

from tests.conftest import Hub, OpenHub
from tests.peers.a2a_agent import sdk_agent
from tests.peers.anthropic_upstream import KEY, AnthropicUpstream, Said, anthropic_upstream
from tests.peers.mcp_servers import Peer, dual_era
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream

AGENT = ("agent__research", {"message": "look it up"})
TOOLS = [("peer__echo", {"text": "one"}), ("peer__echo", {"text": "two"}), ("other__echo", {"text": "three"})]
ROUNDS: list[list[tuple[str, dict[str, Any]]]] = [[TOOLS[0], AGENT], [TOOLS[1], TOOLS[2]]]
SOURCES: list[dict[str, Any]] = [
    {"type": "mcp", "server_label": "peer", "server_url": "hub/mcp/peer", "require_approval": "never"},
    {"type": "mcp", "server_label": "other", "server_url": "hub/mcp/other", "require_approval": "never"},
    {"type": "a2a", "agent": "research", "require_approval": "never"},
]
ASK: list[Any] = [{"role": "user", "content": "Go"}]
FORMATS = ("chat", "messages")


@dataclass
class House:
    """A hub with two MCP servers, an agent and a scripted model."""

    hub: Hub
    peers: tuple[Peer, Peer]
    upstream: OpenAIUpstream | AnthropicUpstream

    def calls(self) -> list[dict[str, Any]]:
        """What reached the servers since it was asked last, in no order: those of a round come at the same time."""
        found = sorted((arguments for peer in self.peers for _, arguments in peer.calls), key=str)
        for peer in self.peers:
            peer.calls.clear()
        return found

    async def used(self) -> list[dict[str, Any]]:
        """The usage of the key that was made last, by what was called."""
        name = max((key.created_at, key.name) for key in await self.hub.services.keys.all_live())[1]
        async with self.hub.http(await self.hub.key("admin:usage")) as http:
            rows = (await http.get("/api/usage", params={"by": "key,kind,name"})).json()["items"]
        own = sorted((row for row in rows if row["key"] == name), key=lambda row: row["name"])
        return [{member: row[member] for member in MEASURED} for row in own]


MEASURED = ("kind", "name", "calls", "errors", "input_tokens", "output_tokens", "cost_usd")


@asynccontextmanager
async def house(hub: OpenHub, wire: str, *, runs: int = 1) -> AsyncIterator[House]:
    """Serve it, the model's script said so often."""
    async with dual_era() as peer, dual_era() as other, sdk_agent() as agent, _model(wire, runs) as upstream:
        provider, key = ("anthropic", KEY) if wire == "messages" else ("deepseek", "sk-upstream-000")
        declared = f"""
models:
  m: {{provider: {provider}, model: up, base_url: "{upstream.url}", api_key: {key}, price: {{input: 1, output: 2}}}}
mcpServers:
  peer: {{url: "{peer.url}", price: {{call: 0.25}}}}
  other: {{url: "{other.url}"}}
agents:
  research: {{url: "{agent.url}", price: {{call: 0.5}}}}
"""
        async with hub(declared) as running:
            await running.services.sync.refresh("peer")
            await running.services.sync.refresh("other")
            yield House(running, (peer, other), upstream)


@asynccontextmanager
async def _model(wire: str, runs: int) -> AsyncIterator[OpenAIUpstream | AnthropicUpstream]:
    if wire == "messages":
        said = [Said(f"round {number} ", calls=tuple(calls)) for number, calls in enumerate(ROUNDS)]
        async with anthropic_upstream(*[*said, Said("All done")] * runs) as upstream:
            yield upstream
    else:
        turns = [
            Turn(f"round {number} ", calls=tuple((name, json.dumps(arguments)) for name, arguments in calls))
            for number, calls in enumerate(ROUNDS)
        ]
        async with openai_upstream(*[*turns, Turn("All done")] * runs) as chats:
            yield chats


async def chat(url: str, secret: str, *, stream: bool) -> str:
    """Ask `/v1/chat/completions`; returns the text."""
    sdk = openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key=secret, max_retries=0, timeout=30, _strict_response_validation=True
    )
    asked: dict[str, Any] = {"model": "m", "messages": ASK, "tools": SOURCES}
    async with sdk:
        if not stream:
            answer: Any = await sdk.chat.completions.create(**asked)
            return str(answer.choices[0].message.content)
        chunks = [chunk async for chunk in await sdk.chat.completions.create(**asked, stream=True)]
        assert len({chunk.id for chunk in chunks}) == 1
        assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def responses(url: str, secret: str, *, stream: bool) -> str:
    """Ask `/v1/responses`."""
    sdk = openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key=secret, max_retries=0, timeout=30, _strict_response_validation=True
    )
    asked: dict[str, Any] = {"model": "m", "input": ASK, "tools": SOURCES}
    async with sdk:
        if not stream:
            return str((await sdk.responses.create(**asked)).output_text)
        async with sdk.responses.stream(**asked) as streaming:
            kinds = [event.type async for event in streaming]
            final = await streaming.get_final_response()
        assert kinds[0] == "response.created"
        assert [kind for kind in kinds if kind.startswith(("response.created", "response.completed"))] == [
            kinds[0],
            kinds[-1],
        ]
        return str(final.output_text)


async def messages(url: str, secret: str, *, stream: bool) -> str:
    """Ask `/v1/messages`."""
    sdk = anthropic.AsyncAnthropic(
        base_url=url, api_key=secret, max_retries=0, timeout=30, _strict_response_validation=True
    )
    asked: dict[str, Any] = {"model": "m", "messages": ASK, "max_tokens": 1000, "tools": SOURCES}
    async with sdk:
        if not stream:
            whole = await sdk.beta.messages.create(**asked)
            return "".join(block.text for block in whole.content if block.type == "text")
        async with sdk.beta.messages.stream(**asked) as streaming:
            kinds = [event.type async for event in streaming]
            final = await streaming.get_final_message()
        assert [kinds.count("message_start"), kinds.count("message_stop")] == [1, 1]
        return "".join(block.text for block in final.content if block.type == "text")


DOORS = {"chat": chat, "responses": responses, "messages": messages}


@pytest.mark.parametrize("wire", FORMATS)
async def test_the_same_request_gives_the_same_calls_usage_and_cost(hub: OpenHub, wire: str) -> None:
    """Three tools and an agent, whole and streamed, through every door."""
    async with house(hub, wire, runs=2 * len(DOORS)) as here:
        seen = {}
        for name, ask in DOORS.items():
            for stream in (False, True):
                secret = await here.hub.key("model:m", "tool:*", "agent:research")
                text = await ask(here.hub.url, secret, stream=stream)
                assert "All done" in text
                seen[name, stream] = here.calls(), await here.used()
        calls, used = seen["chat", False]
        assert calls == sorted((arguments for _, arguments in TOOLS), key=str)
        assert [(row["kind"], row["name"], row["calls"]) for row in used] == [
            ("model", "m", 3),
            ("tool", "other__echo", 1),
            ("tool", "peer__echo", 2),
            ("agent", "research", 1),
        ]
        assert [row["cost_usd"] for row in used][1:] == [None, 0.5, 0.5]
        assert {key: found for key, found in seen.items() if found != (calls, used)} == {}


@pytest.mark.parametrize("wire", FORMATS)
@pytest.mark.parametrize("door", DOORS)
async def test_the_first_token_arrives_before_the_last_tool_ends(hub: OpenHub, door: str, wire: str) -> None:
    """The servers' own log: both calls of a round are under way together, and the caller has read text meanwhile."""
    async with dual_era() as peer, dual_era() as other, _waiting(wire) as upstream:
        provider, key = ("anthropic", KEY) if wire == "messages" else ("deepseek", "sk-upstream-000")
        declared = f"""
models:
  m: {{provider: {provider}, model: up, base_url: "{upstream.url}", api_key: {key}}}
mcpServers:
  peer: {{url: "{peer.url}"}}
  other: {{url: "{other.url}"}}
"""
        async with hub(declared) as running, asyncio.timeout(30):
            await running.services.sync.refresh("peer")
            await running.services.sync.refresh("other")
            secret = await running.key("model:m", "tool:*")
            path, body = BODIES[door]
            async with (
                running.http(secret) as http,
                http.stream("POST", path, json={"model": "m", "stream": True, "tools": SOURCES[:2], **body}) as answer,
            ):
                assert answer.status_code == 200, await answer.aread()
                said = b""
                pieces = answer.aiter_bytes()
                async for piece in pieces:
                    said += piece
                    if b"begins" in said:
                        break
                await peer.waiting.wait()
                await other.waiting.wait()
                assert b"ends" not in said
                peer.release.set()
                other.release.set()
                async for piece in pieces:
                    said += piece
            assert b"ends" in said


BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": ASK}),
    "responses": ("/v1/responses", {"input": ASK}),
    "messages": ("/v1/messages", {"messages": ASK, "max_tokens": 100}),
}


@asynccontextmanager
async def _waiting(wire: str) -> AsyncIterator[OpenAIUpstream | AnthropicUpstream]:
    """A model that begins, calls a tool of each server that waits, and ends."""
    if wire == "messages":
        calls = (("peer__wait", {"text": "a"}), ("other__wait", {"text": "b"}))
        async with anthropic_upstream(Said("it begins", calls=calls), Said("it ends")) as upstream:
            yield upstream
    else:
        both = (("peer__wait", '{"text":"a"}'), ("other__wait", '{"text":"b"}'))
        async with openai_upstream(Turn("it begins", calls=both), Turn("it ends")) as chats:
            yield chats
