"""Pydantic AI's own AG-UI adapter, with an agent of the suite's brain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.foreign.environments import HERE
from tests.peers.platforms.elsewhere import elsewhere
from tests.peers.platforms.platform import NOBODYS, Kind, Odd, Platform, event

AMONG: tuple[dict[str, Any], ...] = (
    {"type": "LATER_EVENT", "delta": NOBODYS},
    {"type": "RAW", "event": {"delta": NOBODYS}, "source": "there"},
    {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": NOBODYS},
    {"type": "REASONING_MESSAGE_CONTENT", "messageId": "r", "delta": NOBODYS},
    {"type": "ACTIVITY_SNAPSHOT", "messageId": "a", "activityType": "PLAN", "content": {}},
    {"type": "STEP_FINISHED", "stepName": "never begun"},
    {"type": "TOOL_CALL_ARGS", "toolCallId": "gone", "delta": "{"},
    {"type": "TOOL_CALL_END", "toolCallId": "gone"},
    {"type": "TEXT_MESSAGE_END", "messageId": "gone"},
)


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
    },
    Odd(
        "messages and calls of tools come between one another, each by its id; states and steps anywhere within the run (AG-UI 1.0, Events)",
        tuple(event(one) for one in AMONG),
        (event({"type": "LATER_EVENT"}),),
        end=event({"type": "RUN_ERROR", "message": "the token has expired", "code": "401"}),
    ),
    group="llm",
)
