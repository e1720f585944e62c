"""fasta2a, Pydantic AI's own A2A server, with an agent of the suite's brain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.foreign.environments import HERE
from tests.peers.platforms.a2a_agent import ODD
from tests.peers.platforms.elsewhere import elsewhere
from tests.peers.platforms.platform import Kind, Platform


def _command(python: Path, port: int, directory: Path) -> Sequence[str | Path]:
    return python, HERE / "fasta2a_brain.py", str(port), directory


@asynccontextmanager
async def _open(_directory: Path) -> AsyncIterator[Platform]:
    platform = await elsewhere("fasta2a", _command, ready="/.well-known/agent-card.json")
    platform.entry = f'{{bridge: pydantic_ai, url: "{platform.url}", options: {{api: a2a}}}}'
    yield platform


FASTA2A = Kind(
    "pydantic_ai, api: a2a",
    _open,
    "Pydantic AI's fasta2a 2.1",
    {
        "data": "it takes no data parts",
        "failure": "it says that a task failed, and not why",
        "asks": "an agent of its own never asks",
        "cancel": "its agents ignore that a task is cancelled",
        "renews": "its keys do not expire by themselves",
    },
    ODD,
    group="a2a",
)
