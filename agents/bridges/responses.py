"""OpenAI's Responses API, as several platforms have it: what they have in common.

Read 2026-11: API reference of Responses (`create`, `get` with `stream` and `starting_after`, `cancel`) and of its streaming events; guide
"Background mode".

A task is a response. One in the background goes on when its reader leaves, is read on behind the last event that was seen, and can be
cancelled; any other ends with its stream. Approvals of MCP tools, and calls of functions that nobody on the platform handles, ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from agents.bridges.answering import asked, assent, output, said_to
from agents.bridges.bridge import TOOL, Asks, Piece, Remember, Running, Step, Steps, Text, Turn, Working
from agents.bridges.way import PAUSE_S, Credentials, Event, Way
from registry.errors import (
    NotSupported,
    ParseFailed,
    UpstreamError,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from registry.judged import JsonObject, decode, encode

TRIES = 5
"""How often a response is read on that says nothing new, before its task is given up."""

INCOMPLETE = "urn:hubbub:incomplete"
"""The member of a status's metadata that says why an answer ended early."""

INPUT_MODES = ("text/plain", "image/*", "application/json", "application/pdf")


class Responses:
    """The responses of one agent. A bridge is made of it by a `run` that calls `respond`, and an `about`."""

    chains = False
    """Whether a context is a chain of responses, each after its previous one."""

    def __init__(self, url: str, *, background: bool, credentials: Credentials | None = None) -> None:
        self._responses = f"{url}/responses"
        self.rejoins = background
        self.credentials = credentials

    async def respond(self, turn: Turn, asked: JsonObject) -> Steps:
        """Have a message answered; `asked` is what the platform wants to know beside it. Raises as `Bridge.run`."""
        waiting = turn.ref.get("waiting") if turn.is_answer else None
        previous = turn.ref.get("response") if waiting else turn.session.get("previous")
        body: JsonObject = {
            **asked,
            "input": [_answer(item, turn) for item in waiting]
            if waiting
            else [{"role": "user", "content": _content(turn)}],
            "stream": True,
            **({"previous_response_id": previous} if self.chains and previous else {}),
            **({"background": True, "store": True} if self.rejoins else {}),
        }
        async with aclosing(self._read(turn.way, {}, turn.way.events("POST", self._responses, body))) as steps:
            async for step in steps:
                yield step

    async def rejoin(self, turn: Turn) -> Steps:
        """Read a response on (agents.bridges.bridge.Bridge)."""
        async with aclosing(self._read(turn.way, turn.ref, self._again(turn.way, turn.ref))) as steps:
            async for step in steps:
                yield step

    async def cancel(self, turn: Turn) -> None:
        """Cancel a response (agents.bridges.bridge.Bridge). Leaving its stream has ended one that is not in the background."""
        if self.rejoins:
            await turn.way.json("POST", f"{self._one(turn.ref)}/cancel")

    def _one(self, ref: JsonObject) -> str:
        return f"{self._responses}/{quote(str(ref['response']), safe='')}"

    def _again(self, way: Way, ref: JsonObject) -> AsyncGenerator[Event]:
        """The events of a response behind the last that was seen, and those that come."""
        after = f"&starting_after={ref['last']}" if ref.get("last") is not None else ""
        return way.events("GET", f"{self._one(ref)}?stream=true{after}")

    async def _read(self, way: Way, ref: JsonObject, events: AsyncGenerator[Event]) -> Steps:
        """Read a response to its end, as often as its stream breaks and can be read on."""
        reading, tries_left = _Reading(way, ref), TRIES
        while True:
            before = reading.last
            failure: UpstreamError = UpstreamInvalid(way.name, "its answer was cut short")
            try:
                async with aclosing(reading.heard(events)) as steps:
                    async for step in steps:
                        yield step
            except (UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable) as error:
                failure = error
            if reading.is_over:
                break
            tries_left = TRIES if reading.last != before else tries_left - 1
            if not (self.rejoins and reading.response and reading.last is not None and tries_left):
                raise failure
            await asyncio.sleep(PAUSE_S * (TRIES - tries_left))
            events = self._again(way, reading.ref)
        if reading.failure is not None:
            raise UpstreamInvalid(way.name, reading.failure)
        if reading.waiting:
            yield Asks([_question(item) for item in reading.waiting])
        elif self.chains:
            yield Remember({"previous": reading.response})


class _Reading:
    """What the events of one response have shown; `ref` is all of it that another process needs to go on."""

    def __init__(self, way: Way, ref: JsonObject) -> None:
        self._way = way
        self.response: str | None = ref.get("response")
        self.last: int | None = ref.get("last")
        """The `sequence_number` of the last event."""
        self.waiting: list[JsonObject] = list(ref.get("waiting") or ())
        """Items that want an answer."""
        self._said: list[str] = list(ref.get("said") or ())
        """Ids of messages that came in pieces, and come whole once more."""
        self.is_over = False
        self.failure: str | None = None

    @property
    def ref(self) -> JsonObject:
        """See agents.bridges.bridge.Turn.ref."""
        return {"response": self.response, "last": self.last, "waiting": self.waiting, "said": self._said}

    async def heard(self, events: AsyncGenerator[Event]) -> Steps:
        """What a stream says until it ends, or the response does."""
        async with aclosing(events):
            async for event in events:
                for step in self._steps(event):
                    yield step
                if self.response is not None:
                    yield Running(
                        self.ref
                    )  # after them: what is kept before a step is said must not say that it was read
                if self.is_over:
                    return

    def _steps(self, event: Event) -> list[Step]:
        """What one event says; those of kinds that are not known say nothing, nor does one that was seen."""
        data = self._way.read(event.data) if event.data != b"[DONE]" else None
        if not isinstance(data, dict):
            return []
        number = data.get("sequence_number")
        if isinstance(number, int):
            if self.last is not None and number <= self.last:
                return []
            self.last = number
        match data.get("type") or event.name:
            case "response.output_text.delta" | "response.refusal.delta":
                return self._delta(data)
            case "response.output_item.added" if isinstance(data.get("item"), dict):
                return _begun(data["item"])
            case "response.output_item.done" if isinstance(data.get("item"), dict):
                return self._done(data["item"])
            case "error":
                inner = data["error"] if isinstance(data.get("error"), dict) else data
                self._fail(inner, "its stream ended with an error")
            case _ if isinstance(data.get("response"), dict):
                return self._reached(data["response"])
        return []

    def _reached(self, response: JsonObject) -> list[Step]:
        """What the response itself says of how far it is."""
        if isinstance(response.get("id"), str):
            self.response = response["id"]
        status = response.get("status")
        if status == "failed":
            self._fail(response.get("error"), "its response failed")
        elif status == "cancelled":
            self._fail(None, "its response was cancelled")
        elif status == "incomplete":
            reason = str((response.get("incomplete_details") or {}).get("reason") or "unknown")
            if reason == "content_filter":
                self._fail(None, "its content filter ended the answer")
            self.is_over = True
            return [Working(metadata={INCOMPLETE: reason})]
        self.is_over |= status == "completed"
        return []

    def _fail(self, error: Any, otherwise: str) -> None:
        said = error if isinstance(error, dict) else {}
        self.is_over, self.failure = True, str(said.get("message") or said.get("code") or otherwise)

    def _delta(self, data: JsonObject) -> list[Step]:
        name = str(data.get("item_id") or "")
        if name not in self._said:
            self._said.append(name)
        text = str(data.get("delta") or "")
        self._way.said.add(name, text)
        return [Text(text)]

    def _done(self, item: JsonObject) -> list[Step]:
        match item:
            case {"type": "message", "content": [*content]} if item.get("id") not in self._said:
                texts = [part.get("text") or part.get("refusal") for part in content if isinstance(part, dict)]
                return [Text(text) for text in texts if isinstance(text, str)]
            case {"type": "mcp_approval_request", "id": str()} | {"type": "function_call", "call_id": str()}:
                self.waiting.append(item)
            case {"type": "function_call_output", "call_id": call_id}:  # somebody there has handled it
                self.waiting = [one for one in self.waiting if one.get("call_id") != call_id]
            case {"type": "image_generation_call", "result": str(data)}:
                return [Piece({"raw": data, "mediaType": f"image/{item.get('output_format') or 'png'}"})]
        return []


def _begun(item: JsonObject) -> list[Step]:
    """A tool of the platform's that is called."""
    kind = str(item.get("type") or "")
    if not kind.endswith("_call") or kind == "function_call":
        return []
    return [Working(metadata={TOOL: {"name": str(item.get("name") or kind.removesuffix("_call"))}})]


def _question(item: JsonObject) -> JsonObject:
    """What an item asks."""
    try:
        arguments = decode(str(item.get("arguments") or "{}").encode())
    except ParseFailed:
        arguments = item.get("arguments")
    if item["type"] == "function_call":
        return asked(item["call_id"], item.get("name"), arguments)
    more = {name: item[name] for name in ("type", "server_label") if name in item}
    return asked(item["id"], item.get("name"), arguments, approval_request_id=item["id"], **more)


def _answer(item: JsonObject, turn: Turn) -> JsonObject:
    """The caller's answer to an item that waits."""
    if item["type"] == "function_call":
        said = output(said_to(turn, item["call_id"]))
        return {"type": "function_call_output", "call_id": item["call_id"], "output": said}
    is_yes, reason = assent(said_to(turn, item["id"]))
    why = {"reason": reason} if reason else {}
    return {"type": "mcp_approval_response", "approval_request_id": item["id"], "approve": is_yes, **why}


def _content(turn: Turn) -> list[JsonObject]:
    return [_input(turn, part) for part in turn.parts]


def _input(turn: Turn, part: JsonObject) -> JsonObject:
    """A part of A2A as one of a user's message."""
    if isinstance(part.get("text"), str):
        return {"type": "input_text", "text": part["text"]}
    if "data" in part:
        return {"type": "input_text", "text": encode(part["data"]).decode()}
    if "url" not in part and "raw" not in part:
        raise NotSupported(f"{turn.way.name} takes no part of this kind.")
    kind = str(part.get("mediaType") or "application/octet-stream")
    url = part.get("url") or f"data:{kind};base64,{part['raw']}"
    if kind.startswith("image/"):
        return {"type": "input_image", "image_url": url, "detail": "auto"}
    if "url" in part:
        return {"type": "input_file", "file_url": url}
    return {"type": "input_file", "file_data": url, "filename": str(part.get("filename") or "file")}
