"""What LiteLLM's README tells its users to type works here with nothing but key and names changed.

The agent snippet, which needs an older a2a-sdk, is in tests/foreign.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from openai import AsyncOpenAI

from tests.conftest import Hub, OpenHub

YAML = f"""
mcpServers:
  github: {{command: {sys.executable}, args: ["-m", "mcp_server_time"]}}
models:
  gpt-4o: {{provider: offline}}
"""


@pytest.fixture
async def running(hub: OpenHub) -> AsyncIterator[Hub]:
    async with hub(YAML) as opened:
        await opened.services.sync.refresh("github")
        yield opened


@pytest.mark.parametrize("server_url", ["litellm_proxy/mcp/github", "litellm_proxy"])
async def test_the_curl_with_an_mcp_tool_works(running: Hub, server_url: str) -> None:
    body = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "What is the current time in the timezone 'Europe/Paris'?"}],
        "tools": [{"type": "mcp", "server_url": server_url, "server_label": "github_mcp", "require_approval": "never"}],
    }
    async with running.http(await running.key("model:*", "tool:github__*")) as http:
        answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert [call["tool"] for call in answer.json()["hub"]["tool_calls"]] == ["get_current_time"]


async def test_cursors_configuration_works(running: Hub) -> None:
    """`"url": ".../mcp/"` with `"x-litellm-api-key": "Bearer sk-…"`."""
    secret = await running.key("tool:*")
    async with (
        httpx2.AsyncClient(headers={"x-litellm-api-key": f"Bearer {secret}"}, trust_env=False) as http,
        Client(streamable_http_client(f"{running.url}/mcp/", http_client=http), mode="legacy") as client,
    ):
        names = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("github__get_current_time", {"timezone": "UTC"})
    assert "github__get_current_time" in names
    assert not result.is_error


async def test_an_openai_client_without_v1_in_its_address_works(running: Hub) -> None:
    """`OpenAI(base_url="http://0.0.0.0:4000")` posts to /chat/completions."""
    async with AsyncOpenAI(base_url=running.url, api_key=await running.key("model:*")) as client:
        answer = await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hello"}])
        listed = await client.models.list()
    assert answer.choices[0].message.content
    assert [model.id for model in listed.data] == ["gpt-4o"]
