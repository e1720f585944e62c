"""A fake model service that speaks OpenAI's chat completions, written from its API reference: real ones need a key.

It is scripted: each request is answered by the next turn. It records what it received, byte for byte.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import served
from tests.peers.model_service import Received, read, unless_left, write_all

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "completion_tokens_details": {"reasoning_tokens": 1},
}


@dataclass
class Turn:
    """How one request is answered."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    """Name and arguments of each tool call."""
    status: int = 200
    error: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: tuple[bytes, ...] | None = None
    """The stream's bytes, sent piece by piece instead of what would be right."""
    hold_last: asyncio.Event | None = None
    """Awaited before the last content event."""
    cut_after: int | None = None
    """The connection breaks after so many events."""
    usage: bool = True
    null_usage: bool = False
    """Every chunk has `usage: null`, as OpenAI's do when usage was asked for."""
    content_type: str | None = None


@dataclass
class OpenAIUpstream:
    """The service. `turns` is the script."""

    url: str = ""
    turns: list[Turn] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client left before its answer was complete."""
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def came(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with self._more:
            await self._more.wait_for(lambda: len(self.received) >= count)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)
        async with self._more:
            self.received.append(request)
            self._more.notify_all()
        turn = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        if not await unless_left(self._answer(turn, json.loads(request.raw or b"{}"), send), receive):
            self.left.set()

    async def _answer(self, turn: Turn, body: dict[str, Any], send: Any) -> None:
        streams = bool(body.get("stream")) and turn.status == 200
        kind = turn.content_type or ("text/event-stream" if streams else "application/json")
        headers = [(b"content-type", kind.encode()), *((a.encode(), b.encode()) for a, b in turn.headers.items())]
        await send({"type": "http.response.start", "status": turn.status, "headers": headers})

        async def write(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        if streams:
            pieces = turn.raw if turn.raw is not None else events(turn, body)
            await write_all(pieces, write, text=b'"content"', hold_last=turn.hold_last, cut_after=turn.cut_after)
        elif turn.hold_last is not None:
            await turn.hold_last.wait()
        if not streams:
            await write(turn.error if turn.error is not None else json.dumps(whole(turn, body)).encode())
        await send({"type": "http.response.body", "body": b""})


def whole(turn: Turn, body: dict[str, Any]) -> dict[str, Any]:
    """A whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None, "refusal": None, "annotations": []}
    if turn.calls:
        message["tool_calls"] = [called(number, *call) for number, call in enumerate(turn.calls)]
    reason = "tool_calls" if turn.calls else "stop"
    answer = {
        **head(body, "chat.completion"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
    }
    return {**answer, "usage": USAGE} if turn.usage else answer


def called(number: int, name: str, arguments: str) -> dict[str, Any]:
    """One tool call."""
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    """The members that every chunk and answer begins with."""
    return {"id": "chatcmpl-up", "object": kind, "created": 1700000000, "model": body["model"]}


def chunk(body: dict[str, Any], delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
    """One event."""
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]
    return sse({**head(body, "chat.completion.chunk"), "choices": choices, **more})


def sse(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def events(turn: Turn, body: dict[str, Any]) -> list[bytes]:
    """A whole stream: role, a word each, tool calls with their arguments in two halves, end, usage when asked."""
    more = {"usage": None} if turn.null_usage else {}
    found = [chunk(body, {"role": "assistant", "content": "", "refusal": None}, **more)]
    found += [chunk(body, {"content": f"{word} "}, **more) for word in turn.text.split()]
    for number, (name, arguments) in enumerate(turn.calls):
        half = len(arguments) // 2
        first = {**called(number, name, ""), "index": number}
        found.append(chunk(body, {"tool_calls": [first]}, **more))
        for part in (arguments[:half], arguments[half:]):
            found.append(chunk(body, {"tool_calls": [{"index": number, "function": {"arguments": part}}]}, **more))
    found.append(chunk(body, {}, "tool_calls" if turn.calls else "stop", **more))
    if turn.usage and (body.get("stream_options") or {}).get("include_usage"):
        found.append(sse({**head(body, "chat.completion.chunk"), "choices": [], "usage": USAGE}))
    return [*found, b"data: [DONE]\n\n"]


@asynccontextmanager
async def openai_upstream(*turns: Turn) -> AsyncIterator[OpenAIUpstream]:
    """Serve the fake on a free port."""
    upstream = OpenAIUpstream(turns=list(turns))
    async with served(upstream) as url:
        upstream.url = f"{url}/v1"
        yield upstream
