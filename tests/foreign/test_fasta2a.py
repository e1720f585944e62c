"""fasta2a without a hub: how the official client fails with it, so that a test through the hub shows a difference."""

from __future__ import annotations

import httpx
import pytest
from google.protobuf.json_format import ParseError

from agents.speech import Speech
from tests.foreign.environments import foreign, open_fasta2a
from tests.peers.a2a_clients import message, open_client

pytestmark = foreign


async def test_sdk_client_cannot_read_its_timestamps() -> None:
    async with open_fasta2a() as agent, open_client(agent.url, Speech("JSONRPC", "1.0")) as client:
        with pytest.raises(ParseError, match="timestamp"):
            await client.send("hi")
        with pytest.raises(ParseError, match="timestamp"):
            await client.stream("hi")


async def test_it_answers_before_the_task_is_done() -> None:
    async with open_fasta2a() as agent, httpx.AsyncClient(trust_env=False) as http:
        request = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": message("hi")}
        answer = (await http.post(agent.url + "/", json=request, headers={"A2A-Version": "1.0"})).json()
        assert answer["result"]["task"]["status"]["state"] == "TASK_STATE_SUBMITTED"
