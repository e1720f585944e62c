"""The server of Google's Agent Development Kit, `adk api_server`, with an agent whose model is the suite's brain."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.foreign.environments import HERE
from tests.peers.platforms.elsewhere import elsewhere
from tests.peers.platforms.platform import NOBODYS, Kind, Odd, Platform, event

ADK_ORDER = "events of agents that run side by side come between one another (google-adk 2.13, `ParallelAgent`), those of state and of tools anywhere"
ADK_AMONG = (
    {"author": "brain", "actions": {"stateDelta": {"n": 1}}},
    {"author": "brain", "content": None, "usageMetadata": {"totalTokenCount": 3}, "turnComplete": False},
    {"author": "other", "branch": "a.other", "content": {"role": "model"}, "partial": False},
    {"author": "other", "content": {"parts": [{"thought": True, "text": NOBODYS}]}, "partial": True},
    {"author": "other", "content": {"parts": [{"executableCode": {"code": NOBODYS}}, {"later": 1}]}},
    {"author": "other", "content": {"parts": [{"functionResponse": {"id": "gone", "name": "x", "response": {}}}]}},
    {"author": "other", "longRunningToolIds": ["gone"], "content": {"parts": []}},
)
"""Events of agents and of tools that nobody knows, and of no text."""


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
    },
    Odd(
        ADK_ORDER,
        tuple(event(one) for one in ADK_AMONG),
        end=event({"error": "the token has expired"}),
    ),
    card="The brain of the suite",
    group="frameworks",
)
