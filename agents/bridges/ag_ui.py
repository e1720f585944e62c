"""An AG-UI endpoint as an agent (docs.ag-ui.com, protocol 1.0; the models of ag-ui-protocol 1.0.0, read 2026-11).

The agent there remembers nothing: each run is told the messages of its context, which the hub keeps, with calls of tools and what
they gave, so that a run that was interrupted finds what it waited for. A run lasts as long as its stream.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from agents.bridges.answering import ASSENTS
from agents.bridges.bridge import (
    TOOL,
    About,
    Asks,
    Bridge,
    EndsWhenLeft,
    Piece,
    Remember,
    Running,
    Shelf,
    Step,
    Steps,
    Text,
    Turn,
    Working,
)
from agents.bridges.history import MAX_BYTES, History, Notes, Part, joined
from agents.bridges.json_patch import Patched, PatchInvalid
from agents.bridges.way import Way
from registry.errors import NotSupported, UpstreamInvalid
from registry.judged import JsonObject, encode

STATE = "state"
"""The artifact that has the agent's shared state."""

CUSTOM, STEP = "urn:hubbub:ag-ui:custom", "urn:hubbub:ag-ui:step"
"""Members of a status's metadata: what a CUSTOM event says, the step that has begun."""

INTERRUPTS = "urn:hubbub:ag-ui:interrupts"
"""Of a question's data part: the interrupts, with the schema of what resolves each."""

MAX_EVENT_BYTES = 4 * MAX_BYTES
"""Of one event, which is in memory whole. A snapshot has all messages of a thread: what is remembered of it, however it is escaped, and what a run adds."""

KINDS = {"image": "image", "audio": "audio", "video": "video"}
"""Types of content parts, by the first half of a media type; any other is a `document`."""


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an entry's `options` may say."""

    forwarded_props: JsonObject = {}
    """`forwardedProps` of every run."""


class AgUi(EndsWhenLeft):
    """One such agent."""

    credentials = None

    def __init__(self, url: str, options: Options) -> None:
        self._url = url
        self._props = options.forwarded_props

    async def run(self, turn: Turn) -> Steps:
        """Run the agent once (agents.bridges.bridge.Bridge)."""
        session, history = turn.session, History(turn)
        waiting: list[JsonObject] = session.get("interrupts", []) if turn.is_answer else []
        asked: list[JsonObject] = []
        if not waiting:
            content = [_content(turn, part) for part in turn.parts]
            asked = [{"id": turn.message.get("messageId") or turn.task_id, "role": "user", "content": content}]
        run = str(uuid.uuid4())
        body: JsonObject = {
            "threadId": turn.context_id,
            "runId": run,
            "state": session.get("state", {}),
            "tools": [],
            "context": [],
            "forwardedProps": self._props,
        }
        if waiting:
            body["resume"] = [_resume(one, turn) for one in waiting]
        yield Running({"run": run})
        heard = _Heard(turn, history, asked)
        told = turn.way.events("POST", self._url, history.asked(body, (), asked), most=MAX_EVENT_BYTES)
        async with aclosing(told) as events:
            async for event in events:
                for step in await heard.steps(turn.way.read(event.data)):
                    yield step
        if not heard.is_finished:
            raise UpstreamInvalid(turn.way.name, "its run was cut short")
        await heard.thread.remember(history)
        if heard.has_changed_state:
            yield Piece({"data": heard.state.value}, STATE)
        yield Remember({**history.session, "state": heard.state.value, "interrupts": heard.interrupts})
        await history.tidy()
        if heard.interrupts:
            yield _asks(heard.interrupts)

    async def about(self, _way: Way) -> About:
        """The protocol says nothing of an agent before it runs."""
        return About(input_modes=("text/plain", "image/*", "audio/*", "video/*", "application/*"))


class _Heard:
    """What the events of one run said."""

    def __init__(self, turn: Turn, history: History, asked: Sequence[JsonObject]) -> None:
        self._way = turn.way
        self._shelf = turn.shelf
        self._history = history
        self.state = Patched(turn.session.get("state", {}), most=MAX_BYTES)
        self.has_changed_state = False
        """It was changed since it was told last."""
        self.thread = _Thread(turn.shelf, asked)
        self.interrupts: list[JsonObject] = []
        self.is_finished = False

    async def steps(self, event: Any) -> list[Step]:
        """What one event says; those of kinds that are not known say nothing."""
        if not isinstance(event, dict):
            raise UpstreamInvalid(self._way.name, "an event of its stream is no object")
        match event.get("type"):
            case "TEXT_MESSAGE_CONTENT" | "TEXT_MESSAGE_CHUNK" if isinstance(event.get("delta"), str):
                await self.thread.say(event.get("messageId"), event["delta"])
                return [Text(event["delta"])]
            case "TOOL_CALL_START" | "TOOL_CALL_ARGS" | "TOOL_CALL_CHUNK":
                is_new = await self.thread.call(event)
                return [Working(metadata={TOOL: {"name": event.get("toolCallName")}})] if is_new else []
            case "STATE_SNAPSHOT":
                self._patch([{"op": "add", "path": "", "value": event.get("snapshot")}])
                self.has_changed_state = False
                return [Piece({"data": event.get("snapshot")}, STATE)]  # not what deltas change, before it is written
            case "STATE_DELTA":
                self._patch(event.get("delta"))
                self.has_changed_state = True
                return []
            case "CUSTOM":
                return [Working(metadata={CUSTOM: {"name": event.get("name"), "value": event.get("value")}})]
            case "STEP_STARTED":
                return [Working(metadata={STEP: event.get("stepName")})]
            case "RUN_ERROR":
                raise UpstreamInvalid(self._way.name, str(event.get("message") or "its run failed"))
        await self._note(event)
        return []

    def _patch(self, operations: Any) -> None:
        try:
            self.state.apply(operations)
        except PatchInvalid as problem:
            reason = (
                f"its state cannot be changed as it says, or is larger than the 1 MiB that can be remembered: {problem}"
            )
            raise UpstreamInvalid(self._way.name, reason) from None

    async def _note(self, event: JsonObject) -> None:
        """What is to be known later, and is not told."""
        match event.get("type"):
            case "TOOL_CALL_RESULT":
                await self.thread.give(event)
            case "MESSAGES_SNAPSHOT" if isinstance(event.get("messages"), list):
                await self._history.replace([one for one in event["messages"] if isinstance(one, dict)])
                self.thread = _Thread(self._shelf, ())
            case "RUN_FINISHED":
                self._finish(event.get("outcome"))

    def _finish(self, outcome: Any) -> None:
        self.is_finished = True
        kind = outcome.get("type") if isinstance(outcome, dict) else None
        if kind == "cancelled":
            raise UpstreamInvalid(self._way.name, "its run was cancelled")
        if kind == "interrupt":
            self.interrupts = [one for one in outcome.get("interrupts") or () if isinstance(one, dict)]


class _Thread:
    """The messages that a run adds to its thread, each noted as it grows: its head, its text, its calls of tools."""

    def __init__(self, shelf: Shelf, asked: Sequence[JsonObject]) -> None:
        self._notes = Notes(shelf)
        self._asked = asked
        self._calls: dict[str, list[str]] = {}
        """By the name of each message, in order."""
        self._last = self._last_call = ""
        """What grows where an event of type CHUNK does not say it."""

    async def say(self, name: Any, text: str) -> None:
        """Let a message of the assistant grow."""
        message = await self._message(str(name or self._last))
        if ("text", message) not in self._notes:
            await self._notes.write(("text", message), b',"content":"')
        await self._notes.say(("text", message), text)

    async def call(self, event: JsonObject) -> bool:
        """Let a call of a tool grow; whether it is a new one."""
        name, delta = str(event.get("toolCallId") or self._last_call), event.get("delta")
        is_new = event.get("toolCallName") is not None and ("call", name) not in self._notes
        if is_new:
            call = {"id": name, "type": "function", "function": {"name": event["toolCallName"], "arguments": ""}}
            self._last_call = name
            self._calls[await self._message(str(event.get("parentMessageId") or f"of-{name}"))].append(name)
            await self._notes.write(("call", name), encode(call).removesuffix(b'"}}'))
        if isinstance(delta, str) and ("call", name) in self._notes:
            await self._notes.say(("call", name), delta)
        return is_new

    async def give(self, event: JsonObject) -> None:
        """Note what a tool gave."""
        members = {name: event.get(name) for name in ("toolCallId", "content")}
        message = {"id": event.get("messageId"), "role": "tool", **members}
        self._calls[name := f"result {len(self._calls)}"] = []
        await self._notes.write(("message", name), encode(message).removesuffix(b"}"))

    async def remember(self, history: History) -> None:
        """Let the context's history have them, and what was asked before them."""
        for message in self._asked:
            await self._notes.write("asked", encode(message))
        asked = [self._notes.parts("asked")] if self._asked else []
        messages = [self._parts(name, calls) for name, calls in self._calls.items()]
        await history.add(self._notes, [*asked, *messages], goes_on=not asked)

    def _parts(self, name: str, calls: Sequence[str]) -> list[Part]:
        notes = self._notes
        text: list[Part] = [*notes.parts(("text", name)), '"'] if ("text", name) in notes else []
        told = joined([[*notes.parts(("call", call)), '"}}'] for call in calls])
        return [*notes.parts(("message", name)), *text, *([',"toolCalls":[', *told, "]"] if told else ()), "}"]

    async def _message(self, name: str) -> str:
        if name not in self._calls:
            self._calls[name] = []
            await self._notes.write(("message", name), encode({"id": name, "role": "assistant"}).removesuffix(b"}"))
        self._last = name
        return name


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
