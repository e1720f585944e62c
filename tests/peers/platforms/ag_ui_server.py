"""Pydantic AI's own AG-UI adapter, with an agent of the suite's brain."""

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
    home = directory / "ag-ui"
    home.mkdir(exist_ok=True)
    shutil.copy(brain.__file__, home)
    url, lines = f"http://127.0.0.1:{(port := free_port())}", list[str]()
    command = (await python_of("ag-ui"), HERE / "ag_ui_agent.py", str(port), home)
    async with process(*command, cwd=home, lines=lines) as child:
        await until_it_answers(child, f"{url}/ok", lines)
        yield Elsewhere(entry=f'{{bridge: ag_ui, url: "{url}/"}}', directory=home)


AG_UI = Kind(
    "ag_ui",
    _open,
    "Pydantic AI's AG-UI adapter, 2.68",
    {
        "rejoin": "a run of AG-UI ends with its stream",
        "renews": "its keys do not expire by themselves",
        "busy": "the adapter is never busy",
    },
    group="llm",
)
