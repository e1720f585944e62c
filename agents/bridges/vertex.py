"""Vertex AI Agent Engine (REST reference of `reasoningEngines`, v1; events of the Agent Development Kit; both read 2026-11).

A context is a session, made by the engine; a message a `streamQuery` of `async_stream_query`, whose lines are ADK's events. A call of a
long-running tool asks, and its response answers. There is no way to end a query but to leave it.

`url`: `https://LOCATION-aiplatform.googleapis.com/v1/projects/P/locations/L/reasoningEngines/ID`. `options`: `service_account`, the members
of its key file; without it the token is that of the machine's service account.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec

from agents.bridges.adk_events import MODES, Heard, content
from agents.bridges.bridge import About, Bridge, Remember, Running, Steps, Turn
from agents.bridges.credentials import ServiceAccount, google
from agents.bridges.way import Way
from registry.errors import NotSupported, UpstreamInvalid
from registry.judged import JsonObject


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an entry's `options` may say."""

    service_account: ServiceAccount | None = None


class Vertex:
    """One agent engine."""

    rejoins = False
    """A query that was left is gone."""

    def __init__(self, url: str, options: Options) -> None:
        self._url = url.rstrip("/")
        self.credentials = google(options.service_account)

    async def run(self, turn: Turn) -> Steps:
        """Query the engine (agents.bridges.bridge.Bridge)."""
        session = turn.session.get("session")
        if session is None:
            made = await self._query(turn.way, "async_create_session", {"user_id": turn.user})
            session = made.get("id") if isinstance(made, dict) else None
            if not isinstance(session, str):
                raise UpstreamInvalid(turn.way.name, "it made a session without an id")
            yield Remember({"session": session})
        asked = {"user_id": turn.user, "session_id": session, "message": content(turn)}
        yield Running({"session": session})
        body = {"class_method": "async_stream_query", "input": asked}
        heard = Heard(turn.way)
        async with (
            turn.way.send("POST", f"{self._url}:streamQuery", body) as incoming,
            aclosing(turn.way.lines_of(incoming)) as lines,
        ):
            async for line in lines:
                for step in heard.steps(turn.way.read(line)):
                    yield step
        yield Remember({"session": session, "waiting": heard.waiting})
        if heard.waiting:
            yield heard.asks()

    async def cancel(self, turn: Turn) -> None:
        """Leaving the stream has ended the query: the engine has no other way."""

    def rejoin(self, turn: Turn) -> Steps:
        """Not asked for: `rejoins` says so."""
        raise NotSupported(f"{turn.way.name} cannot be read on.")

    async def about(self, way: Way) -> About:
        """What the engine says of itself (agents.bridges.bridge.Bridge)."""
        found = await way.json("GET", self._url)
        said = found if isinstance(found, dict) else {}
        description = str(said.get("description") or said.get("displayName") or "")
        return About(description, (), MODES)

    async def _query(self, way: Way, method: str, asked: JsonObject) -> Any:
        answer = await way.json("POST", f"{self._url}:query", {"class_method": method, "input": asked})
        return answer.get("output") if isinstance(answer, dict) else None


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make)."""
    return Vertex(url, msgspec.convert(options, Options))
