"""What people plug into a hub's `/mcp`: the Inspector, mcp-remote, FastMCP and three agent frameworks, with real servers behind it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from hub.settings import environment as variables
from tests.foreign.conformance import node
from tests.foreign.environments import HERE, foreign, make, python_of
from tests.peers.mcp_hub import McpHub, open_mcp_hub

pytestmark = foreign

PARTS_S = 100
ECHO, LOG = "ts__echo", "git__git_log"


@asynccontextmanager
async def hub_of_two(directory: Path) -> AsyncIterator[tuple[McpHub, str]]:
    """A hub with server-everything (TypeScript) and mcp-server-git (Python) over stdio, and a key for all tools.

    The repository of the latter has one commit: `a first one`.
    """
    home, git = await asyncio.gather(asyncio.to_thread(make, "mcp-js"), asyncio.to_thread(make, "fastmcp"))
    repository = directory / "repository"
    commit = ("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--allow-empty", "-m", "a first one")
    for command in (("init", "--quiet", repository), ("-C", repository, *commit)):
        subprocess.run(("git", *command), check=True, capture_output=True)
    server = home / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    yaml = f"""
    mcpServers:
      ts: {{command: {node(home)}, args: [{server}, stdio]}}
      git: {{command: {git / "bin" / "mcp-server-git"}, args: [--repository, {repository}]}}
    """
    async with open_mcp_hub(directory, yaml) as hub:
        async with asyncio.timeout(60):
            await hub.listed(ECHO, LOG)
        yield hub, await hub.key("tool:*")


def log_of(directory: Path) -> dict[str, Any]:
    return {"repo_path": str(directory / "repository"), "max_count": 5}


async def output(*command: str | Path, cwd: Path) -> str:
    """What a command prints on stdout; it must succeed."""
    child = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={"PATH": variables()["PATH"], "HOME": str(cwd)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PARTS_S):
            out, err = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0, f"{out.decode()}\n{err.decode()}"
    return out.decode()


@pytest.mark.parametrize(
    ("framework", "environment"),
    [
        ("fastmcp", "fastmcp"),
        ("openai-agents", "mcp-clients"),
        ("langchain", "mcp-clients"),
        ("pydantic-ai", "mcp-clients"),
    ],
)
async def test_a_frameworks_client_lists_and_calls_the_tools_of_two_servers(
    framework: str, environment: str, tmp_path: Path
) -> None:
    async with hub_of_two(tmp_path) as (hub, key):
        calls = json.dumps([[ECHO, {"message": "hello"}], [LOG, log_of(tmp_path)]])
        python = await python_of(environment)
        script = HERE / "mcp_client.py"
        found = json.loads(await output(python, script, framework, f"{hub.url}/mcp", key, calls, cwd=tmp_path))
        assert {ECHO, LOG} <= set(found["tools"])
        assert len(found["tools"]) == len(hub.services.registry.catalog.tools)
        assert found["answers"][0] == "Echo: hello"
        assert "a first one" in found["answers"][1]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_inspector_finds_the_list_portable_and_calls_a_tool(era: str, tmp_path: Path) -> None:
    async with hub_of_two(tmp_path) as (hub, key):
        home = make("mcp-js")
        inspector = home / "node_modules" / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build"
        reach = ("--cli", f"{hub.url}/mcp", "--transport", "http", "--header", f"Authorization: Bearer {key}")
        command = (node(home), inspector / "index.js", *reach, "--protocol-era", era)
        listed = json.loads(await output(*command, "--method", "tools/list", "--strict", cwd=tmp_path))
        assert {tool["name"] for tool in listed["tools"]} == set(hub.services.registry.catalog.tools)
        call = ("--method", "tools/call", "--tool-name", ECHO, "--tool-arg", "message=hello")
        answer = json.loads(await output(*command, *call, cwd=tmp_path))
        assert answer["content"] == [{"type": "text", "text": "Echo: hello"}]


async def test_mcp_remote_carries_a_stdio_client_to_the_hub(tmp_path: Path) -> None:
    async with hub_of_two(tmp_path) as (hub, key):
        home = make("mcp-js")
        remote = home / "node_modules" / "mcp-remote" / "dist" / "proxy.js"
        arguments = [str(remote), f"{hub.url}/mcp", "--allow-http", "--header", f"Authorization: Bearer {key}"]
        server = StdioServerParameters(command=str(node(home)), args=arguments, env={"HOME": str(tmp_path)})
        async with asyncio.timeout(PARTS_S), Client(server, mode="legacy", cache=None) as client:
            listed = {tool.name for tool in (await client.list_tools()).tools}
            assert listed == set(hub.services.registry.catalog.tools)
            answer = await client.call_tool(LOG, log_of(tmp_path))
            assert "a first one" in answer.content[0].text
