"""LangGraph's own server, `langgraph dev`, with a graph of the suite's brain: by its own API, and by its A2A endpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.foreign.environments import HERE
from tests.peers.platforms.a2a_agent import ODD
from tests.peers.platforms.elsewhere import Elsewhere, elsewhere
from tests.peers.platforms.platform import NOBODYS, Kind, Odd, Platform, event

AMONG: tuple[tuple[str, Any], ...] = (
    ("later", {"delta": NOBODYS}),
    ("values|child:1", {"messages": [{"type": "ai", "id": "v", "content": NOBODYS}]}),
    ("tasks", {"id": "t", "name": "agent", "interrupts": []}),
    ("messages", [{"type": "tool", "id": "gone", "content": NOBODYS}, {"langgraph_node": "tools"}]),
    ("messages", [{"type": "remove", "id": "__remove_all__", "content": ""}, {}]),
    (
        "messages|child:2",
        [{"type": "AIMessageChunk", "id": "c", "content": "", "tool_call_chunks": [{"args": "{"}]}, {}],
    ),
    ("messages", [{"type": "AIMessageChunk", "id": "d", "content": [{"type": "reasoning", "reasoning": NOBODYS}]}, {}]),
    ("updates", {"agent": None}),
    ("updates|child:1", {"tools": {"messages": []}}),
)

QUIET = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGGRAPH_NO_VERSION_CHECK": "true"}


def _command(python: Path, port: int, directory: Path) -> Sequence[str | Path]:
    shutil.copy(HERE / "langgraph_brain.py", directory)
    graphs = {"agent": "./langgraph_brain.py:graph"}
    (directory / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    return python.with_name("langgraph"), "dev", "--no-browser", "--no-reload", "--port", str(port)


async def _langgraph() -> Elsewhere:
    """The server; its one assistant is called `agent`."""
    return await elsewhere("langgraph", _command, ready="/ok", environ=QUIET)


async def a2a_url() -> str:
    """Where the assistant is an A2A agent of the server's own."""
    url = (await _langgraph()).url
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        found: list[dict[str, Any]] = (await http.post("/assistants/search", json={})).json()
    return f"{url}/a2a/{found[0]['assistant_id']}"


@asynccontextmanager
async def _open(_directory: Path) -> AsyncIterator[Platform]:
    platform = await _langgraph()
    platform.entry = f'{{bridge: langgraph, url: "{platform.url}", assistant: agent}}'
    yield platform


@asynccontextmanager
async def _open_a2a(directory: Path) -> AsyncIterator[Platform]:
    async with _open(directory) as platform:
        platform.entry = platform.entry.replace("agent}", "agent, options: {api: a2a}}")
        yield platform


LANGGRAPH = Kind(
    "langgraph",
    _open,
    "`langgraph dev`, langgraph-api 0.16",
    {"renews": "its keys do not expire by themselves"},
    Odd(
        "events of each stream mode come in their order, those of other modes, of other messages and of subgraphs between them (LangGraph, Streaming)",
        tuple(event(data, name) for name, data in AMONG),
        (event(None, "end"),),
    ),
    reason="Fell: An internal error occurred",
    card="The assistant agent.",
    group="a2a",
)

LANGGRAPH_A2A = Kind(
    "langgraph, api: a2a",
    _open_a2a,
    "the A2A endpoint of `langgraph dev`, langgraph-api 0.16",
    {
        "streams": "what its agent says comes in its status, whole each time, and as an artifact at the end",
        "files": "it takes files only as A2A 0.3 wrote them, and says that it speaks 1.0",
        "renews": "its keys do not expire by themselves",
    },
    ODD,
    reason="Fell",
    group="a2a",
)
