"""LangGraph's own server, `langgraph dev`, with a graph of the suite's brain: by its own API, and by its A2A endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.foreign.environments import HERE, QUIET_GRAPH, graph_command
from tests.peers.platforms.elsewhere import elsewhere
from tests.peers.platforms.platform import Kind, Platform


def _command(python: Path, port: int, directory: Path) -> Sequence[str | Path]:
    return graph_command(python, port, directory, HERE / "langgraph_brain.py")


@asynccontextmanager
async def _open(_directory: Path) -> AsyncIterator[Platform]:
    platform = await elsewhere("langgraph", _command, ready="/ok", environ=QUIET_GRAPH)
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
    {"renews": "its keys do not expire by themselves", "busy": "`langgraph dev` is never busy"},
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
        "busy": "`langgraph dev` is never busy",
    },
    reason="Fell",
    group="a2a",
)
