"""Vertex AI Agent Engine (REST reference of `reasoningEngines`, v1; events of the Agent Development Kit; both read 2026-11).

A context is a session, made by the engine; a message a `streamQuery` of `async_stream_query`, whose lines are ADK's events. A call of a
long-running tool asks, and its response answers. There is no way to end a query but to leave it.

`url`: `https://LOCATION-aiplatform.googleapis.com/v1/projects/P/locations/L/reasoningEngines/ID`. `options`: `service_account`, the members
of its key file; `adc_file`, a file with them or with an external account; without either the token is that of the machine's service account.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from agents.bridges.adk_events import MODES, content, run_in_session
from agents.bridges.bridge import About, Bridge, EndsWhenLeft, Steps, Turn
from agents.bridges.credentials import GoogleAccount, google
from agents.bridges.way import Way


class Vertex(EndsWhenLeft):
    """One agent engine."""

    def __init__(self, url: str, account: GoogleAccount) -> None:
        self._url = url.rstrip("/")
        self.credentials = google(account)

    def run(self, turn: Turn) -> Steps:
        """Query the engine (agents.bridges.bridge.Bridge)."""
        return run_in_session(self, turn)

    async def made(self, turn: Turn) -> Any:
        """A session (agents.bridges.adk_events.Sessions)."""
        body = {"class_method": "async_create_session", "input": {"user_id": turn.user}}
        answer = await turn.way.json("POST", f"{self._url}:query", body)
        return answer.get("output") if isinstance(answer, dict) else None

    async def said(self, turn: Turn, session: str) -> AsyncGenerator[bytes]:
        """The events of a query (agents.bridges.adk_events.Sessions)."""
        asked = {"user_id": turn.user, "session_id": session, "message": content(turn)}
        body = {"class_method": "async_stream_query", "input": asked}
        async with (
            turn.way.send("POST", f"{self._url}:streamQuery", body) as incoming,
            aclosing(turn.way.lines_of(incoming)) as lines,
        ):
            async for line in lines:
                yield line

    async def about(self, way: Way) -> About:
        """What the engine says of itself (agents.bridges.bridge.Bridge)."""
        found = await way.json("GET", self._url)
        said = found if isinstance(found, dict) else {}
        description = str(said.get("description") or said.get("displayName") or "")
        return About(description, (), MODES)


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make)."""
    return Vertex(url, msgspec.convert(options, GoogleAccount))
