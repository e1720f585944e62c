"""Any agent behind JSON over HTTP, by expressions in CEL (cel-spec 0.25) that say what it is sent and what it answered.

`options`: `request`, the body to POST, of `text`, `parts` (A2A 1.0 §4.1.6), `context_id`, `task_id`, `user` and `session`;
`answer`, what is said, of the JSON that came back as `answer`: a text, a part, or a list of them; `session`, what is remembered for the
context; `asks`, whether the answer is a question; `failure`, what went wrong, if something did. An answer in server-sent events or lines
of JSON is read as it comes, each by itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

import msgspec

from agents.bridges.answering import text_of
from agents.bridges.bridge import About, Asks, Bridge, EndsWhenLeft, Piece, Remember, Running, Steps, Text, Turn
from agents.bridges.way import MAX_REASON, Credentials, Way
from registry.entries import Headers
from registry.errors import ParseFailed, UpstreamInvalid
from registry.judged import JsonObject, decode, encode

MAX_CHARS = 4000
"""Of one expression."""

OF_REQUEST = frozenset({"text", "parts", "context_id", "task_id", "user", "session"})
OF_ANSWER = frozenset({"answer"})


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an entry's `options` may say."""

    request: str
    answer: str
    session: str | None = None
    asks: str | None = None
    failure: str | None = None


class Expression(Protocol):
    """A compiled expression of CEL."""

    def execute(self, context: JsonObject) -> Any:
        """Its value; raises whatever is wrong."""


class Http(EndsWhenLeft):
    """One such agent."""

    credentials: Credentials | None = None

    def __init__(self, url: str, options: Options) -> None:
        self._url = url
        self._request = _compiled("request", options.request, OF_REQUEST)
        self._answer = _compiled("answer", options.answer, OF_ANSWER)
        self._session = _compiled("session", options.session, OF_ANSWER) if options.session else None
        self._asks = _compiled("asks", options.asks, OF_ANSWER) if options.asks else None
        self._failure = _compiled("failure", options.failure, OF_ANSWER) if options.failure else None

    def headers(self, _turn: Turn) -> Headers:
        """Those of a message, beside the entry's."""
        return ()

    async def run(self, turn: Turn) -> Steps:
        """Ask once (agents.bridges.bridge.Bridge)."""
        said: JsonObject = {
            "text": text_of(turn),
            "parts": turn.parts,
            "context_id": turn.context_id,
            "task_id": turn.task_id,
            "user": turn.user,
            "session": turn.session,
        }
        body = _value(turn.way, "request", self._request, said)
        if not isinstance(body, dict):
            raise UpstreamInvalid(turn.way.name, "its option request gives no object")
        yield Running({"task": turn.task_id})
        async with aclosing(_answers(turn.way, self._url, body, self.headers(turn))) as answers:
            async for answer in answers:
                known = {"answer": answer}
                if self._failure is not None and (reason := _value(turn.way, "failure", self._failure, known)):
                    said_so = reason if isinstance(reason, str) else encode(reason).decode()
                    raise UpstreamInvalid(turn.way.name, said_so[:MAX_REASON])
                if self._session is not None:
                    session = _value(turn.way, "session", self._session, known)
                    if isinstance(session, dict) and session:
                        yield Remember(session)
                found = _value(turn.way, "answer", self._answer, known)
                steps = [_step(one) for one in (found if isinstance(found, list) else [found]) if one not in (None, "")]
                if self._asks is not None and _value(turn.way, "asks", self._asks, known) is True:
                    yield Asks([one.part if isinstance(one, Piece) else {"text": one.text} for one in steps])
                    return
                for step in steps:
                    yield step

    async def about(self, _way: Way) -> About:
        """Nothing is known of it but what it answers."""
        return About(input_modes=("text/plain", "application/json", "*/*"))


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make)."""
    return Http(url, msgspec.convert(options, Options))


def _compiled(name: str, text: str, known: frozenset[str]) -> Expression:
    if len(text) > MAX_CHARS:
        raise ValueError(f"{name} has more than {MAX_CHARS} characters")
    import cel  # noqa: PLC0415  # most hubs have no expressions, and it takes 6 MB

    try:
        found = cel.compile(text)
    except ValueError as error:
        raise ValueError(f"{name} is not CEL: {' '.join(str(error).split())[:200]}") from None
    if not known & set(found.variables()):
        raise ValueError(f"{name} looks at none of {', '.join(sorted(known))}")
    return found


def _value(way: Way, name: str, expression: Expression, known: JsonObject) -> Any:
    try:
        return expression.execute(known)
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UpstreamInvalid(way.name, f"its option {name} does not fit what it is about: {reason}") from None


async def _answers(way: Way, url: str, body: JsonObject, headers: Headers) -> AsyncGenerator[Any]:
    """What was answered: one JSON document, a text, or those of a stream as they come."""
    accept = ("accept", "application/json, text/event-stream, application/x-ndjson")
    async with way.send("POST", url, body, headers=(accept, *headers)) as incoming:
        if incoming.media_type == "text/event-stream":
            async with aclosing(way.events_of(incoming)) as events:
                async for event in events:
                    if event.data != b"[DONE]":
                        yield _json_or_text(event.data)
        elif incoming.media_type in {"application/x-ndjson", "application/jsonl", "application/json-seq"}:
            async with aclosing(way.lines_of(incoming)) as lines:
                async for line in lines:
                    yield way.read(line)
        elif incoming.media_type.startswith("text/"):
            yield _json_or_text(await incoming.read())
        else:
            yield way.read(await incoming.read())


def _json_or_text(data: bytes) -> Any:
    try:
        return decode(data)
    except ParseFailed:
        return data.decode(errors="replace")


def _step(said: Any) -> Text | Piece:
    if isinstance(said, str):
        return Text(said)
    is_part = isinstance(said, dict) and bool(said.keys() & {"raw", "url", "data"})
    return Piece(said if is_part else {"data": said})
