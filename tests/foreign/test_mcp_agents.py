"""A server in TypeScript as an agent, over both transports of older revisions: what its tools ask is the task's question."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.speech import SPEECHES
from tests.bridges.test_bridges import state_of
from tests.conftest import free_port, open_hub
from tests.foreign.conformance import node
from tests.foreign.environments import UP_WITHIN_S, foreign, make, process
from tests.peers.a2a_clients import SdkClient, message, open_client

pytestmark = foreign


@asynccontextmanager
async def everything(directory: Path, transport: str) -> AsyncIterator[SdkClient]:
    """server-everything, over HTTP, as the hub's agent `there`."""
    home = await asyncio.to_thread(make, "mcp-js")
    script = home / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    port, lines = free_port(), list[str]()
    url = f"http://127.0.0.1:{port}/{'sse' if transport == 'sse' else 'mcp'}"
    async with process(node(home), script, transport, cwd=home, environ={"PORT": str(port)}, lines=lines) as child:
        async with asyncio.timeout(UP_WITHIN_S):
            while not any(str(port) in line for line in lines):
                assert child.returncode is None, "".join(lines)
                await asyncio.sleep(0.05)  # another process: there is no event to wait for
        async with open_hub(directory, f'agents:\n  there: {{bridge: mcp, url: "{url}"}}\n') as hub:
            headers = {"authorization": f"Bearer {await hub.key('agent:there')}"}
            async with open_client(f"{hub.url}/a2a/there/", SPEECHES[0], headers=headers) as client:
                yield client


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return message("", parts=[{"data": {"tool": tool, "arguments": arguments}}])


@pytest.mark.parametrize("transport", ["streamableHttp", "sse"])
async def test_what_a_typescript_server_asks_is_answered(tmp_path: Path, transport: str) -> None:
    async with everything(tmp_path, transport) as client:
        assert "trigger-elicitation-request" in {skill["id"] for skill in client.card["skills"]}
        task = (await client.ask("SendMessage", call("trigger-elicitation-request")))["task"]
        assert state_of({"task": task}) == "INPUT_REQUIRED"
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        answer = message("", parts=[{"data": {"name": "Ada", "check": True}}], message_id="m-2", **ids)
        done = (await client.ask("SendMessage", answer))["task"]
        assert (state_of({"task": done}), "Ada" in json.dumps(done["artifacts"])) == ("COMPLETED", True)
