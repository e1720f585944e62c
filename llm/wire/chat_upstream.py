"""Chat completions towards a provider: bodies of rounds, answers read. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from llm.dialects import AnswerInvalid, Round, StreamFault
from llm.pieces import CallArguments, CallBegun, Opaque, Piece, Refusal, Text, Thought
from llm.types import CallIds, Format, Offer, Reply, ToolCall, ToolOutcome, Turn
from registry import judged
from registry.judged import JsonObject


class ChatDialect:
    """OpenAI's chat completions (llm.dialects.Dialect)."""

    format: Format = "chat"

    def body(self, asked: Round) -> bytes:
        """The caller's members and messages, the rounds before, its own tools and the hub's."""
        members: dict[str, object] = dict(asked.prompt.members)
        choice = members.pop("tool_choice", None)
        if choice is not None and not asked.is_first:
            choice = _relaxed(choice)
        members |= {"model": asked.model.model, "messages": [*asked.prompt.messages, *messages_of(asked.turns)]}
        if tools := [*asked.prompt.own_tools, *(_function(offer) for offer in asked.offers)]:
            members["tools"] = tools
        if choice is not None:
            members["tool_choice"] = choice
        if asked.stream:
            members["stream"] = True
            if asked.asks_usage:
                members["stream_options"] = {"include_usage": True}
        return judged.encode(members)

    def fold(self, ids: CallIds) -> ChatFold:
        """Begin to read a stream of chunks."""
        return ChatFold(ids)

    def read(self, data: bytes, ids: CallIds) -> Reply:
        """Read a whole completion."""
        found = judged.decode(data)
        choices = found.get("choices") if isinstance(found, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise AnswerInvalid("its answer has no message")
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
            raise AnswerInvalid("its tool calls are no list of objects")
        usage = found.get("usage")
        kept = {name: value for name, value in message.items() if value is not None or name == "content"}
        if calls:
            kept["tool_calls"] = [{**call, "id": ids.unique(call.get("id"))} for call in calls]
        return _reply(
            kept,
            choice.get("finish_reason"),
            usage=usage if isinstance(usage, dict) else {},
            head=_head(found),
            told=_told_beside(found),
        )

    def shown(self, reply: Reply) -> Sequence[Piece]:
        """What a voice says of a whole answer: its pieces."""
        return reply.pieces


def _relaxed(raw: object) -> object:
    value = judged.decode(raw) if isinstance(raw, msgspec.Raw) else raw
    if isinstance(value, dict) and isinstance(value.get("allowed_tools"), dict):
        return {**value, "allowed_tools": {**value["allowed_tools"], "mode": "auto"}}
    return value if value in ("auto", "none") else None


def _function(offer: Offer) -> JsonObject:
    tool = offer.tool
    return {
        "type": "function",
        "function": {"name": tool.exposed, "description": tool.description, "parameters": tool.input_schema},
    }


def messages_of(turns: Sequence[Turn]) -> Iterator[JsonObject]:
    """Rounds as messages."""
    for turn in turns:
        yield turn.reply.message if turn.reply.format == "chat" else message_of(turn.reply.pieces)
        yield from (_told(outcome) for outcome in turn.outcomes)
        if media := [part for outcome in turn.outcomes for part in _media(outcome)]:
            yield {"role": "user", "content": media}


def _told(outcome: ToolOutcome) -> JsonObject:
    return {"role": "tool", "tool_call_id": outcome.call.id, "content": outcome.text}


def _media(outcome: ToolOutcome) -> Iterator[JsonObject]:
    """What a tool gave that is no text: a tool's message can hold none, so it follows as a user's."""
    if outcome.content:
        yield {"type": "text", "text": f"Given by the tool {outcome.call.name} (call {outcome.call.id}):"}
    for block in outcome.content:
        if block["type"] == "image":
            yield {"type": "image_url", "image_url": {"url": f"data:{block['mimeType']};base64,{block['data']}"}}
        elif block["type"] == "audio":
            audio = {"data": block["data"], "format": block["mimeType"].rpartition("/")[2].removeprefix("x-")}
            yield {"type": "input_audio", "input_audio": audio}


def message_of(pieces: Sequence[Piece]) -> JsonObject:
    """An assistant's message that says the same as `pieces`, as far as chat can say it."""
    text = "".join(piece.text for piece in pieces if isinstance(piece, Text))
    thought = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
    refusal = "".join(piece.text for piece in pieces if isinstance(piece, Refusal))
    message: JsonObject = {"role": "assistant", "content": text or None}
    message |= {"reasoning_content": thought} if thought else {}
    message |= {"refusal": refusal} if refusal else {}
    calls: dict[int, JsonObject] = {}
    for piece in pieces:
        if isinstance(piece, CallBegun):
            body = "input" if piece.kind == "custom" else "arguments"
            calls[piece.index] = {"id": piece.id, "type": piece.kind, piece.kind: {"name": piece.name, body: ""}}
        elif isinstance(piece, CallArguments):
            of_kind = calls[piece.index][calls[piece.index]["type"]]
            of_kind["input" if "input" in of_kind else "arguments"] += piece.text
    return {**message, "tool_calls": list(calls.values())} if calls else message


_SAID: dict[str, type[Text | Thought | Refusal]] = {
    "content": Text,
    "reasoning_content": Thought,
    "reasoning": Thought,
    "refusal": Refusal,
}
"""Members of a delta, or of a message, whose text every format can say."""


def _pieces(said: Mapping[str, Any]) -> Iterator[Piece]:
    """What a delta or a message says beside its calls."""
    thought = False
    opaque: JsonObject = {}
    for name, value in said.items():
        kind = _SAID.get(name)
        if kind is None or not isinstance(value, str):
            opaque[name] = value
        elif kind is not Thought or not thought:  # some providers say it under both names
            thought = thought or kind is Thought
            yield kind(value)
    if opaque:
        yield Opaque("chat", opaque)


def _visible(members: Mapping[str, Any]) -> JsonObject:
    """All but the role and the calls, which some providers say in the words of `functions` once more."""
    hidden = ("role", "tool_calls", "function_call") if members.get("tool_calls") else ("role", "tool_calls")
    return {name: value for name, value in members.items() if name not in hidden and value not in (None, "")}


def _head(answer: JsonObject) -> JsonObject:
    fingerprint = answer.get("system_fingerprint")
    return {"system_fingerprint": fingerprint} if isinstance(fingerprint, str) else {}


def _told_beside(answer: JsonObject) -> JsonObject:
    hub = answer.get("hub")
    return hub if isinstance(hub, dict) else {}


def _reply(
    message: JsonObject, finish_reason: object, *, usage: JsonObject, head: JsonObject, told: JsonObject
) -> Reply:
    pieces: list[Piece] = [Opaque("chat", head)] if head else []
    pieces += _pieces(_visible(message))
    calls = [_tool_call(call) for call in message.get("tool_calls") or ()]
    for index, call in enumerate(calls):
        pieces.append(CallBegun(index, call.id, call.name, call.kind, _extra(message["tool_calls"][index])))
        pieces.append(CallArguments(index, call.arguments))
    reason = finish_reason if isinstance(finish_reason, str) else "stop"
    return Reply("chat", message, pieces, calls, reason, usage, told=told)


def _kind(call: JsonObject) -> str:
    kind = call.get("type")
    return kind if kind and isinstance(kind, str) else "function"


def _of_kind(call: JsonObject) -> JsonObject:
    of_kind = call.get(_kind(call))
    return of_kind if isinstance(of_kind, dict) else {}


def _name(call: JsonObject) -> str:
    name = _of_kind(call).get("name")
    return name if isinstance(name, str) else ""


def _body(call: JsonObject) -> str:
    of_kind = _of_kind(call)
    body = of_kind.get("arguments") or of_kind.get("input")
    return body if isinstance(body, str) else ""


def _extra(call: JsonObject) -> JsonObject:
    """What only chat knows of a call; some providers demand it back."""
    return {name: value for name, value in call.items() if name not in ("id", "type", "index", _kind(call))}


def _tool_call(call: JsonObject) -> ToolCall:
    return ToolCall(id=str(call.get("id") or ""), name=_name(call), arguments=_body(call), kind=_kind(call))


@dataclass(slots=True)
class _Call:
    """A tool call under way."""

    index: int
    whole: JsonObject = field(default_factory=dict)
    is_begun: bool = False


class ChatFold:
    """One round's chunks as they come (llm.dialects.Fold)."""

    def __init__(self, ids: CallIds) -> None:
        self._ids = ids
        self._message: JsonObject = {}
        self._calls: dict[int, _Call] = {}
        self._head: JsonObject = {}
        self._finish_reason: str | None = None
        self._is_done = False
        self._told: JsonObject = {}
        self.usage: JsonObject = {}

    @property
    def ended(self) -> bool:
        """Whether it was said that the answer is complete."""
        return self._is_done or bool(self.usage)

    def feed(self, data: bytes) -> Sequence[Piece]:
        """Take one chunk. A call is said when its name is whole: when its first argument comes."""
        if self._is_done or data == b"[DONE]":
            self._is_done = True
            return ()
        chunk = msgspec.json.decode(data, type=JsonObject)
        if chunk.get("error"):
            raise StreamFault(chunk["error"])
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        self._told |= _told_beside(chunk)
        return list(self._said(chunk))

    def _said(self, chunk: JsonObject) -> Iterator[Piece]:
        if not self._head and (head := _head(chunk)):
            self._head = head
            yield Opaque("chat", head)
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return
        self._finish_reason = choices[0].get("finish_reason") or self._finish_reason
        delta = choices[0].get("delta")
        if not isinstance(delta, dict):
            return
        visible = _visible(delta)
        _merge(self._message, visible)
        yield from _pieces(visible)
        for call in delta.get("tool_calls") or ():
            if isinstance(call, dict):
                yield from self._feed_call(call)

    def _feed_call(self, piece: JsonObject) -> Iterator[Piece]:
        at = piece.get("index")
        if not isinstance(at, int):  # some providers leave it out and send whole calls
            at = len(self._calls)
        call = self._calls.setdefault(at, _Call(len(self._calls)))
        kind = _kind(call.whole)
        if call.is_begun and isinstance(piece.get(kind), dict):  # its name is whole: some providers repeat it
            piece = {**piece, kind: {**piece[kind], "name": None}}
        _merge(call.whole, {name: value for name, value in piece.items() if name != "index"}, once=_ONCE)
        if call.is_begun:
            if more := _body({**piece, "type": call.whole.get("type")}):
                yield CallArguments(call.index, more)
        elif body := _body(call.whole):
            yield self._begin(call)
            yield CallArguments(call.index, body)

    def _begin(self, call: _Call) -> CallBegun:
        call.is_begun = True
        call.whole["id"] = self._ids.unique(call.whole.get("id"))
        return CallBegun(call.index, call.whole["id"], _name(call.whole), _kind(call.whole), _extra(call.whole))

    def rest(self) -> Sequence[Piece]:
        """The calls that came without arguments."""
        return [self._begin(call) for call in self._calls.values() if not call.is_begun]

    def reply(self) -> Reply:
        """The whole answer."""
        message = {"role": "assistant", "content": None, **self._message}
        if self._calls:
            message["tool_calls"] = [call.whole for call in self._calls.values()]
        return _reply(message, self._finish_reason, usage=self.usage, head=self._head, told=self._told)


_ONCE = frozenset({"id", "type"})
"""Members of a tool call that are said once; some providers repeat them in every piece."""


def _merge(into: JsonObject, piece: JsonObject, *, once: frozenset[str] = frozenset()) -> None:
    """Join texts, extend lists, merge objects; the last of anything else holds."""
    for name, value in piece.items():
        before: Any = into.get(name)
        if name in once:
            into[name] = before or value
        elif isinstance(before, str | list) and type(before) is type(value):
            into[name] = [*before, *value] if isinstance(before, list) else f"{before}{value}"
        elif isinstance(value, dict):
            into[name] = before if isinstance(before, dict) else {}
            _merge(into[name], value)
        elif value is not None:
            into[name] = value
