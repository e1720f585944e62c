"""The server of Google's Agent Development Kit, `adk api_server`, with an agent whose model is the suite's brain."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.foreign.environments import HERE
from tests.peers.platforms.elsewhere import elsewhere
from tests.peers.platforms.platform import Kind, Platform


def _command(python: Path, port: int, directory: Path) -> Sequence[str | Path]:
    agent = directory / "thinker"
    agent.mkdir()
    (agent / "__init__.py").touch()
    shutil.copy(HERE / "adk_brain.py", agent / "agent.py")
    return python.with_name("adk"), "api_server", "--port", str(port), "--session_service_uri", "memory://", agent


@asynccontextmanager
async def _open(_directory: Path) -> AsyncIterator[Platform]:
    platform = await elsewhere("adk", _command, ready="/health")
    platform.entry = f'{{bridge: adk, url: "{platform.url}", assistant: thinker}}'
    yield platform


ADK = Kind(
    "adk",
    _open,
    "`adk api_server` of google-adk 2.13, whose agent's model is the suite's",
    {
        "rejoin": "a run ends with its stream",
        "renews": "its keys do not expire by themselves",
        "busy": "the server is never busy",
    },
    card="The brain of the suite",
    group="frameworks",
)
