"""A fake model service that speaks Anthropic's Messages API, written from its documentation: the real one needs a key.

It is scripted: each request is answered by the next turn. It refuses what the documentation says is refused, records what it
received, and signs its thoughts: they must come back as they were.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import served
from tests.peers.model_service import Received, read, unless_left, write_all

START_USAGE = {"input_tokens": 5, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 1}
USAGE = {**START_USAGE, "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 4}}
SIGNATURE = "c2lnbmVkIGJ5IHRoZSBmYWtl"
KEY = "sk-ant-upstream-key-000"


@dataclass
class Said:
    """How one request is answered."""

    text: str = ""
    thinking: str = ""
    redacted: bool = False
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Name and input of each tool call."""
    stop_reason: str | None = None
    stop_sequence: str | None = None
    status: int = 200
    error: tuple[str, str] | None = None
    """Type and message. With status 200 the stream ends with it after its text."""
    headers: dict[str, str] = field(default_factory=dict)
    raw: tuple[bytes, ...] | None = None
    """The stream's bytes, or the whole body, instead of what would be right."""
    hold_last: asyncio.Event | None = None
    """Awaited before the last text event."""
    cut_after: int | None = None
    """The connection breaks after so many events."""


@dataclass
class AnthropicUpstream:
    """The service. `script` is what it says; the last of it again and again."""

    url: str = ""
    script: list[Said] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)
        self.received.append(request)
        path, body = request.path, request.body
        fault = _fault(path, request.headers, body)
        said = Said(status=fault[0], error=fault[1:]) if fault else self._next(path)
        await unless_left(self._answer(said, body, send, counts=path.endswith("/count_tokens")), receive)

    def _next(self, path: str) -> Said:
        if path.endswith("/count_tokens"):
            return Said()
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    async def _answer(self, said: Said, body: dict[str, Any], send: Any, *, counts: bool) -> None:
        streams = bool(body.get("stream")) and said.status == 200
        kind = "text/event-stream; charset=utf-8" if streams else "application/json"
        headers = [(b"content-type", kind.encode()), (b"request-id", b"req_upstream")]
        headers += [(name.encode(), value.encode()) for name, value in said.headers.items()]
        await send({"type": "http.response.start", "status": said.status, "headers": headers})

        async def write(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        if counts and said.status == 200:
            await write(b'{"input_tokens":42}')
        elif streams:
            pieces = said.raw if said.raw is not None else events(said, body)
            await write_all(pieces, write, text=b"text_delta", hold_last=said.hold_last, cut_after=said.cut_after)
        elif said.status != 200:
            assert said.error is not None
            await write(json.dumps(error(*said.error)).encode())
        else:
            if said.hold_last is not None:
                await said.hold_last.wait()
            await write(said.raw[0] if said.raw is not None else json.dumps(whole(said, body)).encode())
        await send({"type": "http.response.body", "body": b""})


def _fault(path: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, str, str] | None:
    """What the documentation says is refused."""
    bad = "invalid_request_error"
    if path not in ("/v1/messages", "/v1/messages/count_tokens"):
        return 404, "not_found_error", f"no {path}"
    if headers.get("x-api-key") != KEY:
        return 401, "authentication_error", "invalid x-api-key"
    if "anthropic-version" not in headers:
        return 400, bad, "anthropic-version: header is required"
    if "max_tokens" not in body and not path.endswith("/count_tokens"):
        return 400, bad, "max_tokens: Field required"
    if unknown := body.keys() - _MEMBERS:
        return 400, bad, f"{min(unknown)}: Extra inputs are not permitted"
    if any(re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]) is None for tool in body.get("tools", ())):
        return 400, bad, "tools: name"
    if any({"oneOf", "anyOf", "allOf"} & tool.get("input_schema", {}).keys() for tool in body.get("tools", ())):
        return 400, bad, "input_schema does not support oneOf, allOf, or anyOf at the top level"
    reason = _of_messages(body)
    return (400, bad, reason) if reason else None


_MEMBERS = frozenset(
    [
        "model",
        "messages",
        "max_tokens",
        "system",
        "tools",
        "tool_choice",
        "stream",
        "metadata",
        "thinking",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
        "output_config",
        "context_management",
        "service_tier",
        "container",
    ]
)


def _of_messages(body: dict[str, Any]) -> str | None:
    asked: set[str] = set()
    if not body["messages"] or body["messages"][0]["role"] != "user":
        return "messages: first message must use the user role"
    for number, message in enumerate(body["messages"]):
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not blocks:
            return f"messages.{number}: content is empty"
        results = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if results != asked:
            return f"messages.{number}: tool_use and tool_result blocks do not match"
        asked = {block["id"] for block in blocks if block["type"] == "tool_use"}
        if asked and not body.get("tools"):
            return "requests with tool_use must define tools"
        for block in blocks:
            if reason := _of_block(block):
                return f"messages.{number}: {reason}"
    return None


_BLOCKS = frozenset(
    [
        "text",
        "image",
        "document",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "bash_code_execution_tool_result",
    ]
)


def _of_block(block: dict[str, Any]) -> str | None:
    kind = block["type"]
    if kind not in _BLOCKS:
        return f"unknown block {kind}"
    if kind == "text" and not block["text"].strip():
        return "text content blocks must contain non-whitespace text"
    if kind == "thinking" and block.get("signature") != SIGNATURE:
        return "Invalid `signature` in `thinking` block"
    if kind == "tool_use" and not (isinstance(block["input"], dict) and re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"])):
        return "tool_use"
    return None


def error(kind: str, message: str) -> dict[str, Any]:
    """An error as a body, and as an event."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_upstream"}


def _content(said: Said) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if said.thinking:
        content.append({"type": "thinking", "thinking": said.thinking, "signature": SIGNATURE})
    if said.redacted:
        content.append({"type": "redacted_thinking", "data": "b3BhcXVl"})
    if said.text:
        content.append({"type": "text", "text": said.text})
    for number, (name, given) in enumerate(said.calls):
        content.append({"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": given})
    return content


def _head(body: dict[str, Any]) -> dict[str, Any]:
    return {"id": "msg_up", "type": "message", "role": "assistant", "model": body["model"], "content": []}


def _reason(said: Said) -> str:
    return said.stop_reason or ("tool_use" if said.calls else "end_turn")


def whole(said: Said, body: dict[str, Any]) -> dict[str, Any]:
    """A whole answer."""
    end = {"stop_reason": _reason(said), "stop_sequence": said.stop_sequence}
    return {**_head(body), "content": _content(said), **end, "usage": USAGE}


def sse(data: dict[str, Any]) -> bytes:
    """One event."""
    return f"event: {data['type']}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def events(said: Said, body: dict[str, Any]) -> list[bytes]:
    """A whole stream: a word a delta, inputs in two halves, a ping among them."""
    head = {**_head(body), "stop_reason": None, "stop_sequence": None, "usage": START_USAGE}
    found = [sse({"type": "message_start", "message": head}), sse({"type": "ping"})]
    for index, block in enumerate(_content(said)):
        found += [sse({**event, "index": index}) for event in _block_events(block)]
    if said.error is not None:
        return [*found, sse(error(*said.error))]
    end = {"stop_reason": _reason(said), "stop_sequence": said.stop_sequence}
    found.append(sse({"type": "message_delta", "delta": end, "usage": {name: USAGE[name] for name in _LATE}}))
    return [*found, sse({"type": "message_stop"})]


_LATE = ("output_tokens", "output_tokens_details")


def _block_events(block: dict[str, Any]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = []
    empty = dict(block)
    if block["type"] == "text":
        empty["text"] = ""
        deltas = [{"type": "text_delta", "text": word} for word in re.findall(r"\S+\s*", block["text"])]
    elif block["type"] == "thinking":
        empty |= {"thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": word} for word in re.findall(r"\S+\s*", block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": SIGNATURE})
    elif block["type"] == "tool_use":
        empty["input"] = {}
        text = json.dumps(block["input"], separators=(",", ":"))
        halves = ("", text[: len(text) // 2], text[len(text) // 2 :]) if block["input"] else ("",)
        deltas = [{"type": "input_json_delta", "partial_json": half} for half in halves]
    return [
        {"type": "content_block_start", "content_block": empty},
        *({"type": "content_block_delta", "delta": delta} for delta in deltas),
        {"type": "content_block_stop"},
    ]


@asynccontextmanager
async def anthropic_upstream(*script: Said) -> AsyncIterator[AnthropicUpstream]:
    """Serve the fake on a free port."""
    upstream = AnthropicUpstream(script=list(script))
    async with served(upstream) as url:
        upstream.url = url
        yield upstream
