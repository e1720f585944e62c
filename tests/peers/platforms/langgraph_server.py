"""LangGraph's own server, `langgraph dev`, with a graph of the suite's brain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.foreign.environments import HERE, serve_graph
from tests.peers.platforms import brain
from tests.peers.platforms.platform import Elsewhere, Kind, Platform


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[Platform]:
    home = directory / "langgraph"
    home.mkdir(exist_ok=True)
    async with serve_graph(home, HERE / "langgraph_brain.py", Path(brain.__file__)) as server:
        yield Elsewhere(entry=f'{{bridge: langgraph, url: "{server.url}", assistant: agent}}', directory=home)


LANGGRAPH = Kind(
    "langgraph",
    _open,
    "`langgraph dev`, langgraph-api 0.16",
    {"renews": "its keys do not expire by themselves", "busy": "`langgraph dev` is never busy"},
    reason="Fell: An internal error occurred",
    group="a2a",
)
