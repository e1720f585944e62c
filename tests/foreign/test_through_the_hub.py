"""The JavaScript SDK through a hub to agents of the Python SDK, in every speech and to every kind of agent."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from agents.speech import Speech
from tests.conftest import OpenHub
from tests.foreign.a2a_js import JsError
from tests.foreign.environments import foreign
from tests.foreign.through import ALL, JS, Client, Kind, body, state, texts, through
from tests.peers.a2a_agent import Seen, reply, rough_agent, simple_card
from tests.peers.a2a_sdk_agents import Agent, open_agent

AGENTS = [Speech("JSONRPC", "1.0"), Speech("HTTP+JSON", "0.3"), Speech("GRPC", "1.0")]
"""One of each binding and of both versions; that the rest work with each other is what `tests/doors` shows."""

cells = pytest.mark.parametrize(
    ("kind", "agent"),
    [
        pytest.param(kind, agent, id=f"{kind} to {agent.binding} {agent.version}")
        for kind in JS
        for agent in dict.fromkeys([*AGENTS, kind.speech])
    ],
)
pytestmark = foreign


@asynccontextmanager
async def cell(hub: OpenHub, kind: Kind, agent: Speech) -> AsyncIterator[tuple[Client, Agent]]:
    async with (
        open_agent(agent) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n", grpc=kind.speech.binding == "GRPC") as running,
        through(running, "echo", kind) as client,
    ):
        yield client, peer


@cells
async def test_messages_are_sent_and_streamed_and_their_tasks_read(hub: OpenHub, kind: Kind, agent: Speech) -> None:
    async with cell(hub, kind, agent) as (client, peer):
        task = await client.send("complete 2")
        assert state(task) == "COMPLETED"
        again = await client.ask("GetTask", {"id": task["id"]})
        assert texts(again) == texts(task) == peer.emitted[task["id"]]
        events = await client.stream("complete 3")
        shown = [text for event in events[1:] for text in texts(event)]
        assert shown == peer.emitted[body(events[0])["id"]]
        assert state(events[-1]) == "COMPLETED"


@cells
async def test_a_stream_that_is_left_is_joined_again(hub: OpenHub, kind: Kind, agent: Speech) -> None:
    async with cell(hub, kind, agent) as (client, peer):
        async with aclosing(client.follow("SendStreamingMessage", client.said("slow 2"))) as events:
            task_id = body(await anext(events))["id"]
            await peer.release()
            async for event in events:
                if texts(event):
                    break
        async with aclosing(client.follow("SubscribeToTask", {"id": task_id})) as events:
            assert body(await anext(events))["id"] == task_id
            await peer.release()
            rest = [event async for event in events]
        assert [text for event in rest for text in texts(event)] == peer.emitted[task_id][1:]
        assert state(rest[-1]) == "COMPLETED"


@cells
async def test_a_question_is_answered_and_a_waiting_task_is_cancelled(hub: OpenHub, kind: Kind, agent: Speech) -> None:
    async with cell(hub, kind, agent) as (client, peer):
        asked = await client.send("ask")
        assert state(asked) == "INPUT_REQUIRED"
        done = await client.send("yes", taskId=asked["id"], contextId=asked["contextId"])
        assert (done["id"], state(done)) == (asked["id"], "COMPLETED")
        async with aclosing(client.follow("SendStreamingMessage", client.said("wait"))) as events:
            task_id = body(await anext(events))["id"]
            await anext(events)
            assert state(await client.ask("CancelTask", {"id": task_id})) == "CANCELED"
        assert "CancelTask" in peer.operations


@cells
async def test_errors_are_thrown_as_what_they_are(hub: OpenHub, kind: Kind, agent: Speech) -> None:
    async with cell(hub, kind, agent) as (client, _):
        with pytest.raises(JsError) as unknown:
            await client.ask("GetTask", {"id": "nobody"})
        done = await client.send("complete 1")
        with pytest.raises(JsError) as late:
            await client.ask("CancelTask", {"id": done["id"]})
        assert (unknown.value.name, late.value.name) == ("TaskNotFoundError", "TaskNotCancelableError")


@pytest.mark.parametrize("kind", ALL, ids=str)
async def test_bytes_of_a_file_come_to_every_client_as_they_are(hub: OpenHub, kind: Kind) -> None:
    raw = base64.b64encode(b"\x00 any bytes").decode()

    async def answer(seen: Seen, send: Any) -> None:
        part = {"raw": raw, "mediaType": "image/png", "filename": "a.png"}
        message = {"messageId": "a", "role": "ROLE_AGENT", "parts": [part]}
        await reply(send, {"jsonrpc": "2.0", "id": seen.json["id"], "result": {"message": message}})

    async with (
        rough_agent(answer, simple_card("1.0")) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n", grpc=kind.speech.binding == "GRPC") as running,
        through(running, "echo", kind) as client,
    ):
        (part,) = (await client.send("hi"))["parts"]
        assert raw in {part.get("raw"), part.get("file", {}).get("bytes"), (part.get("content") or {}).get("value")}
