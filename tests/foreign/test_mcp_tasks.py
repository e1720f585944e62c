"""Servers of others that make tasks: FastMCP's, followed by its client; server-everything's of 2025-11-25, by who knows none."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp import Client, StdioServerParameters

from tests.conftest import free_port
from tests.foreign.conformance import node
from tests.foreign.environments import HERE, foreign, make, process, python_of, until_it_answers
from tests.peers.mcp_hub import open_mcp_hub

pytestmark = foreign
SCRIPT = HERE / "task_parts.py"
QUIET = {"FASTMCP_CHECK_FOR_UPDATES": "off"}
TOOL = "simulate-research-query"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_tool_that_only_runs_as_a_task_is_called_as_any_other(tmp_path: Path, mode: Any) -> None:
    asked: list[Any] = []

    async def elicit(_context: Any, params: Any) -> t.ElicitResult:
        asked.append(params)
        return t.ElicitResult(action="accept", content={"interpretation": "technical"})

    home = await asyncio.to_thread(make, "mcp-js")
    script = home / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    direct = StdioServerParameters(command=str(node(home)), args=[str(script), "stdio"])
    async with Client(direct, mode="legacy", cache=None) as client:
        refused = await client.call_tool(TOOL, {"topic": "bees"})
        assert refused.is_error
        assert "requires task augmentation" in refused.content[0].text
    yaml = f"mcpServers: {{ts: {{command: {node(home)}, args: [{script}, stdio]}}}}\n"
    async with open_mcp_hub(tmp_path, yaml) as hub:
        await hub.listed(f"ts__{TOOL}")
        secret = await hub.key("tool:*")
        async with hub.client(secret, mode=mode) as client:
            listed = (await client.list_tools()).tools
            assert "execution" not in next(one for one in listed if one.name == f"ts__{TOOL}").model_fields_set
            result = await client.call_tool(f"ts__{TOOL}", {"topic": "bees"})
            assert "Research Report: bees" in result.content[0].text
            assert result.meta is None or "io.modelcontextprotocol/related-task" not in result.meta
        async with hub.client(secret, mode=mode, elicitation_callback=elicit) as client:
            result = await client.call_tool(f"ts__{TOOL}", {"topic": "bees", "ambiguous": True})
            assert "bees (technical)" in result.content[0].text
        (question,) = asked
        assert question.message.startswith("[ts] ")
        assert "io.modelcontextprotocol/related-task" not in (question.meta or {})


async def follow(python: Path, directory: Path, *arguments: str) -> dict[str, Any]:
    """What FastMCP's client says of the tasks that it followed."""
    lines: list[str] = []
    async with process(python, SCRIPT, "follow", *arguments, cwd=directory, environ=QUIET, lines=lines) as child:
        assert await child.wait() == 0, "".join(lines)
    found: dict[str, Any] = json.loads(lines[-1])
    return found


async def test_fastmcps_client_follows_tasks_of_fastmcps_server_as_it_does_directly(tmp_path: Path) -> None:
    python, port, lines = await python_of("fastmcp-tasks"), free_port(), []
    base = f"http://127.0.0.1:{port}"
    async with process(python, SCRIPT, "serve", str(port), cwd=tmp_path, environ=QUIET, lines=lines) as server:
        await until_it_answers(server, f"{base}/ok", lines)
        direct = await follow(python, tmp_path, f"{base}/mcp", "none", "")
        assert (direct["followed"], direct["before"], direct["after"]) == ("slept 0.1", "working", "cancelled")
        async with open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {base}/mcp}}}}") as hub:
            await hub.listed("peer__slow")
            secret = await hub.key("server:*")
            assert await follow(python, tmp_path, f"{hub.url}/mcp/peer", secret, "") == direct
            assert await follow(python, tmp_path, f"{hub.url}/mcp", secret, "peer__") == direct
