"""LangGraph's own A2A server without a hub: how the official client fails with it, and what works."""

from __future__ import annotations

from pathlib import Path

from agents.speech import Speech
from tests.foreign.environments import foreign, open_langgraph
from tests.peers.a2a_clients import open_client

pytestmark = foreign


async def test_sdk_client_loses_the_bare_events_of_its_streams(tmp_path: Path) -> None:
    async with open_langgraph(tmp_path) as agent, open_client(agent.url, Speech("JSONRPC", "1.0")) as client:
        first, *rest = await client.stream("hi")
        assert ":" in first["task"]["id"]
        assert rest
        assert not any(rest)  # each is an empty StreamResponse
        done = (await client.send("hi"))["task"]
        assert done["artifacts"][0]["parts"] == [{"text": "you said: hi"}]
        asked = (await client.send("ask"))["task"]
        assert asked["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
