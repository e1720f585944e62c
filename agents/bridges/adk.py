"""An agent behind the server of Google's Agent Development Kit, `adk api_server` (google-adk 2.13, `cli/api_server.py`).

A context is a session, made by the server; a message a `/run_sse`, whose events are those of `agents.bridges.adk_events`. A run ends
with its stream. `assistant`: the name of the app, which is that of the agent's directory.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import msgspec

from agents.bridges.adk_events import MODES, Heard, content
from agents.bridges.bridge import About, Bridge, Remember, Running, Skill, Steps, Turn
from agents.bridges.way import Way
from registry.errors import NotSupported, UpstreamInvalid, UpstreamRejected
from registry.judged import JsonObject


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an entry's `options` may say."""

    assistant: str


class Adk:
    """One app of such a server."""

    credentials = None
    rejoins = False
    """A run that was left is gone."""

    def __init__(self, url: str, options: Options) -> None:
        self._url = url.rstrip("/")
        self._app = options.assistant

    async def run(self, turn: Turn) -> Steps:
        """Run the agent once (agents.bridges.bridge.Bridge)."""
        session = turn.session.get("session")
        if session is None:
            url = f"{self._about}/users/{quote(turn.user, safe='')}/sessions"
            made = await turn.way.json("POST", url, {})
            session = made.get("id") if isinstance(made, dict) else None
            if not isinstance(session, str):
                raise UpstreamInvalid(turn.way.name, "it made a session without an id")
            yield Remember({"session": session})
        body: JsonObject = {
            "app_name": self._app,
            "user_id": turn.user,
            "session_id": session,
            "new_message": content(turn),
            "streaming": True,
        }
        yield Running({"session": session})
        heard = Heard(turn.way)
        async with aclosing(turn.way.events("POST", f"{self._url}/run_sse", body)) as events:
            async for event in events:
                for step in heard.steps(turn.way.read(event.data)):
                    yield step
        yield Remember({"session": session, "waiting": heard.waiting})
        if heard.waiting:
            yield heard.asks()

    async def cancel(self, turn: Turn) -> None:
        """Leaving the stream has ended the run: the server has no other way."""

    def rejoin(self, turn: Turn) -> Steps:
        """Not asked for: `rejoins` says so."""
        raise NotSupported(f"{turn.way.name} cannot be read on.")

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
