"""A hub with a scripted model and a real MCP server behind `/v1/responses`, and what a stream of it has to look like."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.conftest import Hub, OpenHub
from tests.peers.mcp_servers import Peer, dual_era
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ENDS = {"response.completed", "response.incomplete", "response.failed"}
SOURCE: Any = {"type": "mcp", "server_label": "here", "server_url": "hub/mcp/peer", "require_approval": "never"}
WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}


@dataclass
class Desk:
    """What a test gets."""

    hub: Hub
    sdk: openai.AsyncOpenAI
    upstream: OpenAIUpstream
    peer: Peer
    secret: str

    def messages(self, number: int = -1) -> list[dict[str, Any]]:
        """What the model was told in a round."""
        told: list[dict[str, Any]] = self.upstream.received[number].body["messages"]
        return told


@asynccontextmanager
async def open_desk(hub: OpenHub, *turns: Turn, server: str = "", setting: str = "") -> AsyncIterator[Desk]:
    """Serve it; `server` is a member of the MCP server's entry, `setting` one of the hub's own section."""
    async with openai_upstream(*turns) as upstream, dual_era() as peer:
        yaml = (
            f"models:\n  m: {{provider: deepseek, model: up, base_url: '{upstream.url}', api_key: sk-upstream-000}}\n"
            f"mcpServers:\n  peer: {{url: '{peer.url}', {server}}}\n"
        )
        async with hub(yaml, setting=setting) as running:
            await running.services.sync.refresh("peer")
            secret = await running.key("model:m", "tool:*")
            async with client(running.url, secret) as sdk:
                yield Desk(running, sdk, upstream, peer, secret)


def client(url: str, secret: str) -> openai.AsyncOpenAI:
    """The official SDK, which here raises for an answer that is not as its types say."""
    return openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key=secret, max_retries=0, timeout=30, _strict_response_validation=True
    )


async def streamed(desk: Desk, **asked: Any) -> list[dict[str, Any]]:
    """The events of a streamed response, checked."""
    body = {"model": "m", "stream": True, **asked}
    async with desk.hub.http(desk.secret) as http, http.stream("POST", "/v1/responses", json=body) as answer:
        assert answer.status_code == 200, await answer.aread()
        return checked([line async for line in answer.aiter_lines()])


def checked(lines: list[str]) -> list[dict[str, Any]]:
    """Events of one lifecycle: numbered without a gap, each as the SDK's types say, each item opened and closed once."""
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    names = [line[7:] for line in lines if line.startswith("event: ")]
    assert names == [event["type"] for event in events]
    for event in events:
        EVENT.validate_python(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    assert [event["type"] for event in events if event["type"] in ENDS] == [events[-1]["type"]]
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1
    last = events[-1]["response"]
    Response.model_validate(last)
    added = [event for event in events if event["type"] == "response.output_item.added"]
    done = {event["output_index"]: event["item"] for event in events if event["type"] == "response.output_item.done"}
    assert [event["output_index"] for event in added] == list(range(len(added)))
    assert [event["item"]["id"] for event in added] == [item["id"] for item in last["output"]]
    assert len({item["id"] for item in last["output"]}) == len(last["output"])
    if events[-1]["type"] != "response.failed":
        assert [done[at] for at in range(len(added))] == last["output"]
    _check_deltas(events)
    return events


def _check_deltas(events: list[dict[str, Any]]) -> None:
    """What came piece by piece is what is said whole in the end."""
    said: dict[tuple[Any, ...], str] = {}
    for event in events:
        kind, _, step = event["type"].rpartition(".")
        place = (kind, event.get("item_id"), event.get("content_index"), event.get("summary_index"))
        if step == "delta":
            said[place] = said.get(place, "") + event["delta"]
        elif step == "done" and (whole := [event[name] for name in ("text", "arguments", "refusal") if name in event]):
            assert said.get(place, "") == whole[0]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types of events, without the deltas and without `response.`."""
    return [event["type"].removeprefix("response.") for event in events if not event["type"].endswith(".delta")]


def output(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items of the response that a stream ended with."""
    items: list[dict[str, Any]] = events[-1]["response"]["output"]
    return items
