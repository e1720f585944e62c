"""OpenAI's chat completions on the wire: requests read so that what was judged is what is sent, answers written. Pure.

A request without hub tools goes on as it came but for `model` and `stream_options`. One with `type: mcp` tools is taken
apart: its messages and the caller's own tools stay raw, the sources are read whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from llm.types import Ask, Prompt, ToolOutcome, ToolSource
from llm.wire.head import read_flag, read_head
from llm.wire.hub_member import NOTHING_SAID, HubMember, check_talk
from llm.wire.sources import read_tools
from registry import judged
from registry.entries import Model
from registry.errors import InvalidRequest
from registry.gate import Usage
from registry.judged import JsonObject, RawObject

DECIDING = frozenset({"model", "stream", "stream_options", "tools", "hub"})
"""Members of the request on which the hub decides."""


class ChatRequest(msgspec.Struct, frozen=True):
    """A request as the hub judged it. A Struct: made for every request, at a tenth of a frozen dataclass's cost."""

    members: RawObject
    model: str
    stream: bool
    usage_wanted: bool
    """The caller asked for the usage chunk of a stream."""
    sources: tuple[ToolSource, ...]
    own_tools: tuple[msgspec.Raw, ...]
    """The caller's own tools beside the sources; empty without sources, when `tools` goes on as it came."""
    hub: HubMember = NOTHING_SAID


def read_request(data: bytes, *, public_url: str) -> ChatRequest:
    """Read a chat completions request.

    Raises:
        ParseFailed, InvalidRequest: it cannot be judged.
    """
    members, model, stream, hub = read_head(data, DECIDING)
    sources, own_tools = read_tools(members.get("tools"), public_url)
    return ChatRequest(
        members=members,
        model=model,
        stream=stream,
        usage_wanted=stream and _usage_wanted(members.get("stream_options")),
        sources=sources,
        own_tools=own_tools,
        hub=hub,
    )


_USAGE_ONLY = frozenset({"include_usage"})


def _usage_wanted(raw: msgspec.Raw | None) -> bool:
    if raw is None or judged.decode(raw) is None:
        return False
    options = judged.body(bytes(raw), _USAGE_ONLY)
    judged.check_spelling(options, _USAGE_ONLY)
    return read_flag(options, "include_usage")


def passed_on(request: ChatRequest, model: Model, *, ask_usage: bool) -> bytes:
    """The body that goes to the provider of `model`: the caller's, with the upstream's name for it.

    `ask_usage`: have a stream end with its usage, whatever the caller said.

    Raises:
        InvalidRequest: it names an agent's context, and the model is none.
    """
    members: JsonObject = {**request.members, "model": model.model}
    if request.hub.talk is not None:
        check_talk(request.hub.talk, model)
        members["hub"] = request.hub.talk
    _set_stream(members, request, ask_usage=ask_usage)
    return judged.encode(members)


def _set_stream(members: JsonObject, request: ChatRequest, *, ask_usage: bool) -> None:
    if not request.stream:
        return
    raw = members.pop("stream_options", None)
    if ask_usage:
        options = (judged.decode(raw) if raw is not None else None) or {}
        members["stream_options"] = {**options, "include_usage": True}


def ask_of(request: ChatRequest) -> Ask:
    """What the loop is to answer.

    Raises:
        InvalidRequest: a member is missing or of no use to the loop.
    """
    members = request.members
    if "messages" not in members:
        raise InvalidRequest("messages is required", member="messages")
    messages = judged.read_array(members["messages"], "messages")
    choices = members.get("n")
    if choices is not None and judged.decode(choices) not in (None, 1):
        raise InvalidRequest("n must be 1 here: the hub runs tools, or translates for this model", member="n")
    own: Sequence[msgspec.Raw] = request.own_tools
    if not request.sources and "tools" in members:
        own = judged.read_array(members["tools"], "tools")
    names = frozenset(_own_name(tool) for tool in own)
    rest = {name: value for name, value in members.items() if name not in _TAKEN}
    return Ask(
        model=request.model,
        stream=request.stream,
        sources=request.sources,
        own_names=names,
        prompt=Prompt("chat", rest, messages, own),
        limits=request.hub.limits,
        talk=request.hub.talk,
    )


_TAKEN = frozenset({"model", "stream", "stream_options", "messages", "tools"})


def _own_name(raw: msgspec.Raw) -> str:
    tool = judged.decode(raw)
    of_kind = tool.get(tool.get("type")) if isinstance(tool, dict) else None
    name = of_kind.get("name") if isinstance(of_kind, dict) else None
    if not isinstance(name, str):
        raise InvalidRequest("each tool needs a type and, under it, a name", member="tools")
    return name


Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 32)]
"""Of tokens, as a provider says them; what says more is not believed: sums over many calls must stay numbers of the database."""


class _InputDetails(msgspec.Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    audio_tokens: Count | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None


class _Counts(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: Count | None = None
    """DeepSeek's name for cached ones."""


class _Answer(msgspec.Struct):
    usage: _Counts | None = None


_answer = msgspec.json.Decoder(_Answer)
_lenient = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NO_INPUT_DETAILS = _InputDetails()
_NO_OUTPUT_DETAILS = _OutputDetails()


def usage_of(data: bytes) -> Usage | None:
    """What a chunk or a whole answer says it used; None when it does not say.

    Raises:
        ValueError: it is not a JSON object.
    """
    try:
        counts = _answer.decode(data).usage
    except msgspec.ValidationError:  # usage of another shape is as good as none
        _lenient.decode(data)
        return None
    return None if counts is None else _usage(counts)


def counted(usage: JsonObject) -> Usage | None:
    """A usage object as the gate records it; None: it says nothing."""
    try:
        counts = msgspec.convert(usage, _Counts)
    except msgspec.ValidationError:
        return None
    if counts.prompt_tokens is None and counts.completion_tokens is None:
        return None
    return _usage(counts)


def _usage(counts: _Counts) -> Usage:
    given = counts.prompt_tokens_details or _NO_INPUT_DETAILS
    made = counts.completion_tokens_details or _NO_OUTPUT_DETAILS
    return Usage(
        counts.prompt_tokens,
        counts.completion_tokens,
        False,
        given.cached_tokens if given.cached_tokens is not None else counts.prompt_cache_hit_tokens,
        given.cache_write_tokens,
        made.reasoning_tokens,
        given.audio_tokens,
        made.audio_tokens,
    )


def report(outcomes: Sequence[ToolOutcome]) -> JsonObject:
    """The `hub` member: the calls that the hub executed."""
    return {"tool_calls": [_reported(outcome) for outcome in outcomes]}


def _reported(outcome: ToolOutcome) -> JsonObject:
    return {
        "id": outcome.call.id,
        "server": outcome.server,
        "tool": outcome.tool,
        "arguments": outcome.arguments,
        "error" if outcome.failed else "result": outcome.text,
        "duration_ms": round(outcome.duration_ms, 1),
    }


@dataclass(slots=True)
class Writer:
    """Writes one answer: one id and one model name, whatever the rounds behind it were."""

    id: str
    created: int
    model: str
    system_fingerprint: str | None = None

    def _head(self, kind: str) -> JsonObject:
        head: JsonObject = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        if self.system_fingerprint is not None:
            head["system_fingerprint"] = self.system_fingerprint
        return head

    def answer(self, message: JsonObject, *, finish_reason: str, usage: JsonObject, hub: JsonObject) -> bytes:
        """A whole answer."""
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        return judged.encode({**self._head("chat.completion"), "choices": [choice], "usage": usage, "hub": hub})

    def delta(self, delta: JsonObject, *, finish_reason: str | None = None, hub: JsonObject | None = None) -> bytes:
        """One event of a stream."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return event(chunk if hub is None else {**chunk, "hub": hub})

    def usage(self, usage: JsonObject) -> bytes:
        """The usage event that `stream_options.include_usage` asks for."""
        return event({**self._head("chat.completion.chunk"), "choices": [], "usage": usage})


DONE = b"data: [DONE]\n\n"


def event(data: JsonObject) -> bytes:
    """One server-sent event."""
    return b"data: " + judged.encode(data) + b"\n\n"


def models(names: Sequence[str]) -> bytes:
    """The body of `GET /v1/models`."""
    return judged.encode({"object": "list", "data": [model(name) for name in names]})


def model(name: str) -> JsonObject:
    """One model object; when the hub was told of it and who trained it is nobody's concern."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "hubbub"}
