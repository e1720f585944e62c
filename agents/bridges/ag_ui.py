"""An AG-UI endpoint as an agent (docs.ag-ui.com, protocol 1.0; the models of ag-ui-protocol 1.0.0, read 2026-11).

The agent there remembers nothing: each run is told the messages of its context, which the hub keeps, with calls of tools and what
they gave, so that a run that was interrupted finds what it waited for. A run lasts as long as its stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from agents.bridges.bridge import TOOL, About, Asks, Bridge, Piece, Remember, Running, Step, Steps, Text, Turn, Working
from agents.bridges.way import Way
from registry.errors import NotSupported, UpstreamInvalid
from registry.judged import JsonObject, encode

MAX_SAID_BYTES = 256 * 1024
"""Of the messages of a context, as JSON: what was said first is forgotten first, and with a longer answer all."""

STATE = "state"
"""The artifact that has the agent's shared state."""

CUSTOM, STEP = "urn:hubbub:ag-ui:custom", "urn:hubbub:ag-ui:step"
"""Members of a status's metadata: what a CUSTOM event says, the step that has begun."""

INTERRUPTS = "urn:hubbub:ag-ui:interrupts"
"""Of a question's data part: the interrupts, with the schema of what resolves each."""

ASSENTS = frozenset({"yes", "y", "ok", "approve", "approved", "true"})
"""What says yes where an interrupt asks for no more than that."""

KINDS = {"image": "image", "audio": "audio", "video": "video"}
"""Types of content parts, by the first half of a media type; any other is a `document`."""


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an entry's `options` may say."""

    forwarded_props: JsonObject = {}
    """`forwardedProps` of every run."""


class AgUi:
    """One such agent."""

    credentials = None
    rejoins = False
    """A run ends with its stream."""

    def __init__(self, url: str, options: Options) -> None:
        self._url = url
        self._props = options.forwarded_props

    async def run(self, turn: Turn) -> Steps:
        """Run the agent once (agents.bridges.bridge.Bridge)."""
        session = turn.session
        waiting: list[JsonObject] = session.get("interrupts", []) if turn.is_answer else []
        said: list[JsonObject] = list(session.get("messages", ()))
        if not waiting:
            content = [_content(turn, part) for part in turn.parts]
            said.append({"id": turn.message.get("messageId") or turn.task_id, "role": "user", "content": content})
        body: JsonObject = {
            "threadId": turn.context_id,
            "runId": f"{turn.task_id}-{len(said)}",
            "state": session.get("state", {}),
            "messages": said,
            "tools": [],
            "context": [],
            "forwardedProps": self._props,
        }
        if waiting:
            body["resume"] = [_resume(one, turn) for one in waiting]
        yield Running({"run": body["runId"]})
        heard = _Heard(turn.way, session.get("state", {}))
        async with aclosing(turn.way.events("POST", self._url, body)) as events:
            async for event in events:
                for step in heard.steps(turn.way.read(event.data)):
                    yield step
        if not heard.is_finished:
            raise UpstreamInvalid(turn.way.name, "its run was cut short")
        messages = heard.messages if heard.is_whole else [*said, *heard.messages]
        yield Remember({"messages": _bounded(messages), "state": heard.state, "interrupts": heard.interrupts})
        if heard.interrupts:
            yield _asks(heard.interrupts)

    async def cancel(self, turn: Turn) -> None:
        """Leaving the stream has ended the run: the protocol has no other way."""

    def rejoin(self, turn: Turn) -> Steps:
        """Not asked for: `rejoins` says so."""
        raise NotSupported(f"{turn.way.name} cannot be read on.")

    async def about(self, _way: Way) -> About:
        """The protocol says nothing of an agent before it runs."""
        return About(input_modes=("text/plain", "image/*", "audio/*", "video/*", "application/*"))


class _Heard:
    """What the events of one run said."""

    def __init__(self, way: Way, state: Any) -> None:
        self._way = way
        self.state = state
        self.messages: list[JsonObject] = []
        self.interrupts: list[JsonObject] = []
        self.is_finished = False
        self.is_whole = False
        """`messages` are all of the thread, as the agent itself keeps them."""
        self._open: dict[str, JsonObject] = {}
        """Messages of the assistant, by id, and calls of tools, by theirs."""
        self._last = ""
        self._size = 0

    def steps(self, event: Any) -> list[Step]:
        """What one event says; those of kinds that are not known say nothing."""
        if not isinstance(event, dict):
            raise UpstreamInvalid(self._way.name, "an event of its stream is no object")
        match event.get("type"):
            case "TEXT_MESSAGE_CONTENT" | "TEXT_MESSAGE_CHUNK":
                return self._text(event)
            case "TOOL_CALL_START" | "TOOL_CALL_ARGS" | "TOOL_CALL_CHUNK":
                return self._call(event)
            case "STATE_SNAPSHOT":
                self.state = event.get("snapshot")
                return [Piece({"data": self.state}, STATE)]
            case "CUSTOM":
                return [Working(metadata={CUSTOM: {"name": event.get("name"), "value": event.get("value")}})]
            case "STEP_STARTED":
                return [Working(metadata={STEP: event.get("stepName")})]
            case "RUN_ERROR":
                raise UpstreamInvalid(self._way.name, str(event.get("message") or "its run failed"))
        self._note(event)
        return []

    def _note(self, event: JsonObject) -> None:
        """What is to be known later, and is not told."""
        match event.get("type"):
            case "TOOL_CALL_RESULT" if self._has_room(event.get("content")):
                found = {"id": event.get("messageId"), "toolCallId": event.get("toolCallId")}
                self.messages.append({**found, "role": "tool", "content": event.get("content")})
            case "MESSAGES_SNAPSHOT" if isinstance(event.get("messages"), list):
                self.messages, self.is_whole = event["messages"], True
            case "RUN_FINISHED":
                self._finish(event.get("outcome"))

    def _text(self, event: JsonObject) -> list[Step]:
        text = event.get("delta")
        if not isinstance(text, str):
            return []
        if self._has_room(text):
            message = self._message(str(event.get("messageId") or self._last))
            message["content"] = (message.get("content") or "") + text
        return [Text(text)]

    def _has_room(self, said: Any) -> bool:
        """Whether something more is to be remembered: of what is too long for it nothing is."""
        has_room = self._size <= MAX_SAID_BYTES
        self._size += len(said) if isinstance(said, str) else 0
        return has_room

    def _message(self, name: str) -> JsonObject:
        if name not in self._open:
            self._open[name] = {"id": name, "role": "assistant"}
            self.messages.append(self._open[name])
        self._last = name
        return self._open[name]

    def _call(self, event: JsonObject) -> list[Step]:
        name, delta = str(event.get("toolCallId")), event.get("delta")
        is_new = name not in self._open
        if is_new:
            function: JsonObject = {"name": event.get("toolCallName"), "arguments": ""}
            self._open[name] = {"id": name, "type": "function", "function": function}
            parent = self._message(str(event.get("parentMessageId") or f"of-{name}"))
            parent.setdefault("toolCalls", []).append(self._open[name])
        if isinstance(delta, str) and self._has_room(delta):
            self._open[name]["function"]["arguments"] += delta
        return [Working(metadata={TOOL: {"name": event.get("toolCallName")}})] if is_new else []

    def _finish(self, outcome: Any) -> None:
        self.is_finished = True
        kind = outcome.get("type") if isinstance(outcome, dict) else None
        if kind == "cancelled":
            raise UpstreamInvalid(self._way.name, "its run was cancelled")
        if kind == "interrupt":
            self.interrupts = [one for one in outcome.get("interrupts") or () if isinstance(one, dict)]


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make)."""
    return AgUi(url, msgspec.convert(options, Options))


def _asks(interrupts: Sequence[JsonObject]) -> Asks:
    """The questions as text, and the interrupts as data, for clients that answer each by its schema."""
    texts = [{"text": str(one.get("message") or one.get("reason") or "It waits for an answer.")} for one in interrupts]
    return Asks([*texts, {"data": {INTERRUPTS: list(interrupts)}}])


def _resume(interrupt: JsonObject, turn: Turn) -> JsonObject:
    """The caller's answer to one interrupt: data as it is; a text, or yes and no where that is what is asked."""
    text = " ".join(part["text"] for part in turn.parts if isinstance(part.get("text"), str))
    payload: Any = next((part["data"] for part in turn.parts if "data" in part), text)
    asked = (interrupt.get("responseSchema") or {}).get("properties") or {}
    if payload is text and "approved" in asked:
        payload = {"approved": text.strip().lower() in ASSENTS, **({"reason": text} if "reason" in asked else {})}
    return {"interruptId": interrupt.get("id"), "status": "resolved", "payload": payload}


def _content(turn: Turn, part: JsonObject) -> JsonObject:
    """A part of A2A as one of a user's message."""
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if "data" in part:
        return {"type": "text", "text": encode(part["data"]).decode()}
    media = str(part.get("mediaType") or "application/octet-stream")
    if "raw" in part:
        source = {"type": "data", "value": part["raw"], "mimeType": media}
    elif "url" in part:
        source = {"type": "url", "value": part["url"], "mimeType": media}
    else:
        raise NotSupported(f"{turn.way.name} takes no part of this kind.")
    return {"type": KINDS.get(media.partition("/")[0], "document"), "source": source}


def _bounded(said: Sequence[JsonObject]) -> list[JsonObject]:
    """The last messages, beginning with one of the user: what a tool gave means nothing without its call."""
    kept = list(said)
    while kept and (len(encode(kept)) > MAX_SAID_BYTES or kept[0].get("role") != "user"):
        kept = kept[1:]
    return kept
