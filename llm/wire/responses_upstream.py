"""OpenAI's Responses API towards a provider: bodies of rounds, answers read. Pure.

The provider is asked to store nothing, so each round tells it all that came before, its own thoughts too where it gave
them encrypted. What it says beside calls of functions goes to a caller of the same format as the events that it sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from llm.dialects import AnswerInvalid, Round, StreamFault
from llm.pieces import CallArguments, CallBegun, Opaque, Piece, Refusal, Text, Thought
from llm.translate.whole import blocks
from llm.types import CallIds, Format, Offer, Reply, ToolCall, ToolOutcome, Turn
from llm.wire.response_events import count
from registry import judged
from registry.judged import JsonObject

ENCRYPTED = "reasoning.encrypted_content"
"""What `include` has to hold for thoughts to come encrypted. Models that do not think refuse it."""

FOR_CALLERS = frozenset({"computer_call", "local_shell_call", "shell_call", "apply_patch_call", "tool_search_call"})
"""Items with which a model asks for something that is neither a function nor always the provider's to do."""

_WITHOUT_ID = frozenset({"function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"})
"""Items whose ids are the hub's, or name what the provider did not store; as those of messages that are not the model's."""

_CALLS = {"function_call": ("function", "arguments"), "custom_tool_call": ("custom", "input")}


class ResponsesDialect:
    """OpenAI's Responses (llm.dialects.Dialect)."""

    format: Format = "responses"

    def body(self, asked: Round) -> bytes:
        """The caller's members and items, the rounds before, its own tools and the hub's."""
        members: JsonObject = {**asked.prompt.members, "model": asked.model.model, "store": False}
        choice = members.pop("tool_choice", None)
        members["input"] = [*sendable(asked.prompt.messages), *_items(asked.turns)]
        included = members.get("include") or []
        if members.get("reasoning") and isinstance(included, list) and ENCRYPTED not in included:
            members["include"] = [*included, ENCRYPTED]
        if tools := [*asked.prompt.own_tools, *map(_function, asked.offers)]:
            members["tools"] = tools
        if choice is not None and (choice := choice if asked.is_first else _relaxed(choice)) is not None:
            members["tool_choice"] = choice
        if asked.stream:
            members["stream"] = True
        return judged.encode(members)

    def fold(self, ids: CallIds) -> ResponsesFold:
        """Begin to read a stream of events."""
        return ResponsesFold(ids)

    def read(self, data: bytes, ids: CallIds) -> Reply:
        """Read a whole response; raises `StreamFault` too, for one that failed."""
        found = judged.decode(data)
        output = found.get("output") if isinstance(found, dict) else None
        if not isinstance(output, list) or not all(map(_is_item, output)):
            raise AnswerInvalid("its answer has no output")
        if found.get("status") == "failed":
            raise StreamFault(found.get("error"))
        for item in output:
            if item.get("type") in _CALLS:
                item["call_id"] = ids.unique(item.get("call_id"))
        return _reply(output, found)

    def shown(self, reply: Reply) -> Sequence[Piece]:
        """What a voice says of a whole answer: calls, and the events of everything else."""
        return list(_shown(reply.message["output"]))


def sendable(items: Sequence[Any]) -> Iterator[JsonObject]:
    """Items as a provider takes them that stored nothing: it reads no thought that it did not encrypt."""
    for item in items:
        kind = item.get("type")
        if kind == "reasoning" and not item.get("encrypted_content"):
            continue
        if kind in _WITHOUT_ID or (kind == "message" and item.get("role") != "assistant"):
            yield {name: value for name, value in item.items() if name != "id"}
        else:
            yield item


def _is_item(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _items(turns: Sequence[Turn]) -> Iterator[JsonObject]:
    for turn in turns:
        if turn.reply.format == "responses":
            yield from sendable(turn.reply.message["output"])
        else:
            yield from _items_of(turn.reply.pieces)
        for outcome in turn.outcomes:
            yield {"type": "function_call_output", "call_id": outcome.call.id, "output": _output(outcome)}


def _items_of(pieces: Sequence[Piece]) -> Iterator[JsonObject]:
    """Items that say the same as `pieces` of a model of another format; thoughts are only their model's own."""
    text = "".join(piece.text for piece in pieces if isinstance(piece, Text | Refusal))
    if text:
        yield {"role": "assistant", "content": text}
    for call in pieces:
        if isinstance(call, CallBegun):
            said = "".join(p.text for p in pieces if isinstance(p, CallArguments) and p.index == call.index)
            kind, body = ("custom_tool_call", "input") if call.kind == "custom" else ("function_call", "arguments")
            yield {"type": kind, "call_id": call.id, "name": call.name, body: said}


def _output(outcome: ToolOutcome) -> str | list[JsonObject]:
    """A result's text, and its images."""
    images = [
        {"type": "input_image", "image_url": f"data:{block['mimeType']};base64,{block['data']}", "detail": "auto"}
        for block in outcome.content
        if block["type"] == "image"
    ]
    return [{"type": "input_text", "text": outcome.text}, *images] if images else outcome.text


def _function(offer: Offer) -> JsonObject:
    tool = offer.tool
    said = {"name": tool.exposed, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", **said, "strict": False}


def _relaxed(choice: Any) -> object:
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        return {**choice, "mode": "auto"}
    return choice if choice in ("auto", "none") else None


def _reply(output: Sequence[JsonObject], response: Mapping[str, Any]) -> Reply:
    answered = {item.get("call_id") for item in output if str(item.get("type")).endswith("_output")}
    calls = [call for item in output if (call := _call(item, answered)) is not None]
    usage = chat_usage(response)
    return Reply("responses", {"output": output}, list(_plain(output)), calls, _finish(response, calls), usage)


def _call(item: JsonObject, answered: set[object]) -> ToolCall | None:
    """The call that an item is: of a function, or of something that its caller does."""
    kind = str(item.get("type"))
    if kind in _CALLS:
        name, body = _CALLS[kind]
        return ToolCall(item["call_id"], str(item.get("name")), str(item.get(body) or ""), name)
    if kind not in FOR_CALLERS or item.get("call_id") in answered or item.get("execution") == "server":
        return None
    return ToolCall(str(item.get("call_id")), kind, "")


def _finish(response: Mapping[str, Any], calls: Sequence[ToolCall]) -> str:
    """Why it ended, in chat's words."""
    if response.get("status") == "incomplete":
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return "content_filter" if reason == "content_filter" else "length"
    return "tool_calls" if calls else "stop"


def _calls(output: Sequence[JsonObject]) -> Iterator[tuple[JsonObject, tuple[Piece, ...]]]:
    """The items, each with what says that it is a call; nothing for other items."""
    index = 0
    for item in output:
        if item.get("type") in _CALLS:
            kind, body = _CALLS[item["type"]]
            begun = CallBegun(index, item["call_id"], str(item.get("name")), kind, _extra(item))
            yield item, (begun, CallArguments(index, str(item.get(body) or "")))
            index += 1
        else:
            yield item, ()


def _extra(item: JsonObject) -> JsonObject:
    return {"namespace": item["namespace"]} if isinstance(item.get("namespace"), str) else {}


def _shown(output: Sequence[JsonObject]) -> Iterator[Piece]:
    for at, (item, call) in enumerate(_calls(output)):
        if call:
            yield from call
        else:
            for step in ("added", "done"):
                yield Opaque("responses", {"type": f"response.output_item.{step}", "output_index": at, "item": item})


_PARTS: dict[str, tuple[type[Text | Thought | Refusal], str]] = {
    "output_text": (Text, "text"),
    "refusal": (Refusal, "refusal"),
    "summary_text": (Thought, "text"),
}


def _plain(output: Sequence[JsonObject]) -> Iterator[Piece]:
    """What a response says that every format can say."""
    for item, call in _calls(output):
        yield from call
        for part in (*blocks(item.get("summary")), *blocks(item.get("content"))):
            kind, body = _PARTS.get(str(part.get("type")), (None, ""))
            if kind is not None and isinstance(part.get(body), str):
                yield kind(part[body])


def chat_usage(response: Mapping[str, Any]) -> JsonObject:
    """What a response says it used, as chat's usage; empty when it does not say."""
    said = response.get("usage")
    if not isinstance(said, dict):
        return {}
    given, made = count(said, "input_tokens"), count(said, "output_tokens")
    of_input, of_output = said.get("input_tokens_details"), said.get("output_tokens_details")
    return {
        "prompt_tokens": given,
        "completion_tokens": made,
        "total_tokens": given + made,
        "prompt_tokens_details": {name: count(of_input, name) for name in ("cached_tokens", "cache_write_tokens")},
        "completion_tokens_details": {"reasoning_tokens": count(of_output, "reasoning_tokens")},
    }


class ResponsesFold:
    """One round's events as they come (llm.dialects.Fold)."""

    def __init__(self, ids: CallIds) -> None:
        self._ids = ids
        self._items: dict[int, JsonObject] = {}
        """By the provider's places."""
        self._calls: dict[int, CallBegun] = {}
        """Of the items that are calls of functions."""
        self._arguments: dict[int, str] = {}
        self._response: JsonObject = {}
        self.usage: JsonObject = {}
        self.ended = False

    def feed(self, data: bytes) -> Sequence[Piece]:
        """Take one event; raises `StreamFault` for an error, `ValueError` for what is no object."""
        event = msgspec.json.decode(data, type=JsonObject)
        kind, at = event.get("type"), event.get("output_index")
        if kind == "error":
            raise StreamFault(event)
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            self._end(event)
        elif isinstance(at, int) and isinstance(kind, str):
            return list(self._of_item(kind, at, event))
        return ()

    def _end(self, event: JsonObject) -> None:
        response = event.get("response")
        if not isinstance(response, dict):
            raise ValueError("the end of a response without it")  # noqa: TRY004  # as for what is no JSON
        self._response, self.usage = response, chat_usage(response)
        if event["type"] == "response.failed":
            raise StreamFault(response.get("error"))
        self.ended = True

    def _of_item(self, kind: str, at: int, event: JsonObject) -> Iterator[Piece]:
        item = event.get("item")
        if kind.startswith("response.output_item."):
            if not isinstance(item, dict) or not _is_item(item):
                raise ValueError("an item that is none")
            if item.get("type") in _CALLS:
                yield from self._call(at, item)
                return
            self._items[at] = item
        elif at in self._calls:
            if kind.endswith(".delta") and isinstance(event.get("delta"), str):
                yield from self._argue(at, event["delta"])
            return
        yield Opaque("responses", event)

    def _call(self, at: int, item: JsonObject) -> Iterator[Piece]:
        kind, body = _CALLS[item["type"]]
        if at not in self._calls:
            call_id = self._ids.unique(item.get("call_id"))
            begun = CallBegun(len(self._calls), call_id, str(item.get("name")), kind, _extra(item))
            yield self._calls.setdefault(at, begun)
        whole = str(item.get(body) or "")
        said = self._arguments.get(at, "")
        if whole.startswith(said):  # some send them with the item
            yield from self._argue(at, whole.removeprefix(said))
        self._items[at] = {**item, "call_id": self._calls[at].id, body: self._arguments.get(at, "")}

    def _argue(self, at: int, text: str) -> Iterator[Piece]:
        if text:
            self._arguments[at] = self._arguments.get(at, "") + text
            yield CallArguments(self._calls[at].index, text)

    def rest(self) -> Sequence[Piece]:
        """Nothing: all has been said as it came."""
        return ()

    def reply(self) -> Reply:
        """The whole answer."""
        return _reply([item for _, item in sorted(self._items.items())], self._response)
