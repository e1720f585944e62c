"""Messages to agents of Google's Agent Development Kit, and the events that they answer with (google-adk 2.13, `events/event.py`).

Agent Engine writes members with underscores, the kit's own server in camel case: both are read.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from agents.bridges.answering import asked, said_to
from agents.bridges.bridge import TOOL, Asks, Piece, Remember, Running, Step, Steps, Text, Turn, Working
from agents.bridges.way import Way
from registry.errors import UpstreamInvalid
from registry.judged import JsonObject, encode

MODES = ("text/plain", "application/json", "image/*", "audio/*", "video/*")
"""What such an agent may be sent."""


class Sessions(Protocol):
    """Where agents of the kit run: in sessions that are made there."""

    async def made(self, turn: Turn) -> Any:
        """A new session: an object with its `id`."""

    def said(self, turn: Turn, session: str) -> AsyncGenerator[bytes]:
        """What an agent says to a message in a session: the JSON of its events, as they come."""


async def run_in_session(sessions: Sessions, turn: Turn) -> Steps:
    """Run an agent once in the context's session; as `Bridge.run`."""
    session = turn.session.get("session")
    if session is None:
        made = await sessions.made(turn)
        session = made.get("id") if isinstance(made, dict) else None
        if not isinstance(session, str):
            raise UpstreamInvalid(turn.way.name, "it made a session without an id")
        yield Remember({"session": session})
    yield Running({"session": session})
    heard = Heard(turn.way)
    async with aclosing(sessions.said(turn, session)) as events:
        async for event in events:
            for step in heard.steps(turn.way.read(event)):
                yield step
    yield Remember({"session": session, "waiting": heard.waiting})
    if heard.waiting:
        yield heard.asks()


class Heard:
    """What the events of one run said."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._in_pieces: dict[str, str] = {}
        """By agent, the name of the text that came in pieces and comes whole once more: those of others may come between."""
        self._wholes = 0
        self.waiting: list[JsonObject] = []
        """Calls of long-running tools, which wait for a response."""

    def steps(self, event: Any) -> list[Step]:
        """What one event says."""
        if not isinstance(event, dict):
            raise UpstreamInvalid(self._way.name, "an event of its stream is no object")
        event = _spelled(event)
        if failure := event.get("error_message") or event.get("error_code") or _failure(event):
            raise UpstreamInvalid(self._way.name, str(failure))
        said = event.get("content")
        found = said.get("parts") if isinstance(said, dict) else None
        parts = [part for part in found or () if isinstance(part, dict)]
        is_partial, who = event.get("partial") is True, f"{event.get('author')}/{event.get('branch')}"
        steps: list[Step] = []
        for part in parts:
            if not isinstance(part.get("text"), str):
                steps += self._other(_spelled(part), event.get("long_running_tool_ids") or ())
            elif not part.get("thought"):
                steps += self._text(who, part["text"], is_partial=is_partial)
        if not is_partial and any("text" in part and not part.get("thought") for part in parts):
            self._in_pieces.pop(who, None)
            self._wholes += 1
        return steps

    def _text(self, who: str, text: str, *, is_partial: bool) -> Sequence[Step]:
        """More of what an agent says; nothing of what it says once more."""
        if is_partial:
            self._way.said.add(self._in_pieces.setdefault(who, f"{self._wholes} {who}"), text)
        return () if not is_partial and who in self._in_pieces else (Text(text),)

    def asks(self) -> Asks:
        """What the tools that wait ask."""
        return Asks([asked(one["id"], one["name"], one["args"]) for one in self.waiting])

    def _other(self, part: JsonObject, long_running: Any) -> list[Step]:
        match part:
            case {"function_call": {"name": str(name), **more}}:
                if more.get("id") in long_running:
                    self.waiting.append({"name": name, "id": more["id"], "args": more.get("args")})
                    return []
                return [Working(metadata={TOOL: {"name": name}})]
            case {"inline_data": dict(file)} if isinstance(data := file.get("data"), str):
                raw = data.replace("-", "+").replace("_", "/")  # the kit writes base64 for URLs
                return [Piece({"raw": raw, "mediaType": _media(file)})]
            case {"file_data": dict(file)} if isinstance(url := _spelled(file).get("file_uri"), str):
                return [Piece({"url": url, "mediaType": _media(file)})]
        return []


def content(turn: Turn) -> JsonObject:
    """A message as Google's `Content`: what a question's tools wait for, if some do."""
    waiting = turn.session.get("waiting") if turn.is_answer else None
    parts = _answer(turn, waiting) if waiting else [_part(part) for part in turn.parts]
    return {"role": "user", "parts": parts}


def _spelled(found: JsonObject) -> JsonObject:
    """An object whose members have underscores, whoever wrote it."""
    return {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in found.items()}


def _media(found: JsonObject) -> str:
    return str(_spelled(found).get("mime_type") or "application/octet-stream")


def _failure(event: JsonObject) -> str | None:
    """An error in the place of an event: the engine's, `{"code": 498, "message": …}`, Google's `error`, or the kit's, a text."""
    error = event.get("error", event)
    if not isinstance(error, dict):
        return str(error)
    return str(error.get("message") or error["code"]) if "code" in error and "content" not in event else None


def _answer(turn: Turn, waiting: list[JsonObject]) -> list[JsonObject]:
    """The caller's answer, as the response of each tool that waits."""
    return [
        {"function_response": {"id": one["id"], "name": one["name"], "response": _response(said_to(turn, one["id"]))}}
        for one in waiting
    ]


def _response(said: Any) -> JsonObject:
    """What was said to one tool, as the object that it returns."""
    if isinstance(said, dict) and "output" in said and "call_id" in said:
        said = said["output"]
    return said if isinstance(said, dict) else {"result": said}


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
