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

from agents.bridges.bridge import TOOL, About, Asks, Bridge, Piece, Remember, Running, Step, Steps, Text, Turn, Working
from agents.bridges.credentials import ServiceAccount, google
from agents.bridges.way import Way
from registry.errors import NotSupported, UpstreamInvalid
from registry.judged import JsonObject, encode


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
        waiting = turn.session.get("waiting") if turn.is_answer else None
        message: JsonObject = {"role": "user", "parts": _answer(turn, waiting) if waiting else _parts(turn)}
        asked = {"user_id": turn.user, "session_id": session, "message": message}
        yield Running({"session": session})
        body = {"class_method": "async_stream_query", "input": asked}
        heard = _Heard(turn.way)
        async with (
            turn.way.send("POST", f"{self._url}:streamQuery", body) as incoming,
            aclosing(turn.way.lines_of(incoming)) as lines,
        ):
            async for line in lines:
                for step in heard.steps(turn.way.read(line)):
                    yield step
        yield Remember({"session": session, "waiting": heard.waiting})
        if heard.waiting:
            yield Asks([_question(call) for call in heard.waiting])

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
        return About(description, (), ("text/plain", "application/json", "image/*", "audio/*", "video/*"))

    async def _query(self, way: Way, method: str, asked: JsonObject) -> Any:
        answer = await way.json("POST", f"{self._url}:query", {"class_method": method, "input": asked})
        return answer.get("output") if isinstance(answer, dict) else None


class _Heard:
    """What the events of one query said."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._in_pieces = False
        """The text came in pieces, and comes whole once more."""
        self.waiting: list[JsonObject] = []
        """Calls of long-running tools, which wait for a response."""

    def steps(self, event: Any) -> list[Step]:
        """What one event says."""
        if not isinstance(event, dict):
            raise UpstreamInvalid(self._way.name, "an event of its stream is no object")
        if failure := event.get("error_message") or event.get("error_code") or _failure(event):
            raise UpstreamInvalid(self._way.name, str(failure))
        content = event.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        is_partial, long_running = event.get("partial") is True, event.get("long_running_tool_ids") or ()
        steps: list[Step] = []
        for part in parts or ():
            if isinstance(part.get("text"), str):
                if not part.get("thought") and (is_partial or not self._in_pieces):
                    steps.append(Text(part["text"]))
            else:
                steps += self._other(part, long_running)
        self._in_pieces = is_partial
        return steps

    def _other(self, part: JsonObject, long_running: Any) -> list[Step]:
        match part:
            case {"function_call": {"name": str(name), **more}}:
                if more.get("id") in long_running:
                    self.waiting.append({"name": name, "id": more.get("id"), "args": more.get("args")})
                    return []
                return [Working(metadata={TOOL: {"name": name}})]
            case {"inline_data": {"data": str(data), **more}}:
                return [Piece({"raw": data, "mediaType": str(more.get("mime_type") or "application/octet-stream")})]
            case {"file_data": {"file_uri": str(uri), **more}}:
                return [Piece({"url": uri, "mediaType": str(more.get("mime_type") or "application/octet-stream")})]
        return []


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make)."""
    return Vertex(url, msgspec.convert(options, Options))


def _failure(event: JsonObject) -> str | None:
    """The engine's own error in the place of an event: `{"code": 498, "message": …}`, or Google's `error`."""
    error = event.get("error") if isinstance(event.get("error"), dict) else event
    assert isinstance(error, dict)
    return str(error.get("message") or error["code"]) if "code" in error and "content" not in event else None


def _question(call: JsonObject) -> JsonObject:
    """What a long-running tool asks: its only text as text, anything else as data."""
    values = list((call.get("args") or {}).values())
    if len(values) == 1 and isinstance(values[0], str):
        return {"text": values[0]}
    return {"data": {"name": call["name"], "args": call.get("args")}}


def _answer(turn: Turn, waiting: list[JsonObject]) -> list[JsonObject]:
    """The caller's answer, as the response of each tool that waits."""
    text = "\n".join(part["text"] for part in turn.parts if isinstance(part.get("text"), str))
    data = next((part["data"] for part in turn.parts if isinstance(part.get("data"), dict)), None)
    said = {"result": text} if data is None else data
    return [{"function_response": {"id": one.get("id"), "name": one["name"], "response": said}} for one in waiting]


def _parts(turn: Turn) -> list[JsonObject]:
    return [_part(part) for part in turn.parts]


def _part(part: JsonObject) -> JsonObject:
    """A part of A2A as one of Google's `Content`."""
    if isinstance(part.get("text"), str):
        return {"text": part["text"]}
    if "data" in part:
        return {"text": encode(part["data"]).decode()}
    kind = str(part.get("mediaType") or "application/octet-stream")
    if "raw" in part:
        return {"inline_data": {"mime_type": kind, "data": part["raw"]}}
    return {"file_data": {"mime_type": kind, "file_uri": part.get("url")}}
