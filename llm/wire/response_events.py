"""Writes an answer of OpenAI's Responses API: its items, the events in which they come, and the response as a whole. Pure.

One lifecycle, whatever the rounds behind it were: `response.created` first, one of `completed`, `incomplete`, `failed` last.
Each event is numbered and written at once, since what it shows changes with the next.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from llm.pieces import CallBegun
from llm.wire.response_items import item_id
from llm.wire.response_relay import Relay
from registry.judged import JsonObject, encode

ENDS = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
    "cancelled": "response.incomplete",
}
"""How a response ends, and the event that says so. For one that was cancelled OpenAI has none; nobody usually listens."""

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Chat's words for an end before the end."""


def event(data: JsonObject) -> bytes:
    """One server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (str(data["type"]).encode(), encode(data))


@dataclass(slots=True)
class _Open:
    """An item under way."""

    at: int
    """Its `output_index`."""
    item: JsonObject
    kind: str
    """`text`, `refusal`, `thought`, `function`, `custom` or `mcp`."""
    texts: list[str] = field(default_factory=list)

    def settle(self) -> str:
        """Put what came so far into the item, and return it."""
        said = "".join(self.texts)
        self.texts[:] = [said]
        if self.kind == "thought":
            self.item["summary"] = [{"type": "summary_text", "text": said}]
        elif self.kind in ("text", "refusal"):
            self.item["content"][-1]["text" if self.kind == "text" else "refusal"] = said
        else:
            self.item["input" if self.kind == "custom" else "arguments"] = said
        return said


class Called(NamedTuple):
    """A call of a tool of the hub's, as its item shows it."""

    id: str
    """The model's."""
    label: str
    name: str
    approval: str | None = None
    """The approval that it was made with."""


_DELTAS = {
    "text": "response.output_text",
    "refusal": "response.refusal",
    "thought": "response.reasoning_summary_text",
    "function": "response.function_call_arguments",
    "custom": "response.custom_tool_call_input",
    "mcp": "response.mcp_call_arguments",
}
"""How the events that bring the text of an item begin."""


class Composer:
    """One answer under way. Its methods return the events that a stream shows; of a whole answer, none."""

    def __init__(self, head: JsonObject, *, token: str, is_streamed: bool) -> None:
        """`head` are the response's members but `output`; ids of items begin with `token`."""
        self._response: JsonObject = {**head, "output": []}
        self._output: list[JsonObject] = self._response["output"]
        self._token = token
        self._is_streamed = is_streamed
        self._number = 0
        self._said: _Open | None = None
        """The message or the thought that is being said."""
        self._calls: dict[int, _Open] = {}
        """Of this round, by their place in it."""
        self._relay = Relay(self._output, token)
        self._hubs: dict[str, _Open] = {}
        """The hub's calls that have not ended, by the model's id of them."""

    def response(self) -> JsonObject:
        """The response as it is now."""
        for one in (self._said, *self._calls.values()):
            if one is not None:
                one.settle()
        self._relay.settle()
        return self._response

    def queue(self) -> list[bytes]:
        """It waits to be begun."""
        self._response["status"] = "queued"
        return [self._whole("response.created"), self._whole("response.queued")]

    def begin(self) -> list[bytes]:
        """It begins."""
        events = [] if self._number else [self._status("response.created")]
        return [*events, self._status("response.in_progress")]

    def _status(self, kind: str) -> bytes:
        self._response["status"] = "in_progress"
        return self._whole(kind)

    def listed(self, label: str, tools: Sequence[JsonObject]) -> Iterator[bytes]:
        """The tools of a server were listed."""
        listing = {"type": "mcp_list_tools", "server_label": label, "tools": []}
        one = self._add("list", listing, "mcp_list_tools")
        yield self._added(one)
        yield self._of(one, "response.mcp_list_tools.in_progress")
        one.item["tools"] = list(tools)
        yield self._of(one, "response.mcp_list_tools.completed")
        yield self._done(one)

    def asked(self, label: str, name: str, arguments: str, *, request_id: str) -> Iterator[bytes]:
        """A call of the hub's waits for approval."""
        yield from self._close()
        request = {"id": request_id, "type": "mcp_approval_request", "server_label": label, "name": name}
        one = _Open(len(self._output), {**request, "arguments": arguments}, "approval")
        self._output.append(one.item)
        yield self._added(one)
        yield self._done(one)

    def say(self, kind: Literal["text", "refusal", "thought"], text: str) -> Iterator[bytes]:
        """Some of the answer, or of the thoughts before it."""
        if self._said is None or self._said.kind != kind:
            yield from self._open_said(kind)
        assert self._said is not None, "it was just opened"
        yield self._delta(self._said, text)

    def relay(self, told: JsonObject) -> Iterator[bytes]:
        """An event of an item that the provider makes in this format itself."""
        yield from self._close()
        moved = self._relay.moved(told)
        if moved is not None:
            yield self._event(told["type"], **moved)

    def _open_said(self, kind: str) -> Iterator[bytes]:
        if kind != "thought" and self._said is not None and self._said.kind != "thought":
            one = _Open(self._said.at, self._said.item, kind)  # a refusal after text: another part of the message
            yield from self._part_done(self._said)
        else:
            yield from self._close()
            if kind == "thought":
                one = self._add(kind, {"type": "reasoning", "summary": []}, "reasoning")
            else:
                message = {"type": "message", "status": "in_progress", "role": "assistant", "content": []}
                one = self._add(kind, message, "message")
            yield self._added(one)
        self._said = one
        if kind != "thought":
            one.item["content"].append(_part(kind, ""))
        yield self._of(one, f"{_part_event(kind)}.added", **_part_at(one), part=_part(kind, ""))

    def call(self, call: CallBegun) -> Iterator[bytes]:
        """The model calls a tool of the caller's."""
        yield from self._close()
        item: JsonObject = {"call_id": call.id, "name": call.name}
        item |= {"namespace": call.extra["namespace"]} if "namespace" in call.extra else {}
        if call.kind == "custom":
            item = {"type": "custom_tool_call", **item, "input": ""}
        else:
            item = {"type": "function_call", "status": "in_progress", **item, "arguments": ""}
        one = self._calls[call.index] = self._add("custom" if call.kind == "custom" else "function", item, item["type"])
        yield self._added(one)

    def hub_call(self, index: int | None, called: Called) -> Iterator[bytes]:
        """A call of a tool of the hub's; `index` is its place in the round, if its arguments come piece by piece."""
        yield from self._close()
        item: JsonObject = {"type": "mcp_call", "status": "in_progress", "server_label": called.label}
        item |= {"name": called.name, "arguments": "", "approval_request_id": called.approval}
        one = self._hubs[called.id] = self._add("mcp", {**item, "output": None, "error": None}, "mcp_call")
        if index is not None:
            self._calls[index] = one
        yield self._added(one)
        yield self._of(one, "response.mcp_call.in_progress")

    def is_open(self, call_id: str) -> bool:
        """Whether a call of the hub's has begun and not ended."""
        return call_id in self._hubs

    def argue(self, index: int, text: str) -> Iterator[bytes]:
        """Some of a call's arguments."""
        if text:
            yield self._delta(self._calls[index], text)

    def argue_of(self, call_id: str, text: str) -> Iterator[bytes]:
        """The arguments of a call of the hub's, whole."""
        if text:
            yield self._delta(self._hubs[call_id], text)

    def called(self, call_id: str, output: str | None, error: JsonObject | None) -> Iterator[bytes]:
        """A call of the hub's has ended, with an output or an error."""
        yield from self._close()
        one = self._hubs.pop(call_id, None)
        if one is None:
            return
        yield self._argued(one)
        how = "completed" if error is None else "failed"
        one.item |= {"status": how, "output": output, "error": error}
        yield self._of(one, f"response.mcp_call.{how}")
        yield self._done(one)

    def end(self, finish_reason: str, *, usage: JsonObject | None, hub: JsonObject) -> Iterator[bytes]:
        """The answer is complete, or as complete as it will be; `finish_reason` is chat's, `hub` what the hub says beside."""
        reason = _INCOMPLETE.get(finish_reason)
        status = "incomplete" if reason else "completed"
        if self._said is not None and "status" in self._said.item and reason:
            yield from self._close(status="incomplete")
        yield from self._close()
        for one in self._hubs.values():  # begun and not made: they wait
            yield self._argued(one)
            one.item["status"] = "incomplete"
            yield self._done(one)
        for one in self._calls.values():
            if one.kind != "mcp":
                yield self._argued(one)
                if "status" in one.item:
                    one.item["status"] = "completed"
                yield self._done(one)
        self._calls = {}
        details = {"reason": reason} if reason else None
        yield self._ended(status, incomplete_details=details, usage=usage, hub=hub)

    def stop(self, status: Literal["failed", "cancelled"], *, error: JsonObject | None = None) -> bytes:
        """The answer ends where it is."""
        self.response()
        for item in self._output:
            if item.get("status") == "in_progress":
                item["status"] = "incomplete"
        return self._ended(status, error=error)

    def _ended(self, status: str, **members: Any) -> bytes:
        self._response |= {"status": status, "completed_at": None, **members}
        if status == "completed":
            self._response["completed_at"] = int(time.time())
        return self._whole(ENDS[status])

    def _close(self, *, status: str = "completed") -> Iterator[bytes]:
        """What is being said has been said."""
        one, self._said = self._said, None
        if one is None:
            return
        yield from self._part_done(one)
        if "status" in one.item:
            one.item["status"] = status
        yield self._done(one)

    def _part_done(self, one: _Open) -> Iterator[bytes]:
        said, at = one.settle(), _part_at(one)
        more: JsonObject = {"logprobs": []} if one.kind == "text" else {}
        word = "refusal" if one.kind == "refusal" else "text"
        yield self._of(one, f"{_DELTAS[one.kind]}.done", **at, **more, **{word: said})
        yield self._of(one, f"{_part_event(one.kind)}.done", **at, part=_part(one.kind, said))

    def _argued(self, one: _Open) -> bytes:
        return self._of(
            one, f"{_DELTAS[one.kind]}.done", **{"input" if one.kind == "custom" else "arguments": one.settle()}
        )

    def _delta(self, one: _Open, text: str) -> bytes:
        one.texts.append(text)
        more: JsonObject = {"logprobs": []} if one.kind == "text" else {}
        at = _part_at(one) if one.kind in ("text", "refusal", "thought") else {}
        return self._of(one, f"{_DELTAS[one.kind]}.delta", **at, delta=text, **more)

    def _add(self, kind: str, item: JsonObject, item_kind: str) -> _Open:
        at = len(self._output)
        one = _Open(at, {"id": item_id(item_kind, f"{self._token}{at:x}"), **item}, kind)
        self._output.append(one.item)
        return one

    def _added(self, one: _Open) -> bytes:
        return self._event("response.output_item.added", output_index=one.at, item=one.item)

    def _done(self, one: _Open) -> bytes:
        return self._event("response.output_item.done", output_index=one.at, item=one.item)

    def _of(self, one: _Open, kind: str, **members: Any) -> bytes:
        return self._event(kind, item_id=one.item["id"], output_index=one.at, **members)

    def _whole(self, kind: str) -> bytes:
        return self._event(kind, response=self._response)

    def _event(self, kind: str, **members: Any) -> bytes:
        number = self._number
        self._number += 1
        return event({"type": kind, "sequence_number": number, **members}) if self._is_streamed else b""


def _part_event(kind: str) -> str:
    return "response.reasoning_summary_part" if kind == "thought" else "response.content_part"


def _part_at(one: _Open) -> JsonObject:
    return {"summary_index": 0} if one.kind == "thought" else {"content_index": len(one.item["content"]) - 1}


def _part(kind: str, text: str) -> JsonObject:
    if kind == "thought":
        return {"type": "summary_text", "text": text}
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def usage_of(chat: JsonObject) -> JsonObject | None:
    """The usage object, from that of chat completions; None: nothing is known."""
    if not chat:
        return None
    of_input, of_output = chat.get("prompt_tokens_details"), chat.get("completion_tokens_details")
    given, made = count(chat, "prompt_tokens"), count(chat, "completion_tokens")
    return {
        "input_tokens": given,
        "input_tokens_details": {
            "cached_tokens": count(of_input, "cached_tokens"),
            "cache_write_tokens": count(of_input, "cache_write_tokens"),
        },
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": count(of_output, "reasoning_tokens")},
        "total_tokens": count(chat, "total_tokens") or given + made,
    }


def count(owner: object, name: str) -> int:
    """A number of tokens; 0 where none is said."""
    value = owner.get(name) if isinstance(owner, dict) else None
    return value if isinstance(value, int) else 0
