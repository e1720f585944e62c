"""Pydantic AI's own AG-UI adapter, with an agent of the suite's brain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.foreign.environments import HERE
from tests.peers.platforms.elsewhere import elsewhere
from tests.peers.platforms.platform import Kind, Platform


def _command(python: Path, port: int, directory: Path) -> Sequence[str | Path]:
    return python, HERE / "ag_ui_agent.py", str(port), directory


@asynccontextmanager
async def _open(_directory: Path) -> AsyncIterator[Platform]:
    platform = await elsewhere("ag-ui", _command, ready="/ok")
    platform.entry = f'{{bridge: pydantic_ai, url: "{platform.url}/"}}'
    yield platform


AG_UI = Kind(
    "ag_ui, pydantic_ai",
    _open,
    "Pydantic AI's AG-UI adapter, 2.68",
    {
        "rejoin": "a run of AG-UI ends with its stream",
        "renews": "its keys do not expire by themselves",
        "busy": "the adapter is never busy",
    },
    group="llm",
)
