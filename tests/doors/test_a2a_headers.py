"""What goes on of headers, for every client's speech and every agent's: extensions both ways, and the trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from a2a.types import a2a_pb2
from a2a.types.a2a_pb2_grpc import A2AServiceStub

from agents.speech import SPEECHES, Speech
from tests.conftest import Hub, OpenHub
from tests.peers.a2a_clients import message, open_client
from tests.peers.a2a_sdk_agents import Agent, open_agent

TRACE = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": "vendor=a,other=b"}
NAME = {"1.0": "a2a-extensions", "0.3": "x-a2a-extensions"}
OLD_MESSAGE = {"messageId": "m-1", "role": "user", "kind": "message", "parts": [{"kind": "text", "text": "complete 1"}]}
OLD_REST_MESSAGE = {"messageId": "m-1", "role": "ROLE_USER", "content": [{"text": "complete 1"}]}

matrix = pytest.mark.parametrize(
    ("client", "agent"),
    [
        pytest.param(client, agent, id=f"{client.binding}-{client.version} to {agent.binding}-{agent.version}")
        for client in SPEECHES
        for agent in SPEECHES
    ],
)


@asynccontextmanager
async def pair(hub: OpenHub, client: Speech, agent: Speech) -> AsyncIterator[tuple[Hub, Agent, dict[str, str]]]:
    async with (
        open_agent(agent) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n", grpc=client.binding == "GRPC") as running,
    ):
        yield running, peer, {"authorization": f"Bearer {await running.key('agent:*')}"}


@matrix
async def test_extensions_asked_for_and_the_trace_reach_the_agent(hub: OpenHub, client: Speech, agent: Speech) -> None:
    async with pair(hub, client, agent) as (running, peer, own):
        async with open_client(f"{running.url}/a2a/echo/", client, headers={**own, **TRACE}) as sdk:
            await sdk.ask("SendMessage", message("complete 1"), extensions=["urn:a", "urn:b"])
            async for _ in sdk.follow("SendStreamingMessage", message("complete 1"), extensions=["urn:a", "urn:b"]):
                pass
        for call in peer.calls:
            assert sorted(call.headers[NAME[agent.version]].split(",")) == ["urn:a", "urn:b"]
            assert {name: call.headers[name] for name in TRACE} == TRACE


@matrix
async def test_extensions_that_the_agent_used_reach_the_client(hub: OpenHub, client: Speech, agent: Speech) -> None:
    async with pair(hub, client, agent) as (running, peer, own):
        peer.activated = "urn:used"
        if client.binding == "GRPC":
            assert await over_grpc(running, own) == ["urn:used", "urn:used"]
            return
        async with running.http() as http:
            for path, body in requests(client):
                answer = await http.post(f"/a2a/echo{path}", json=body, headers=own)
                assert answer.status_code == 200
                assert answer.headers[NAME[client.version]] == "urn:used"


def requests(client: Speech) -> list[tuple[str, dict[str, Any]]]:
    """A message and a streamed one, as a client of this speech writes them: path and body."""
    new = message("complete 1")
    match client:
        case Speech("JSONRPC", "1.0"):
            return [
                ("", {"jsonrpc": "2.0", "id": 1, "method": method, "params": new})
                for method in ("SendMessage", "SendStreamingMessage")
            ]
        case Speech("JSONRPC", "0.3"):
            return [
                ("", {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": OLD_MESSAGE}})
                for method in ("message/send", "message/stream")
            ]
        case Speech("HTTP+JSON", "1.0"):
            return [("/message:send", new), ("/message:stream", new)]
        case _:
            old = {"message": OLD_REST_MESSAGE}
            return [("/v1/message:send", old), ("/v1/message:stream", old)]


async def over_grpc(running: Hub, own: dict[str, str]) -> list[Any]:
    said = a2a_pb2.Message(message_id="m-1", role=a2a_pb2.ROLE_USER, parts=[a2a_pb2.Part(text="complete 1")])
    request = a2a_pb2.SendMessageRequest(tenant="echo", message=said)
    assert running.grpc is not None
    async with grpc.aio.insecure_channel(running.grpc) as channel:
        stub: Any = A2AServiceStub(channel)
        unary = stub.SendMessage(request, metadata=tuple(own.items()), timeout=20)
        await unary
        stream = stub.SendStreamingMessage(request, metadata=tuple(own.items()), timeout=20)
        assert [event async for event in stream]
        return [dict(await call.initial_metadata()).get("a2a-extensions") for call in (unary, stream)]
