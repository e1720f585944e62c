"""OpenAI's Responses API on the wire: requests read so that what was judged is what is sent, responses begun. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llm.translate import mcp_items
from llm.translate.whole import blocks
from llm.types import Ask, Prompt, ToolSource
from llm.wire import response_items
from llm.wire.head import read_flag, read_head
from llm.wire.response_tools import Labels
from llm.wire.responses_upstream import ENCRYPTED, FOR_CALLERS
from llm.wire.sources import read_tools
from registry import judged
from registry.errors import InvalidRequest
from registry.identity import RequestLimits
from registry.judged import JsonObject, RawObject

DECIDING = frozenset(
    {"model", "stream", "store", "background", "previous_response_id", "conversation", "tools", "input", "hub"}
)
"""Members of the request on which the hub decides."""

SOURCES = ("mcp", "a2a")
"""Types of tools that are sources of the hub's."""

MAX_PAIRS, MAX_NAME, MAX_VALUE = 16, 64, 512
"""Of `metadata`: how many there may be, and how long they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesRequest:
    """A request as the hub judged it."""

    members: RawObject
    """As they came, but `hub`."""
    asked: JsonObject
    """The same, decoded."""
    model: str
    stream: bool
    store: bool
    background: bool
    previous: str | None
    """Id of the response that this one continues."""
    conversation: str | None
    items: Sequence[JsonObject]
    """The new ones, whole."""
    sources: Sequence[ToolSource]
    limits: RequestLimits
    """Of its rounds."""
    bounds: RequestLimits
    """Of all that is called for it."""
    talk: JsonObject | None
    """For an agent as a model: in which context or task of its the conversation goes on."""


def read_request(data: bytes, *, public_url: str) -> ResponsesRequest:
    """Read a request.

    Raises:
        ParseFailed, InvalidRequest: it cannot be judged.
    """
    top, model, stream, hub = read_head(data, DECIDING)
    if hub.answer is not None:
        raise InvalidRequest("approval_id of hub is not read here: send mcp_approval_response items", member="hub")
    asked = {name: judged.decode(raw) for name, raw in top.items()}
    request = ResponsesRequest(
        members=top,
        asked=asked,
        model=model,
        stream=stream,
        store=asked.get("store") is None or read_flag(top, "store"),
        background=read_flag(top, "background"),
        previous=judged.read_string(top, "previous_response_id"),
        conversation=_conversation(asked.get("conversation")),
        items=response_items.read(asked.get("input")),
        sources=read_tools(top.get("tools"), public_url)[0],
        limits=hub.limits.within(RequestLimits(max_calls=_max_calls(asked))),
        bounds=hub.limits,
        talk=hub.talk,
    )
    check_metadata(asked.get("metadata"))
    _check(request)
    return request


def _conversation(value: Any) -> str | None:
    name = value.get("id") if isinstance(value, dict) else value
    if name is not None and not isinstance(name, str):
        raise InvalidRequest("conversation must be an id, or an object with one", member="conversation")
    return name


def _check(request: ResponsesRequest) -> None:
    if request.previous is not None and request.conversation is not None:
        raise InvalidRequest("previous_response_id and conversation exclude one another", member="conversation")
    if request.background and not request.store:
        raise InvalidRequest("a response in the background has to be stored: leave out store", member="background")
    if request.conversation is not None and not request.store:
        raise InvalidRequest("what is said in a conversation is stored in it: leave out store", member="store")
    instructions = request.asked.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise InvalidRequest("instructions must be a text", member="instructions")
    tools = request.asked.get("tools")
    if tools is not None and (not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools)):
        raise InvalidRequest("tools must be a list of objects", member="tools")
    if any(response_items.is_source(inner) for tool in tools or () for inner in blocks(tool.get("tools"))):
        raise InvalidRequest("tools of type mcp stand in no namespace", member="tools")


def check_metadata(value: Any) -> JsonObject:
    """The metadata of a response or a conversation; raises `InvalidRequest`."""
    if value is None:
        return {}
    if (
        not isinstance(value, dict)
        or len(value) > MAX_PAIRS
        or any(
            not isinstance(text, str) or len(text) > MAX_VALUE or len(name) > MAX_NAME for name, text in value.items()
        )
    ):
        bounds = f"{MAX_PAIRS} texts of at most {MAX_VALUE} characters, under names of at most {MAX_NAME}"
        raise InvalidRequest(f"metadata may hold {bounds}", member="metadata")
    return value


def own_tools(request: ResponsesRequest) -> list[JsonObject]:
    """The caller's own tools."""
    return [tool for tool in request.asked.get("tools") or () if tool.get("type") not in SOURCES]


THE_HUBS = ("background", "conversation", "previous_response_id")
"""Members that no provider is told: the hub keeps what came before, and waits."""

_TAKEN = frozenset({*THE_HUBS, "model", "stream", "input", "tools", "tool_choice", "store"})


def ask_of(request: ResponsesRequest, items: Sequence[JsonObject], labels: Labels) -> Ask:
    """What the loop is to answer; `items` are all, with those that the new ones continue.

    Raises:
        InvalidRequest: nothing is asked, or with a tool_choice that is none.
    """
    asked = request.asked
    members = {name: value for name, value in asked.items() if name not in _TAKEN and value is not None}
    choice = mcp_items.tool_choice(asked.get("tool_choice"), tool_name=labels.exposed, of_label=labels.of)
    if choice is not None:
        members["tool_choice"] = choice
    said = mcp_items.untangled(items, labels.exposed)
    if not (said or asked.get("instructions")):
        raise InvalidRequest("input is required", member="input")
    own = own_tools(request)
    return Ask(
        model=request.model,
        stream=request.stream,
        sources=request.sources,
        own_names=FOR_CALLERS.union(_names(own), *(_names(_tools(item)) for item in items)),
        prompt=Prompt("responses", members, said, own),
        limits=request.limits,
        talk=request.talk,
    )


def _names(tools: Iterable[JsonObject]) -> Iterator[str]:
    """The names of tools, and of those in namespaces."""
    for tool in tools:
        if "name" in tool:
            yield str(tool["name"])
        yield from _names(_tools(tool))


def _tools(owner: JsonObject) -> list[JsonObject]:
    """The tools in a namespace, or in an item that brings some."""
    return [] if owner.get("type") == "mcp_list_tools" else blocks(owner.get("tools"))


def peculiar(request: ResponsesRequest, items: Sequence[JsonObject]) -> list[str]:
    """What of a request providers of other formats are not told, though it could be missed: `items` are all."""
    included = request.asked.get("include")
    found = [f"include: {ENCRYPTED}"] if isinstance(included, list) and ENCRYPTED in included else []
    return found + (["input: reasoning"] if any(item.get("encrypted_content") for item in items) else [])


def _max_calls(asked: JsonObject) -> int | None:
    value = asked.get("max_tool_calls")
    if value is not None and (type(value) is not int or value < 1):
        raise InvalidRequest("max_tool_calls must be a whole number above 0", member="max_tool_calls")
    return value


_ECHOED = ("instructions", "max_output_tokens", "max_tool_calls", "previous_response_id", "prompt_cache_key")
_ECHOED_TOO = ("reasoning", "safety_identifier", "service_tier", "temperature", "top_logprobs", "top_p", "user")

_SECRETS = ("headers", "authorization")
"""Members of a tool that an answer does not repeat."""


def head(request: ResponsesRequest, name: str, *, created_at: int) -> JsonObject:
    """The members of a response that are known when it begins."""
    asked = request.asked
    return {
        "id": name,
        "object": "response",
        "created_at": created_at,
        "status": "in_progress",
        "completed_at": None,
        "background": request.background,
        "error": None,
        "incomplete_details": None,
        "model": request.model,
        **{name: asked.get(name) for name in (*_ECHOED, *_ECHOED_TOO)},
        "conversation": None if request.conversation is None else {"id": request.conversation},
        "metadata": asked.get("metadata") or {},
        "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
        "store": request.store,
        "text": asked.get("text") or {"format": {"type": "text"}},
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": [_echoed(tool) for tool in asked.get("tools") or ()],
        "truncation": asked.get("truncation") or "disabled",
        "usage": None,
    }


def _echoed(tool: JsonObject) -> JsonObject:
    if tool.get("type") == "a2a":  # which OpenAI's own types do not have
        tool = {**tool, "type": "mcp", "server_url": f"agent/{tool.get('agent')}"}
    if tool.get("type") == "mcp":
        label = tool.get("server_label") or tool.get("server_url")
        return {**{name: value for name, value in tool.items() if name not in _SECRETS}, "server_label": label}
    return {"parameters": None, "strict": None, **tool} if tool.get("type") == "function" else tool
