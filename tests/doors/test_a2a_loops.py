"""Agents that call one another through the hub in a circle: every speech, official SDKs on both sides."""

from __future__ import annotations

from typing import Any

import pytest

from agents.speech import SPEECHES, Speech
from agents.wire import HOPS_HEADER, MAX_HOPS
from tests.conftest import OpenHub
from tests.peers.a2a_clients import Refused, open_client
from tests.peers.a2a_sdk_agents import open_agent

speeches = pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: f"{speech.binding}-{speech.version}")
TOO_OFTEN = f"came through the hub {MAX_HOPS} times"


@speeches
@pytest.mark.attack("2.1/41")
async def test_an_agent_that_calls_itself_through_the_hub_comes_to_an_end(hub: OpenHub, speech: Speech) -> None:
    async with (
        open_agent(speech) as agent,
        hub(f"agents:\n  echo: {{url: {agent.url}}}\n", grpc=speech.binding == "GRPC") as running,
    ):
        own = {"authorization": f"Bearer {await running.key('agent:*')}"}

        async def call_the_hub(received: dict[str, str]) -> str:
            headers = {**own, HOPS_HEADER: received[HOPS_HEADER]}
            async with open_client(f"{running.url}/a2a/echo/", speech, headers=headers) as again:
                try:
                    return words_of(await again.send("relay"))
                except Refused as refused:
                    return refused.message

        agent.relay = call_the_hub
        async with open_client(f"{running.url}/a2a/echo/", speech, headers=own) as client:
            words = words_of(await client.send("relay"))
        assert TOO_OFTEN in words or "508 Loop Detected" in words
        sent = [call for call in agent.calls if call.operation == "SendMessage"]
        assert [call.headers[HOPS_HEADER] for call in sent] == [str(hop) for hop in range(1, MAX_HOPS + 1)]


@speeches
@pytest.mark.parametrize("operation", ["send", "stream"])
@pytest.mark.attack("2.2/26", "2.1/41", defence="agents.wire:hops")
async def test_hops_that_cannot_be_read_are_refused_and_not_counted_anew(
    hub: OpenHub, speech: Speech, operation: str
) -> None:
    async with (
        open_agent(speech) as agent,
        hub(f"agents:\n  echo: {{url: {agent.url}}}\n", grpc=speech.binding == "GRPC") as running,
    ):
        own = {"authorization": f"Bearer {await running.key('agent:*')}"}
        # the SDK's client of HTTP+JSON 1.0 shows no words of an error that A2A has no name for
        loop = "508 Loop Detected" if speech == Speech("HTTP+JSON", "1.0") else TOO_OFTEN
        for hops, said in (("-1", HOPS_HEADER), ("1, 2", HOPS_HEADER), ("9" * 5000, loop), (str(MAX_HOPS), loop)):
            headers = {**own, HOPS_HEADER: hops}
            async with open_client(f"{running.url}/a2a/echo/", speech, headers=headers) as client:
                with pytest.raises(Refused, match=said):
                    await getattr(client, operation)("complete 1")
        assert agent.operations == []


def words_of(result: dict[str, Any]) -> str:
    return "".join(part["text"] for part in result["task"]["status"]["message"]["parts"])
