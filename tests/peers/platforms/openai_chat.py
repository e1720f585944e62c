"""A fake of an OpenAI-compatible endpoint with the suite's brain, from the API reference of Chat Completions (read 2026-11)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.conftest import served
from tests.peers.model_service import read, unless_left
from tests.peers.openai_upstream import chunk, sse
from tests.peers.platforms import brain
from tests.peers.platforms.platform import NOBODYS, Kind, Odd, Platform, event

AMONG: tuple[dict[str, Any], ...] = (
    {"choices": [], "usage": {"total_tokens": 2}},
    {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}]},
    {
        "choices": [{"index": 0, "delta": {"reasoning_content": NOBODYS, "later": 1}, "finish_reason": None}],
        "usage": None,
    },
    {"choices": [{"index": 0, "delta": None, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": NOBODYS}}]}}]},
)


@asynccontextmanager
async def _open(_directory: Path) -> AsyncIterator[Platform]:
    platform = Platform()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)
        platform.named.append(request.body["user"])
        if not await unless_left(_answer(platform, request.body, send), receive):
            platform.cancelled.set()

    async with served(serve) as url:
        platform.entry = f'{{bridge: openai, url: "{url}/v1", options: {{model: m}}}}'
        yield platform


async def _answer(platform: Platform, body: dict[str, Any], send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})

    async def write(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    *before, now = [one["content"] for one in body["messages"] if one["role"] == "user"]
    try:
        async for piece in _said(platform, [_text(one) for one in before], now):
            await write(chunk(body, {"content": piece}))
        await write(chunk(body, {}, "stop"))
        await write(b"data: [DONE]\n\n")
    except brain.Fell as error:
        await write(sse({"error": {"message": str(error), "type": "server_error"}}))
    await send({"type": "http.response.body", "body": b""})


async def _said(platform: Platform, before: list[str], now: list[dict[str, Any]]) -> AsyncIterator[str]:
    image = next((one["image_url"]["url"] for one in now if one["type"] == "image_url"), None)
    if image is not None:
        yield image
        return
    async for piece in brain.say(before, _text(now), platform.released.wait):
        yield piece


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(one["text"] for one in content if one["type"] == "text")


_NO_RUNS = "a chat completion is a request, which has no name and nothing that could be gone on with"

OPENAI_CHAT = Kind(
    "openai",
    _open,
    "a fake, from the API reference",
    {
        "asks": "a chat completion ends with an answer or with calls of tools, which are none of a user's",
        "rejoin": _NO_RUNS,
        "renews": "its keys do not expire by themselves",
    },
    Odd(
        "chunks come in their order; one with no choices says the usage, also after the last (Chat Completions, Streaming)",
        tuple(event({"id": "chatcmpl-1", "object": "chat.completion.chunk", **one}) for one in AMONG),
        end=event({"error": {"message": "the token has expired", "type": "invalid_request_error", "code": "401"}}),
    ),
)
