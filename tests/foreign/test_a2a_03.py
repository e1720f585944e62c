"""Clients of a2a-sdk 0.3, in an environment of their own: LiteLLM's snippet for agents with only address and key changed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.conftest import OpenHub
from tests.foreign.environments import HOME, foreign, python_of
from tests.peers.a2a_agent import sdk_agent

pytestmark = foreign

SEND = """
import asyncio
from uuid import uuid4

import httpx
from a2a.client import A2ACardResolver, A2AClient
from a2a.types import MessageSendParams, SendMessageRequest

async def main():
    base_url = "BASE_URL"
    headers = {"Authorization": "Bearer API_KEY"}
    async with httpx.AsyncClient(headers=headers) as httpx_client:
        resolver = A2ACardResolver(httpx_client=httpx_client, base_url=base_url)
        agent_card = await resolver.get_agent_card()
        client = A2AClient(httpx_client=httpx_client, agent_card=agent_card)
        request = SendMessageRequest(
            id=str(uuid4()),
            params=MessageSendParams(
                message={
                    "role": "user",
                    "parts": [{"kind": "text", "text": "Hello there"}],
                    "messageId": uuid4().hex,
                }
            ),
        )
        response = await client.send_message(request)
        print(response.model_dump(mode="json", exclude_none=True))

asyncio.run(main())
"""

STREAM = (
    SEND.replace("SendMessageRequest", "SendStreamingMessageRequest")
    .replace(
        "response = await client.send_message(request)",
        "async for response in client.send_message_streaming(request):",
    )
    .replace("        print(response", "            print(response")
)


async def run(*command: str | Path) -> str:
    """Run a command to its end and return what it printed; fails with its errors."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=HOME
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


@pytest.mark.parametrize("base", ["/a2a/my-agent", "/a2a/my-agent/"])
@pytest.mark.parametrize("snippet", [SEND, STREAM], ids=["send", "stream"])
async def test_snippet_for_agents_works_with_address_and_key_changed(hub: OpenHub, snippet: str, base: str) -> None:
    python = await python_of("a2a-sdk-0.3")
    async with sdk_agent() as agent, hub(f"agents:\n  my-agent:\n    url: {agent.url}\n") as running:
        text = snippet.replace("BASE_URL", running.url + base).replace("API_KEY", await running.key("agent:my-agent"))
        printed = await run(python, "-c", text)
        assert "'state': 'completed'" in printed
        assert "there" in printed
        assert agent.calls[-1].json["method"] in {"message/send", "message/stream"}
