"""The server of AgentCore's SDK with an agent of the suite's brain, behind a fake of the data plane that checks signatures by botocore."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.foreign.environments import HERE
from tests.peers.platforms.elsewhere import elsewhere
from tests.peers.platforms.platform import Kind, Odd, Platform, event

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


def _command(python: Path, port: int, directory: Path) -> Sequence[str | Path]:
    return python, HERE / "agentcore_brain.py", str(port), directory


@asynccontextmanager
async def _open(_directory: Path) -> AsyncIterator[Platform]:
    platform = await elsewhere("agentcore", _command, ready="/ping")
    platform.entry = f'{{bridge: bedrock, url: "{platform.url}", options: {json.dumps(OPTIONS)}}}'
    yield platform


AGENTCORE = Kind(
    "bedrock",
    _open,
    "the server of bedrock-agentcore 1.25, behind a fake of the data plane that checks signatures by botocore",
    {
        "rejoin": "an invocation has no name, and nothing that could be gone on with",
        "renews": "each request is signed by itself, with keys that do not expire by themselves",
    },
    Odd(
        "an agent's events are its own, in its own order",
        (b"event: later\ndata:\n\n",),
        end=event({"error": "the token has expired", "error_type": "ExpiredTokenException"}),
        busy=((429, {}), (409, {"x-amzn-errortype": "RetryableConflictException"})),
    ),
    group="llm",
)
