"""fasta2a, Pydantic AI's own A2A server, with an agent of the suite's brain: it needs no bridge."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.conftest import free_port
from tests.foreign.environments import HERE, process, python_of, until_it_answers
from tests.peers.platforms import brain
from tests.peers.platforms.platform import Elsewhere, Kind, Platform


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[Platform]:
    home = directory / "fasta2a"
    home.mkdir(exist_ok=True)
    shutil.copy(brain.__file__, home)
    url, lines = f"http://127.0.0.1:{(port := free_port())}", list[str]()
    command = (await python_of("fasta2a"), HERE / "fasta2a_brain.py", str(port), home)
    async with process(*command, cwd=home, lines=lines) as child:
        await until_it_answers(child, f"{url}/.well-known/agent-card.json", lines)
        yield Elsewhere(entry=f'{{url: "{url}"}}', directory=home)


FASTA2A = Kind(
    "fasta2a",
    _open,
    "Pydantic AI's fasta2a 2.1",
    {
        "data": "it takes no data parts",
        "failure": "it says that a task failed, and not why",
        "asks": "an agent of its own never asks",
        "cancel": "its agents ignore that a task is cancelled",
        "renews": "its keys do not expire by themselves",
        "busy": "it is never busy",
    },
    group="a2a",
)
