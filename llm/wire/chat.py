"""OpenAI's chat completions on the wire: requests read so that what was judged is what is sent, answers written. Pure.

A request without hub tools goes on as it came but for `model` and `stream_options`. One with `type: mcp` tools is taken
apart: its messages and the caller's own tools stay raw, the sources are read whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from llm.types import OfferedTool, ToolOutcome
from registry import judged
from registry.errors import InvalidRequest
from registry.gate import Usage
from registry.judged import JsonObject, RawObject

DECIDING = frozenset({"model", "stream", "stream_options", "tools", "hub"})
"""Members of the request on which the hub decides."""

TOOL_DECIDING = frozenset({"type", "server_url", "server_label", "allowed_tools", "require_approval"})
"""Members of a tool on which the hub decides."""

NOT_HONOURED = ("authorization", "connector_id", "headers")
"""Members of a source that would change whom the tools are called as, or which: refused rather than ignored."""

OWN_SOURCES = ("hub", "litellm_proxy")
"""Names for the hub itself in `server_url`; the second is LiteLLM's."""

MAX_ROUNDS = 32
"""The most that a request may ask for."""


@dataclass(frozen=True, slots=True)
class ToolSource:
    """A `type: mcp` tool that names this hub."""

    url: str
    """As the caller wrote it, for errors."""
    name: str | None
    """A server or toolset; None: everything."""
    allowed: tuple[str, ...] | None
    """Globs over bare or exposed names; None: all."""


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
    max_rounds: int | None


def read_request(data: bytes, *, public_url: str) -> ChatRequest:
    """Read a chat completions request.

    Raises:
        ParseFailed, InvalidRequest: it cannot be judged.
    """
    top = judged.body(data, DECIDING)
    judged.check_spelling(top, DECIDING)
    model = judged.read_string(top, "model")
    if not model:
        raise InvalidRequest("model is required", member="model")
    stream = _flag(top, "stream")
    hub = top.pop("hub", None)
    sources, own_tools = _read_tools(top.get("tools"), public_url)
    return ChatRequest(
        members=top,
        model=model,
        stream=stream,
        usage_wanted=stream and _usage_wanted(top.get("stream_options")),
        sources=sources,
        own_tools=own_tools,
        max_rounds=_max_rounds(hub),
    )


def _flag(owner: RawObject, member: str) -> bool:
    raw = owner.get(member)
    value = None if raw is None else judged.decode(raw)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{member} must be true or false", member=member)
    return bool(value)


_USAGE_ONLY = frozenset({"include_usage"})


def _usage_wanted(raw: msgspec.Raw | None) -> bool:
    if raw is None or judged.decode(raw) is None:
        return False
    options = judged.body(bytes(raw), _USAGE_ONLY)
    judged.check_spelling(options, _USAGE_ONLY)
    return _flag(options, "include_usage")


def _max_rounds(raw: msgspec.Raw | None) -> int | None:
    if raw is None:
        return None
    asked = judged.decode(raw)
    rounds = asked.get("max_rounds") if isinstance(asked, dict) else None
    if not isinstance(rounds, int) or isinstance(rounds, bool) or not 1 <= rounds <= MAX_ROUNDS:
        raise InvalidRequest(f'hub must read {{"max_rounds": 1 to {MAX_ROUNDS}}}', member="hub")
    return rounds


def _read_tools(raw: msgspec.Raw | None, public_url: str) -> tuple[tuple[ToolSource, ...], tuple[msgspec.Raw, ...]]:
    """Sort tools into sources and the caller's own.

    Where no tool can read as `mcp` under any spelling, nothing is decided and nothing needs to be read.
    """
    if raw is None:
        return (), ()
    text = bytes(raw)
    if b"mcp" not in text.lower() and b"\\u" not in text:
        return (), ()
    sources: list[ToolSource] = []
    own: list[msgspec.Raw] = []
    for item in judged.read_array(raw, "tools"):
        tool = judged.body(bytes(item), TOOL_DECIDING)
        judged.check_spelling(tool, TOOL_DECIDING)
        kind = judged.read_string(tool, "type")
        if kind == "mcp":
            sources.append(_read_source(tool, public_url))
        elif kind is not None and kind.strip().lower() == "mcp":
            raise InvalidRequest(f"tool type {kind!r} is not known; write 'mcp'", member="tools")
        else:
            own.append(msgspec.Raw(judged.encode(tool)))
    return tuple(sources), tuple(own) if sources else ()


def _read_source(tool: RawObject, public_url: str) -> ToolSource:
    url = judged.read_string(tool, "server_url")
    if not url:
        raise InvalidRequest("a tool of type mcp needs server_url, for example 'hub/mcp/github'", member="tools")
    judged.read_string(tool, "server_label")
    for member in NOT_HONOURED:
        if member in tool:
            raise InvalidRequest(f"{member} of tool source {url!r} is not supported here", member="tools")
    approval = None if "require_approval" not in tool else judged.decode(tool["require_approval"])
    if approval not in (None, "never"):
        raise InvalidRequest(
            f"require_approval of tool source {url!r} must be 'never' or absent: approvals are not supported here yet",
            member="tools",
        )
    return ToolSource(url=url, name=_source_name(url, public_url), allowed=_allowed(tool.get("allowed_tools"), url))


def _source_name(url: str, public_url: str) -> str | None:
    trimmed = url.rstrip("/")
    for own in OWN_SOURCES:
        if trimmed in (own, f"{own}/mcp"):
            return None
    if trimmed == f"{public_url.rstrip('/')}/mcp":
        return None
    for own in (*OWN_SOURCES, public_url.rstrip("/")):
        name = trimmed.removeprefix(f"{own}/mcp/")
        if name != trimmed and name and "/" not in name:
            return name
    raise InvalidRequest(
        f"tool source {url!r} is not served here; write 'hub/mcp' or 'hub/mcp/{{name}}'", member="tools"
    )


def _allowed(raw: msgspec.Raw | None, url: str) -> tuple[str, ...] | None:
    """Read a list of names, or OpenAI's other form of it, `{"tool_names": [...]}`."""
    value = None if raw is None else judged.decode(raw)
    if isinstance(value, dict) and set(value) == {"tool_names"}:
        value = value["tool_names"]
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InvalidRequest(f"allowed_tools of tool source {url!r} must be a list of names", member="tools")
    return tuple(value)


def passed_on(request: ChatRequest, upstream_model: str, *, ask_usage: bool) -> bytes:
    """The body that goes to the provider: the caller's, with the upstream's model name.

    `ask_usage`: have a stream end with its usage, whatever the caller said.
    """
    members: JsonObject = {**request.members, "model": upstream_model}
    _set_stream(members, request, ask_usage=ask_usage)
    return judged.encode(members)


def _set_stream(members: JsonObject, request: ChatRequest, *, ask_usage: bool) -> None:
    if not request.stream:
        return
    raw = members.pop("stream_options", None)
    if ask_usage:
        options = (judged.decode(raw) if raw is not None else None) or {}
        members["stream_options"] = {**options, "include_usage": True}


def round_body(
    request: ChatRequest,
    upstream_model: str,
    *,
    messages: Sequence[JsonObject],
    tools: Sequence[OfferedTool],
    first: bool,
    ask_usage: bool,
) -> bytes:
    """The body of one round of the loop: the caller's messages and `messages`, its own tools and the hub's `tools`.

    A forced `tool_choice` holds in the first round only: kept, it would force a call for ever.
    """
    members = request.members.copy()
    _set_stream(members, request, ask_usage=ask_usage)
    own = judged.read_array(request.members["messages"], "messages")
    raw_choice = members.pop("tool_choice", None)
    choice: object = raw_choice if first or raw_choice is None else _relaxed(raw_choice)
    body: dict[str, object] = {
        **members,
        "model": upstream_model,
        "messages": [*own, *messages],
        "tools": [*request.own_tools, *map(_function, tools)],
    }
    if choice is not None:
        body["tool_choice"] = choice
    return judged.encode(body)


def _relaxed(choice: msgspec.Raw) -> object:
    value = judged.decode(choice)
    if isinstance(value, dict) and isinstance(value.get("allowed_tools"), dict):
        return {**value, "allowed_tools": {**value["allowed_tools"], "mode": "auto"}}
    return value if value in ("auto", "none") else None


def _function(tool: OfferedTool) -> JsonObject:
    return {
        "type": "function",
        "function": {"name": tool.exposed, "description": tool.description, "parameters": tool.input_schema},
    }


def check_loop(request: ChatRequest, tools: Sequence[OfferedTool]) -> frozenset[str]:
    """Check that a loop can run over `request` and return the names of the caller's own tools.

    Raises:
        InvalidRequest: a member is missing or of no use with hub tools, or two tools have one name.
    """
    if "messages" not in request.members:
        raise InvalidRequest("messages is required", member="messages")
    judged.read_array(request.members["messages"], "messages")
    choices = request.members.get("n")
    if choices is not None and judged.decode(choices) not in (None, 1):
        raise InvalidRequest("n must be 1 when the hub runs tools", member="n")
    own = frozenset(_own_name(tool) for tool in request.own_tools)
    for tool in tools:
        if tool.exposed in own:
            raise InvalidRequest(f"the hub has a tool named {tool.exposed!r}; rename yours", member="tools")
    return own


def _own_name(raw: msgspec.Raw) -> str:
    tool = judged.decode(raw)
    of_kind = tool.get(tool.get("type"))
    name = of_kind.get("name") if isinstance(of_kind, dict) else None
    if not isinstance(name, str):
        raise InvalidRequest("each tool needs a type and, under it, a name", member="tools")
    return name


class _Counts(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Answer(msgspec.Struct):
    usage: _Counts | None = None


_answer = msgspec.json.Decoder(_Answer)
_lenient = msgspec.json.Decoder(dict[str, msgspec.Raw])


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
    if counts is None:
        return None
    return Usage(input_tokens=counts.prompt_tokens, output_tokens=counts.completion_tokens)


def add_usage(total: JsonObject, more: JsonObject) -> JsonObject:
    """Add up two usage objects, member by member, details included."""
    added = dict(total)
    for name, value in more.items():
        before = added.get(name)
        if isinstance(value, dict):
            added[name] = add_usage(before if isinstance(before, dict) else {}, value)
        elif isinstance(value, int | float) and isinstance(before, int | float):
            added[name] = before + value
        elif value is not None or before is None:
            added[name] = value
    return added


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
