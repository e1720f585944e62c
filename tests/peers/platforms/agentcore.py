"""The server of AgentCore's SDK with an agent of the suite's brain, behind a fake of the data plane that checks signatures by botocore."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.conftest import free_port
from tests.foreign.environments import HERE, process, python_of, until_it_answers
from tests.peers.platforms import brain
from tests.peers.platforms.platform import Elsewhere, Kind, Platform

OPTIONS = {
    "runtime": "arn:aws:bedrock-agentcore:eu-west-1:123456789012:runtime/brain-a1",
    "qualifier": "live one",
    "keys": {
        "access_key_id": "AKIDEXAMPLE",
        "secret_access_key": "secret/of+nobody",
        "session_token": "a-session-token",
    },
    "asks": "type(answer) == map && has(answer.needs_answer)",
}


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[Platform]:
    home = directory / "agentcore"
    home.mkdir(exist_ok=True)
    shutil.copy(brain.__file__, home)
    url, lines = f"http://127.0.0.1:{(port := free_port())}", list[str]()
    command = (await python_of("agentcore"), HERE / "agentcore_brain.py", str(port), home)
    async with process(*command, cwd=home, lines=lines) as child:
        await until_it_answers(child, f"{url}/ping", lines)
        entry = f'{{bridge: bedrock, url: "{url}", options: {json.dumps(OPTIONS)}}}'
        yield Elsewhere(entry=entry, directory=home, busy=(home / "busy").touch)


AGENTCORE = Kind(
    "bedrock",
    _open,
    "the server of bedrock-agentcore 1.25, behind a fake of the data plane that checks signatures by botocore",
    {
        "rejoin": "an invocation has no name, and nothing that could be gone on with",
        "renews": "each request is signed by itself, with keys that do not expire by themselves",
    },
    group="llm",
)
