"""Anthropic's Messages format towards a provider: bodies of rounds, answers read. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from llm.dialects import AnswerInvalid, Round, StreamFault
from llm.pieces import CallArguments, CallBegun, Opaque, Piece, Refusal, Text, Thought
from llm.translate.chat_to_messages import MAX_TOKENS, arguments, call_id
from llm.translate.mcp_blocks import sendable
from llm.types import CallIds, Format, Offer, Reply, ToolCall, ToolOutcome, Turn
from registry import judged
from registry.judged import JsonObject

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Reasons to stop in chat's words."""

IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
MAX_IMAGE = 7_000_000
"""Characters of base64: Anthropic refuses a request with an image of more than 5 MB."""


class MessagesDialect:
    """Anthropic's Messages (llm.dialects.Dialect)."""

    format: Format = "messages"

    def body(self, asked: Round) -> bytes:
        """The caller's members and messages, the rounds before, its own tools and the hub's."""
        members: dict[str, object] = {"max_tokens": MAX_TOKENS, **asked.prompt.members}
        choice = members.pop("tool_choice", None)
        members |= {
            "model": asked.model.model,
            "messages": [*sendable(asked.prompt.messages), *_messages(asked.turns)],
        }
        tools = [*asked.prompt.own_tools, *map(_tool, asked.offers)] or [*_called(asked.prompt.messages)]
        if tools:
            members["tools"] = tools
        if choice is not None:
            members["tool_choice"] = choice if asked.is_first else _relaxed(choice)
        if asked.stream:
            members["stream"] = True
        return judged.encode(members)

    def fold(self, ids: CallIds) -> MessagesFold:
        """Begin to read a stream of events."""
        return MessagesFold(ids)

    def read(self, data: bytes, ids: CallIds) -> Reply:
        """Read a whole message."""
        found = judged.decode(data)
        content = found.get("content") if isinstance(found, dict) else None
        if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
            raise AnswerInvalid("its answer has no content blocks")
        pieces: list[Piece] = []
        calls: list[ToolCall] = []
        for block in content:
            if block.get("type") == "tool_use":
                block["id"] = ids.unique(block.get("id"))
                calls.append(_call(block))
                pieces.append(CallBegun(len(calls) - 1, calls[-1].id, calls[-1].name))
                pieces.append(CallArguments(len(calls) - 1, calls[-1].arguments))
            else:
                pieces += _pieces(block)
        end = _end(found)
        message = {"role": "assistant", "content": content}
        usage = found.get("usage")
        usage = chat_usage(usage) if isinstance(usage, dict) else {}
        return Reply("messages", message, [*pieces, Opaque("messages", end)], calls, _finish(end), usage)

    def shown(self, reply: Reply) -> Sequence[Piece]:
        """What a voice says of a whole answer: its pieces."""
        return reply.pieces


def _relaxed(choice: object) -> object:
    """A forced choice as a free one; what it says of parallel calls stays."""
    value = judged.decode(choice) if isinstance(choice, msgspec.Raw) else choice
    if not isinstance(value, dict) or value.get("type") not in ("any", "tool"):
        return value
    kept = {name: said for name, said in value.items() if name == "disable_parallel_tool_use"}
    return {"type": "auto", **kept}


def _called(messages: Sequence[object]) -> list[JsonObject]:
    """Tools for the calls of a conversation that goes on without any: Anthropic refuses calls of what is not defined."""
    blocks = (
        block
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for block in message["content"]
    )
    used = {block["name"] for block in blocks if isinstance(block, dict) and block.get("type") == "tool_use"}
    return [{"name": name, "input_schema": {"type": "object"}} for name in sorted(used)]


def _tool(offer: Offer) -> JsonObject:
    tool = offer.tool
    return {"name": tool.exposed, "description": tool.description, "input_schema": _schema(tool.input_schema)}


_NOT_AT_THE_TOP = frozenset({"oneOf", "anyOf", "allOf"})


def _schema(schema: JsonObject) -> JsonObject:
    """A tool's schema as Anthropic takes it: an object. What it refuses at the top is left to the tool to check."""
    kept = {name: value for name, value in schema.items() if name not in _NOT_AT_THE_TOP}
    return {**kept, "type": "object"}


def _messages(turns: Sequence[Turn]) -> Iterator[JsonObject]:
    for turn in turns:
        said = turn.reply.message["content"] if turn.reply.format == "messages" else content_of(turn.reply.pieces)
        if content := [block for block in said if not _is_blank(block)]:
            yield {"role": "assistant", "content": content}
        if turn.outcomes:
            yield {"role": "user", "content": [_told(outcome) for outcome in turn.outcomes]}


def _is_blank(block: JsonObject) -> bool:
    """Whether a block is a text that models write, but that is refused when it comes back."""
    return block.get("type") == "text" and not str(block.get("text") or "").strip()


def _told(outcome: ToolOutcome) -> JsonObject:
    result = {"type": "tool_result", "tool_use_id": call_id(outcome.call.id), "content": _content(outcome)}
    return {**result, "is_error": True} if outcome.failed else result


def _content(outcome: ToolOutcome) -> str | list[JsonObject]:
    """A result's text, and its images where this format takes them."""
    images = [_image(block) for block in outcome.content if _is_shown(block)]
    return [{"type": "text", "text": outcome.text}, *images] if images else outcome.text


def _is_shown(block: JsonObject) -> bool:
    return block["type"] == "image" and block["mimeType"] in IMAGES and len(block["data"]) <= MAX_IMAGE


def _image(block: JsonObject) -> JsonObject:
    return {"type": "image", "source": {"type": "base64", "media_type": block["mimeType"], "data": block["data"]}}


def content_of(pieces: Sequence[Piece]) -> list[JsonObject]:
    """Content blocks that say the same as `pieces` of a model of another format; thoughts are only their model's own."""
    text = "".join(piece.text for piece in pieces if isinstance(piece, Text | Refusal))
    content: list[JsonObject] = [{"type": "text", "text": text}] if text.strip() else []
    begun = [piece for piece in pieces if isinstance(piece, CallBegun)]
    for call in begun:
        said = "".join(p.text for p in pieces if isinstance(p, CallArguments) and p.index == call.index)
        content.append({"type": "tool_use", "id": call_id(call.id), "name": call.name, "input": arguments(said)})
    return content


def _pieces(block: JsonObject) -> Iterator[Piece]:
    """What a block says that is no call. Beside its text it is opaque: events of the stream without their `index`."""
    kind = block.get("type")
    if kind == "text":
        yield Text(str(block.get("text") or ""))
        for citation in block.get("citations") or ():
            yield _delta({"type": "citations_delta", "citation": citation})
    elif kind == "thinking":
        yield Thought(str(block.get("thinking") or ""))
        yield _delta({"type": "signature_delta", "signature": block.get("signature")})
    else:
        yield Opaque("messages", {"type": "content_block_start", "content_block": block})
    yield _STOP


def _delta(delta: JsonObject) -> Opaque:
    return Opaque("messages", {"type": "content_block_delta", "delta": delta})


_STOP = Opaque("messages", {"type": "content_block_stop"})


def _call(block: JsonObject) -> ToolCall:
    return ToolCall(str(block["id"]), str(block.get("name")), judged.encode(block.get("input") or {}).decode())


_END = ("stop_reason", "stop_sequence", "stop_details", "container")


def _end(said: Mapping[str, Any]) -> JsonObject:
    """How an answer ended, as an event."""
    delta = {name: said[name] for name in _END if said.get(name) is not None}
    return {"type": "message_delta", "delta": delta}


def _finish(end: JsonObject) -> str:
    reason = end["delta"].get("stop_reason")
    return FINISH.get(reason, "stop") if isinstance(reason, str) else "stop"


def chat_usage(usage: Mapping[str, Any]) -> JsonObject:
    """Anthropic's usage as chat's, which counts what was read from or written to a cache as input."""

    def count(owner: object, name: str) -> int:
        value = owner.get(name) if isinstance(owner, Mapping) else None
        return value if isinstance(value, int) else 0

    cached, written = count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens")
    given, made = count(usage, "input_tokens") + cached + written, count(usage, "output_tokens")
    said: JsonObject = {
        "prompt_tokens": given,
        "completion_tokens": made,
        "total_tokens": given + made,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
    }
    if thought := count(usage.get("output_tokens_details"), "thinking_tokens"):
        said["completion_tokens_details"] = {"reasoning_tokens": thought}
    return said


class MessagesFold:
    """One round's events as they come (llm.dialects.Fold)."""

    def __init__(self, ids: CallIds) -> None:
        self._ids = ids
        self._blocks: dict[int, JsonObject] = {}
        self._inputs: dict[int, str] = {}
        """JSON text of blocks' `input` so far."""
        self._calls: dict[int, int] = {}
        """Of the blocks that are calls: their place among the calls."""
        self._pieces: list[Piece] = []
        self._said: dict[str, Any] = {}
        """Usage as the provider counts it: totals, of which the last one holds."""
        self._end: JsonObject = {"type": "message_delta", "delta": {}}
        self.usage: JsonObject = {}
        self.ended = False

    def feed(self, data: bytes) -> Sequence[Piece]:
        """Take one event; raises `StreamFault` for an error, `ValueError` for what is no object."""
        event = msgspec.json.decode(data, type=JsonObject)
        pieces = list(self._read(event))
        self._pieces += pieces
        return pieces

    def _read(self, event: JsonObject) -> Iterator[Piece]:
        index = event.get("index")
        match event.get("type"), index:
            case "error", _:
                raise StreamFault(event.get("error"))
            case "message_start", _:
                message = event.get("message")
                self._count(message.get("usage") if isinstance(message, dict) else None)
                counts = {name: count for name, count in self._said.items() if isinstance(count, int)}
                yield Opaque("messages", {"type": "message_start", "usage": counts})
            case "content_block_start", int():
                yield from self._start(index, event.get("content_block"))
            case "content_block_delta", int():
                yield from self._more(index, event.get("delta"))
            case "content_block_stop", int():
                yield from self._stop(index)
            case "message_delta", _:
                self._count(event.get("usage"))
                delta = event.get("delta")
                self._end = _end(delta if isinstance(delta, dict) else {})
                yield Opaque("messages", self._end)
            case "message_stop", _:
                self.ended = True

    def _count(self, usage: object) -> None:
        if isinstance(usage, dict):
            self._said |= {name: value for name, value in usage.items() if value is not None}
            self.usage = chat_usage(self._said)

    def _start(self, index: int, block: object) -> Iterator[Piece]:
        if not isinstance(block, dict) or index in self._blocks:
            raise ValueError("a content block that is none")
        self._blocks[index] = block
        if block.get("type") == "tool_use":
            block["id"] = self._ids.unique(block.get("id"))
            self._calls[index] = len(self._calls)
            yield CallBegun(self._calls[index], block["id"], str(block.get("name")))
        elif block.get("type") == "text" and not block.get("citations"):
            yield from _some(Text, block.get("text"))
        elif block.get("type") == "thinking":
            yield from _some(Thought, block.get("thinking"))
        else:
            yield Opaque("messages", {"type": "content_block_start", "content_block": dict(block)})

    def _more(self, index: int, delta: object) -> Iterator[Piece]:
        block = self._blocks.get(index)
        if block is None or not isinstance(delta, dict):
            raise ValueError("a delta of no content block")
        match delta:
            case {"type": "text_delta", "text": str(text)}:
                block["text"] = str(block.get("text") or "") + text
                yield from _some(Text, text)
            case {"type": "thinking_delta", "thinking": str(text)}:
                block["thinking"] = str(block.get("thinking") or "") + text
                yield from _some(Thought, text)
            case {"type": "input_json_delta", "partial_json": str(text)}:
                self._inputs[index] = self._inputs.get(index, "") + text
                if index not in self._calls:
                    yield _delta(delta)
                elif text:
                    yield CallArguments(self._calls[index], text)
            case {"type": "citations_delta", "citation": citation}:
                block["citations"] = [*(block.get("citations") or ()), citation]
                yield _delta(delta)
            case _:
                block |= {name: value for name, value in delta.items() if name != "type"}
                yield _delta(delta)

    def _stop(self, index: int) -> Iterator[Piece]:
        block = self._blocks.get(index, {})
        said = self._inputs.get(index)
        if said:
            block["input"] = arguments(said)
        if index not in self._calls:
            yield _STOP
        elif not said and block.get("input"):  # some services send a call whole
            yield CallArguments(self._calls[index], judged.encode(block["input"]).decode())

    def rest(self) -> Sequence[Piece]:
        """Nothing: all has been said as it came."""
        return ()

    def reply(self) -> Reply:
        """The whole answer."""
        content = [block for _, block in sorted(self._blocks.items())]
        calls = [
            ToolCall(str(block["id"]), str(block.get("name")), self._arguments(index))
            for index, block in sorted(self._blocks.items())
            if index in self._calls
        ]
        message = {"role": "assistant", "content": content}
        return Reply("messages", message, self._pieces, calls, _finish(self._end), self.usage)

    def _arguments(self, index: int) -> str:
        """As the model wrote them, perhaps invalid."""
        return self._inputs.get(index) or judged.encode(self._blocks[index].get("input") or {}).decode()


def _some(kind: type[Text | Thought], text: object) -> Iterator[Piece]:
    if isinstance(text, str) and text:
        yield kind(text)
