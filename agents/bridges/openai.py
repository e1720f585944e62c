"""Any OpenAI-compatible endpoint as an agent (API references of Chat Completions and of Responses, read 2026-11).

By `chat`, history is kept by context; by `responses`, a context is a chain of responses (agents.bridges.responses).

`options`: `model`; `instructions`, told as the system's first message; `api`; `background`, which is of responses.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, Literal

import msgspec

from agents.bridges.bridge import About, Bridge, EndsWhenLeft, Remember, Running, Steps, Text, Turn
from agents.bridges.history import History, Notes
from agents.bridges.responses import INPUT_MODES, Responses
from agents.bridges.way import Way
from registry.errors import NotSupported, UpstreamInvalid
from registry.judged import JsonObject, encode

NOTE = "turn"
"""What is noted of a turn, the question and the answer, is one text."""


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an entry's `options` may say."""

    model: str
    instructions: str | None = None
    api: Literal["chat", "responses"] = "chat"
    background: bool = False


class Chat(EndsWhenLeft):
    """One such agent, by chat completions."""

    credentials = None

    def __init__(self, url: str, options: Options) -> None:
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._options = options

    async def run(self, turn: Turn) -> Steps:
        """Have the model answer (agents.bridges.bridge.Bridge)."""
        history, notes = History(turn), Notes(turn.shelf)
        asked: JsonObject = {"role": "user", "content": [_content(turn, part) for part in turn.parts]}
        before = [{"role": "system", "content": self._options.instructions}] if self._options.instructions else []
        body = {"model": self._options.model, "stream": True, "user": turn.user}
        await notes.write(NOTE, encode(asked))
        await notes.write(NOTE, b',{"role":"assistant","content":"')
        yield Running({"request": turn.message.get("messageId")})
        reason = None
        async with aclosing(turn.way.events("POST", self._url, history.asked(body, before, [asked]))) as events:
            async for event in events:
                if event.data == b"[DONE]":
                    break
                chunk = _read(turn.way, event.data)
                text = (chunk.get("delta") or {}).get("content")
                if isinstance(text, str):
                    await notes.say(NOTE, text)
                    yield Text(text)
                reason = chunk.get("finish_reason") or reason
        if reason is None:
            raise UpstreamInvalid(turn.way.name, "its answer was cut short")
        if reason == "content_filter":
            raise UpstreamInvalid(turn.way.name, "its content filter ended the answer")
        await notes.write(NOTE, b'"}')
        await history.add(notes, [notes.parts(NOTE)])
        yield Remember(history.session)
        await history.tidy()

    async def about(self, _way: Way) -> About:
        """The endpoint says nothing of an agent."""
        return About(input_modes=("text/plain", "image/*", "application/json"))


class Chain(Responses):
    """One such agent, by responses."""

    chains = True

    def __init__(self, url: str, options: Options) -> None:
        super().__init__(url.rstrip("/"), background=options.background)
        self._options = options

    async def run(self, turn: Turn) -> Steps:
        """Have the model respond after the context's last response (agents.bridges.bridge.Bridge)."""
        asked: JsonObject = {"model": self._options.model, "user": turn.user}
        if self._options.instructions:
            asked["instructions"] = self._options.instructions
        async with aclosing(self.respond(turn, asked)) as steps:
            async for step in steps:
                yield step

    async def about(self, _way: Way) -> About:
        """The endpoint says nothing of an agent."""
        return About(input_modes=INPUT_MODES)


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make)."""
    said = msgspec.convert(options, Options)
    if said.api == "responses":
        return Chain(url, said)
    if said.background:
        raise ValueError("background belongs to `api: responses`")
    return Chat(url, said)


def _read(way: Way, data: bytes) -> JsonObject:
    """The first choice of a chunk; empty: it has none, as the one that says the usage."""
    chunk = way.read(data)
    error = chunk.get("error") if isinstance(chunk, dict) else None
    if isinstance(error, dict):
        raise UpstreamInvalid(way.name, str(error.get("message") or "it ended its stream with an error"))
    choices = chunk.get("choices") if isinstance(chunk, dict) else None
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _content(turn: Turn, part: JsonObject) -> JsonObject:
    """A part of A2A as one of a chat message."""
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if "data" in part:
        return {"type": "text", "text": encode(part["data"]).decode()}
    kind = str(part.get("mediaType") or "application/octet-stream")
    url = part.get("url") or f"data:{kind};base64,{part.get('raw', '')}"
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    if "raw" in part:
        return {"type": "file", "file": {"file_data": url, "filename": str(part.get("filename") or "file")}}
    raise NotSupported(f"{turn.way.name} takes no files of type {kind} by their address.")
