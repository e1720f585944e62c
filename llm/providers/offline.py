"""The offline model: ships with the hub, needs no key and no network, and says in its answers that it is no real model.

It picks tools by matching words (words.py), fills their arguments from the text (arguments.py), and says what they
returned in a sentence. The same request always gets the same answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from llm.ports import ModelRequest
from llm.providers import arguments, words
from llm.wire.chat import DONE, event
from registry.entries import Model
from registry.errors import UpstreamRejected
from registry.gate import Permit
from registry.judged import JsonObject, decode, encode

LABEL = "[offline model]"
"""Begins every text."""

FINGERPRINT = "hubbub-offline"

MAX_TEXT = 4000
"""Characters of the last message that are looked at."""

MAX_SAID = 2000
"""Characters of one result that are said."""

MAX_RIVALS = 8
"""Tools whose arguments are tried out, the best by their words."""

MISSING_COSTS = 1.0
"""What an argument that the text does not give takes off a tool's score."""


class Offline:
    """The provider `offline`."""

    @asynccontextmanager
    async def call(self, permit: Permit, model: Model, request: ModelRequest) -> AsyncIterator[OfflineAnswer]:
        """Answer one request (llm.ports.Provider); raises `UpstreamRejected` for one that makes no sense."""
        if permit.due:
            await permit.reserve()
        permit.use()
        asked = decode(request.body)
        messages = asked.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise UpstreamRejected(
                model.name,
                400,
                {"message": "messages must be a list of objects", "type": "invalid_request_error", "param": "messages"},
            )
        yield OfflineAnswer(asked, messages, digest=hashlib.sha256(request.body).hexdigest()[:24])

    def secrets(self, _model: Model) -> Sequence[str]:
        """It has none (llm.ports.Provider)."""
        return ()


class OfflineAnswer:
    """One answer, as a whole or as a stream."""

    def __init__(self, request: JsonObject, messages: list[JsonObject], *, digest: str) -> None:
        self._request = request
        self._digest = digest
        self._text, self._calls = respond(request, messages)
        said = sum(len(text_of(message).split()) for message in messages)
        answered = len(self._text.split()) + sum(len(call["function"]["arguments"].split()) for call in self._calls)
        self._usage = {
            "prompt_tokens": said,
            "completion_tokens": answered,
            "total_tokens": said + answered,
        }
        for number, call in enumerate(self._calls):
            call["id"] = f"call_{digest}{number}"

    async def read(self) -> bytes:
        """The whole answer."""
        message: JsonObject = {"role": "assistant", "content": self._text or None}
        if self._calls:
            message["tool_calls"] = self._calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason}
        return encode({**self._head("chat.completion"), "choices": [choice], "usage": self._usage})

    async def chunks(self) -> AsyncIterator[bytes]:
        """The answer word by word."""
        yield self._chunk({"role": "assistant", "content": ""})
        for word in re.findall(r"\S+\s*|\s+", self._text):
            await asyncio.sleep(0)  # others' turn: a long answer is no reason to hold them up
            yield self._chunk({"content": word})
        for index, call in enumerate(self._calls):
            yield self._chunk({"tool_calls": [{"index": index, **call}]})
        yield self._chunk({}, finish_reason=self._finish_reason)
        options = self._request.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            yield event({**self._head("chat.completion.chunk"), "choices": [], "usage": self._usage})
        yield DONE

    @property
    def _finish_reason(self) -> str:
        return "tool_calls" if self._calls else "stop"

    def _head(self, kind: str) -> JsonObject:
        return {
            "id": f"chatcmpl-{self._digest}",
            "object": kind,
            "created": int(time.time()),
            "model": self._request.get("model"),
            "system_fingerprint": FINGERPRINT,
        }

    def _chunk(self, delta: JsonObject, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return event({**self._head("chat.completion.chunk"), "choices": [choice]})


def respond(request: JsonObject, messages: Sequence[JsonObject]) -> tuple[str, list[JsonObject]]:
    """The answer's text and its tool calls; one of them is empty."""
    asked = max((index for index, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    later = messages[asked + 1 :]
    results = [message for message in later if message.get("role") == "tool"]
    if results:
        return f"{LABEL} {' '.join(_said(results, later))}", []
    text = text_of(messages[asked])[:MAX_TEXT] if asked >= 0 else ""
    offered = request.get("tools")
    tools = words.read_tools([tool for tool in offered if isinstance(tool, dict)] if isinstance(offered, list) else [])
    wishes = choose(text, tools, request.get("tool_choice"))
    if wishes:
        if request.get("parallel_tool_calls") is False:
            wishes = wishes[:1]
        return "", [_call(wish) for wish in wishes]
    return f"{LABEL} {_nothing_to_do(text, len(tools))}", []


def choose(text: str, tools: Sequence[words.Tool], choice: Any) -> list[words.Wish]:
    """The tools to call for `text`, as `tool_choice` allows."""
    if choice == "none" or not tools:
        return []
    forced = choice.get("function") if isinstance(choice, dict) else None
    if isinstance(forced, dict):
        return [words.Wish(tool, text) for tool in tools if tool.name == forced.get("name")][:1]
    said = words.heard(text)
    scores = {id(tool): words.score(tool, said) for tool in tools}
    fitting = [tool for tool in tools if scores[id(tool)] >= words.ENOUGH]
    if len(fitting) > MAX_RIVALS:
        best_first = sorted(fitting, key=lambda tool: -scores[id(tool)])
        kept = {id(tool) for tool in best_first[:MAX_RIVALS]}
        fitting = [tool for tool in fitting if id(tool) in kept]
    penalty = {tool.name: MISSING_COSTS * arguments.missing(tool, text) for tool in fitting}
    found = words.wishes(text, fitting, penalty=penalty)
    if not found and fitting:  # its words are spread over several parts
        best = max(fitting, key=lambda tool: scores[id(tool)] - penalty[tool.name])
        found = [words.Wish(best, text)]
    if not found and choice == "required":
        found = [words.Wish(max(tools, key=lambda tool: scores[id(tool)]), text)]
    return found


def _call(wish: words.Wish) -> JsonObject:
    filled = arguments.fill(wish.tool, wish.text)
    return {"id": "", "type": "function", "function": {"name": wish.tool.name, "arguments": encode(filled).decode()}}


def _said(results: Sequence[JsonObject], later: Sequence[JsonObject]) -> Iterator[str]:
    """A sentence for each result."""
    names = {
        call.get("id"): call["function"].get("name")
        for message in later
        for call in message.get("tool_calls") or ()
        if isinstance(call, dict) and isinstance(call.get("function"), dict)
    }
    for result in results:
        text = " ".join(text_of(result).split())
        text = text if len(text) <= MAX_SAID else f"{text[:MAX_SAID]}…"
        sentence = f"{names.get(result.get('tool_call_id')) or 'The tool'} says: {text}"
        yield sentence if sentence.endswith((".", "!", "?", "…")) else f"{sentence}."


def _nothing_to_do(text: str, tools: int) -> str:
    asked = " ".join(text.split())
    asked = asked if len(asked) <= MAX_SAID else f"{asked[:MAX_SAID]}…"
    if not tools:
        return f'I only match words with tools, and none was offered. You said: "{asked}"'
    return f'None of the {tools} tools offered fits the words of "{asked}"'


def text_of(message: JsonObject) -> str:
    """The text of a message, whether it is one string or parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
