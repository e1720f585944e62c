"""An agent behind the server of Google's Agent Development Kit, `adk api_server` (google-adk 2.13, `cli/api_server.py`).

A context is a session, made by the server; a message a `/run_sse`, whose events are those of `agents.bridges.adk_events`. A run ends
with its stream. `assistant`: the name of the app, which is that of the agent's directory.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import msgspec

from agents.bridges.adk_events import MODES, content, run_in_session
from agents.bridges.bridge import About, Bridge, EndsWhenLeft, Skill, Steps, Turn
from agents.bridges.way import Way
from registry.errors import UpstreamRejected


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an entry's `options` may say."""

    assistant: str


class Adk(EndsWhenLeft):
    """One app of such a server."""

    credentials = None

    def __init__(self, url: str, options: Options) -> None:
        self._url = url.rstrip("/")
        self._app = options.assistant

    def run(self, turn: Turn) -> Steps:
        """Run the agent once (agents.bridges.bridge.Bridge)."""
        return run_in_session(self, turn)

    async def made(self, turn: Turn) -> Any:
        """A session (agents.bridges.adk_events.Sessions)."""
        return await turn.way.json("POST", f"{self._about}/users/{quote(turn.user, safe='')}/sessions", {})

    async def said(self, turn: Turn, session: str) -> AsyncGenerator[bytes]:
        """The events of a run (agents.bridges.adk_events.Sessions)."""
        body = {
            "app_name": self._app,
            "user_id": turn.user,
            "session_id": session,
            "new_message": content(turn),
            "streaming": True,
        }
        async with aclosing(turn.way.events("POST", f"{self._url}/run_sse", body)) as events:
            async for event in events:
                yield event.data

    async def about(self, way: Way) -> About:
        """The app and the agents that it is made of, where its server tells them."""
        try:
            found = await way.json("GET", f"{self._about}/app-info")
        except UpstreamRejected:  # only of agents with a model, and of servers that have it
            return About(input_modes=MODES)
        said = found if isinstance(found, dict) else {}
        agents = said.get("agents")
        skills = [
            Skill(name, name, str(one.get("description") or f"The agent {name}."), ("adk",))
            for name, one in (agents.items() if isinstance(agents, dict) else ())
            if isinstance(one, dict)
        ]
        return About(str(said.get("description") or ""), tuple(skills), MODES)

    @property
    def _about(self) -> str:
        return f"{self._url}/apps/{quote(self._app, safe='')}"


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make)."""
    return Adk(url, msgspec.convert(options, Options))
