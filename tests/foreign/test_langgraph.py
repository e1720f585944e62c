"""LangGraph's own A2A server without a hub: how the official client fails with it, and what works."""

from __future__ import annotations

from agents.speech import Speech
from tests.foreign.environments import foreign
from tests.peers.a2a_clients import open_client
from tests.peers.platforms.langgraph_server import a2a_url

pytestmark = foreign


async def test_sdk_client_loses_the_bare_events_of_its_streams() -> None:
    async with open_client(await a2a_url(), Speech("JSONRPC", "1.0")) as client:
        first, *rest = await client.stream("hi")
        assert ":" in first["task"]["id"]
        assert rest
        assert not any(rest)  # each is an empty StreamResponse
        done = (await client.send("hi"))["task"]
        assert done["artifacts"][0]["parts"] == [{"text": "hi"}]
        asked = (await client.send("ask"))["task"]
        assert asked["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
