"""From OpenAI's Responses API to its chat completions: what a model is asked. Pure.

Items are whole, as `llm.wire.response_items` reads them. What chat completions has under another name is renamed, what only a
store of responses understands is left out, and what no chat completions model can do is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llm.translate.whole import decoded
from llm.types import Prompt
from registry.errors import InvalidRequest
from registry.judged import JsonObject

_RENAMED = {"max_output_tokens": "max_completion_tokens"}

_KEPT_HERE = frozenset(
    {
        "background",
        "context_management",
        "conversation",
        "include",
        "input",
        "instructions",
        "max_tool_calls",
        "metadata",
        "model",
        "previous_response_id",
        "prompt",
        "reasoning",
        "store",
        "stream",
        "stream_options",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "truncation",
    }
)
"""Members that are the hub's own business, or written anew below. Others go to the model as they are."""

_REFUSED = ("prompt", "context_management", "top_logprobs")
"""Members that change what is answered and that only OpenAI's own service understands."""

_LOGPROBS = "message.output_text.logprobs"
"""The only value of `include` whose lack would be missed: the others add to items of tools that are refused, or to thoughts."""


def prompt(asked: Prompt) -> Prompt:
    """Say a prompt, whose items are as `llm.translate.mcp_items` leaves them.

    Raises:
        InvalidRequest: something that chat completions cannot say.
    """
    said: JsonObject = dict(asked.members)
    found = members(said)
    choice = tool_choice(said.get("tool_choice"))
    if choice is not None:
        found["tool_choice"] = choice
    told = messages(decoded(asked.messages), instructions=said.get("instructions"))
    return Prompt("chat", found, told, [function(tool) for tool in decoded(asked.own_tools)])


def members(asked: JsonObject) -> JsonObject:
    """The members of a chat completions request beside `messages`, `tools` and `tool_choice`.

    Raises:
        InvalidRequest: names a member that chat completions cannot do.
    """
    for member in _REFUSED:
        if asked.get(member):
            raise InvalidRequest(f"{member} is not supported for this model", member=member)
    wanted = asked.get("include")
    if isinstance(wanted, list) and _LOGPROBS in wanted:
        raise InvalidRequest(f"include may not hold {_LOGPROBS} for this model", member="include")
    if asked.get("truncation") not in (None, "disabled"):
        raise InvalidRequest("truncation must be 'disabled' for this model", member="truncation")
    found = {
        _RENAMED.get(name, name): value for name, value in asked.items() if name not in _KEPT_HERE and value is not None
    }
    reasoning = _object(asked, "reasoning")
    if reasoning.get("effort") is not None:
        found["reasoning_effort"] = reasoning["effort"]
    text = _object(asked, "text")
    if text.get("verbosity") is not None:
        found["verbosity"] = text["verbosity"]
    shape = text.get("format")
    if isinstance(shape, dict) and shape.get("type") != "text":
        found["response_format"] = _response_format(shape)
    return found


def _object(owner: JsonObject, member: str) -> JsonObject:
    value = owner.get(member)
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(f"{member} must be an object", member=member)
    return value or {}


def _response_format(shape: JsonObject) -> JsonObject:
    kind = shape.get("type")
    if kind != "json_schema":
        return shape
    return {"type": kind, "json_schema": {name: value for name, value in shape.items() if name != "type"}}


def function(tool: JsonObject) -> JsonObject:
    """One of the caller's own tools; raises `InvalidRequest` for one that only OpenAI's service can run."""
    kind = tool.get("type")
    if not isinstance(kind, str) or kind not in _TOOLS:
        text = f"tools of type {str(kind)[:80]!r} are not supported for this model; function, custom and mcp are"
        raise InvalidRequest(text, member="tools")
    if not isinstance(tool.get("name"), str):
        raise InvalidRequest(f"a tool of type {kind} needs a name", member="tools")
    return {"type": kind, kind: {name: tool[name] for name in _TOOLS[kind] if tool.get(name) is not None}}


_TOOLS = {
    "function": ("name", "description", "parameters", "strict"),
    "custom": ("name", "description", "format"),
}


def tool_choice(choice: Any) -> Any:
    """What the model has to call; raises `InvalidRequest` for a tool that only OpenAI's service can run."""
    if not isinstance(choice, dict):
        return choice
    kind = choice.get("type")
    if kind in ("function", "custom"):
        return {"type": kind, kind: {"name": choice.get("name")}}
    if kind == "allowed_tools":
        tools = [{"type": "function", "function": {"name": str(tool.get("name"))}} for tool in choice["tools"]]
        return {"type": kind, kind: {"mode": choice["mode"], "tools": tools}}
    raise InvalidRequest(
        f"tool_choice of type {str(kind)[:80]!r} is not supported for this model", member="tool_choice"
    )


def messages(items: Sequence[JsonObject], *, instructions: str | None) -> list[JsonObject]:
    """The conversation as chat completions tells it.

    Calls that stand together are one assistant message, with the text before them; results follow it. What the model
    thought is not told again.

    Raises:
        InvalidRequest: a part of a message that cannot be told.
    """
    told: list[JsonObject] = []
    if instructions:
        told.append({"role": "system", "content": instructions})
    for item in items:
        kind = item["type"]
        if kind == "message":
            told.append(_message(item))
        elif kind == "function_call":
            _add_call(told, _called(item["call_id"], item["name"], item["arguments"]))
        elif kind == "custom_tool_call":
            body = {"name": item["name"], "input": item["input"]}
            _add_call(told, {"id": item["call_id"], "type": "custom", "custom": body})
        elif kind in ("function_call_output", "custom_tool_call_output"):
            told += _result(item["call_id"], item["output"])
        elif kind != "reasoning":
            raise InvalidRequest(f"items of type {kind[:80]!r} are not supported for this model", member="input")
    return told


def _message(item: JsonObject) -> JsonObject:
    role, content = item["role"], item["content"]
    if role == "assistant":
        return {"role": "assistant", "content": "".join(_text_of(part) for part in content)}
    parts = [_part(part) for part in content]
    if all(part["type"] == "text" for part in parts):
        told: Any = parts[0]["text"] if len(parts) == 1 else parts
        return {"role": "system" if role == "developer" else role, "content": told}
    return {"role": "user" if role == "user" else "system", "content": parts}


def _text_of(part: JsonObject) -> str:
    said = part.get("refusal") if part.get("type") == "refusal" else part.get("text")
    return said if isinstance(said, str) else ""


def _part(part: JsonObject) -> JsonObject:
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text", "summary_text") and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part.get("detail") or "auto"}}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part.get("input_audio")}
    if kind == "input_file" and not part.get("file_url"):
        return {"type": "file", "file": {name: part[name] for name in _FILE if part.get(name) is not None}}
    raise InvalidRequest(f"a part of type {str(kind)[:80]!r} cannot be given to this model as it is", member="input")


_FILE = ("file_data", "file_id", "filename")


def _called(call_id: str, name: str, arguments: str) -> JsonObject:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _add_call(told: list[JsonObject], call: JsonObject) -> None:
    """Add a call to the assistant message that is being told, or begin one."""
    last = told[-1] if told else None
    if last is not None and last["role"] == "assistant":
        last.setdefault("tool_calls", []).append(call)
    else:
        told.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _result(call_id: str, output: str | list[JsonObject]) -> Iterator[JsonObject]:
    """A result; pictures and files, which chat completions takes from users only, follow it as a user's message."""
    if isinstance(output, str):
        yield {"role": "tool", "tool_call_id": call_id, "content": output}
        return
    parts = [_part(part) for part in output]
    texts = "\n".join(part["text"] for part in parts if part["type"] == "text")
    others = [part for part in parts if part["type"] != "text"]
    yield {"role": "tool", "tool_call_id": call_id, "content": texts or "(see the next message)"}
    if others:
        yield {"role": "user", "content": others}
