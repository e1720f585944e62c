"""A request in Anthropic's Messages format, said as OpenAI's chat completions. Pure.

What only tunes Anthropic's service (`cache_control`, `metadata`, `context_management`, `service_tier`) is left out; thoughts
of earlier turns too, for nobody but who signed them can read them. What would change the answer is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from llm.translate.mcp_blocks import untangled
from llm.translate.whole import blocks, translated
from llm.types import Prompt
from registry.errors import InvalidRequest
from registry.judged import JsonObject

_SAME = ("temperature", "top_p")
_HINTS = frozenset(
    {"model", "stream", "cache_control", "metadata", "context_management", "service_tier", "speed", "inference_geo"}
    | {"diagnostics", "betas", "thinking", "output_config", "mcp_servers"}
)
_SAID = frozenset({*_SAME, "messages", "system", "tools", "tool_choice", "stop_sequences", "max_tokens"})

EFFORT_OF_BUDGET = ((4096, "low"), (12_288, "medium"))
"""Up to how many tokens of thinking an effort goes; above the last it is high."""


def prompt(asked: Prompt) -> Prompt:
    """Say a prompt; raises as `request`."""
    return translated(asked, "chat", request, made_by="Anthropic")


def request(members: JsonObject) -> JsonObject:
    """Say a whole request; `model` and `stream` are the sender's to set.

    Raises:
        InvalidRequest: it asks for something that chat completions cannot say.
    """
    foreign = sorted(name for name in members.keys() - _HINTS - _SAID if members[name] is not None)
    if foreign:
        raise _impossible(", ".join(foreign), foreign[0])
    said: JsonObject = {"messages": messages(members.get("system"), members.get("messages") or ())}
    said |= {name: members[name] for name in _SAME if members.get(name) is not None}
    if members.get("max_tokens") is not None:
        said["max_completion_tokens"] = members["max_tokens"]
    if members.get("stop_sequences"):
        said["stop"] = members["stop_sequences"]
    if members.get("tools"):
        said["tools"] = [tool(one) for one in members["tools"]]
    said |= tool_choice(members.get("tool_choice"))
    said |= _effort(members.get("thinking"), members.get("output_config"))
    said |= _format(members.get("output_config"))
    user = (members.get("metadata") or {}).get("user_id")
    return {**said, "user": user} if user else said


def _impossible(what: str, member: str) -> InvalidRequest:
    return InvalidRequest(
        f"{what} cannot be said to this model's provider, which speaks OpenAI's format", member=member
    )


def messages(system: Any, conversation: Sequence[JsonObject]) -> list[JsonObject]:
    """Say the system prompt and the conversation."""
    said: list[JsonObject] = []
    text = "\n\n".join(str(block.get("text") or "") for block in blocks(system))
    if text:
        said.append({"role": "system", "content": text})
    for message in untangled(conversation):
        content = blocks(message.get("content"))
        role = message.get("role")
        if role == "assistant":
            said.append(_assistant(content))
        elif role in ("user", "system"):
            said += _user(content, str(role))
        else:
            raise InvalidRequest("the role of a message is user or assistant", member="messages")
    return said


def _assistant(content: Sequence[JsonObject]) -> JsonObject:
    text = "".join(str(block.get("text") or "") for block in content if block.get("type") == "text")
    calls = [_call(block) for block in content if block.get("type") == "tool_use"]
    strange = next((block for block in content if block.get("type") not in _ASSISTANT), None)
    if strange is not None:
        raise _impossible(f"a content block of type {strange.get('type')!r}", "messages")
    message: JsonObject = {"role": "assistant", "content": text or (None if calls else "")}
    return {**message, "tool_calls": calls} if calls else message


_ASSISTANT = frozenset({"text", "tool_use", "thinking", "redacted_thinking"})


def _call(block: JsonObject) -> JsonObject:
    arguments = msgspec.json.encode(block.get("input") or {}).decode()
    function = {"name": block.get("name"), "arguments": arguments}
    return {"id": block.get("id"), "type": "function", "function": function}


def _user(content: Sequence[JsonObject], role: str) -> Iterator[JsonObject]:
    """Yield the results, which are messages of their own, then what the user says.

    Results are text in this format: images in them are shown after them, as the user's.
    """
    shown: list[JsonObject] = []
    said: list[JsonObject] = []
    for block in content:
        if block.get("type") == "tool_result":
            yield _result(block, shown)
        else:
            said += _parts(block)
    parts = [*shown, *said]
    if len(parts) == 1 and parts[0]["type"] == "text":
        yield {"role": role, "content": parts[0]["text"]}
    elif parts:
        yield {"role": role, "content": parts}


def _result(block: JsonObject, shown: list[JsonObject]) -> JsonObject:
    texts: list[str] = []
    for part in (part for inner in blocks(block.get("content")) for part in _parts(inner)):
        if part["type"] == "text":
            texts.append(part["text"])
        else:
            shown.append(part)
            texts.append("[shown below]")
    text = "\n".join(texts)
    text = f"Error: {text}" if block.get("is_error") else text
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text}


def _parts(block: JsonObject) -> list[JsonObject]:
    """Say one block of a user."""
    kind = block.get("type")
    source = block.get("source")
    source = source if isinstance(source, dict) else {}
    if kind == "text":
        return [{"type": "text", "text": str(block.get("text") or "")}]
    if kind == "image":
        return [{"type": "image_url", "image_url": {"url": _url(source, "image")}}]
    if kind == "search_result":
        return [part for inner in blocks(block.get("content")) for part in _parts(inner)]
    if kind == "document":
        return _document(block, source)
    raise _impossible(f"a content block of type {kind!r}", "messages")


def _document(block: JsonObject, source: JsonObject) -> list[JsonObject]:
    kind = source.get("type")
    if kind == "text":
        return [{"type": "text", "text": str(source.get("data") or "")}]
    if kind == "content":
        return [part for inner in blocks(source.get("content")) for part in _parts(inner)]
    if kind == "base64":
        file = {"filename": block.get("title") or "document.pdf", "file_data": _url(source, "document")}
        return [{"type": "file", "file": file}]
    raise _impossible(f"a document with a source of type {kind!r}", "messages")


def _url(source: JsonObject, what: str) -> str:
    if source.get("type") == "url":
        return str(source.get("url"))
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    raise _impossible(f"{what} with a source of type {source.get('type')!r}", "messages")


def tool(one: JsonObject) -> JsonObject:
    """Say a tool of the caller."""
    if one.get("type") not in (None, "custom"):
        raise _impossible(f"a tool of type {one.get('type')!r}", "tools")
    function = {"name": one.get("name"), "parameters": one.get("input_schema") or {"type": "object"}}
    function |= {name: one[name] for name in ("description", "strict") if one.get(name) is not None}
    return {"type": "function", "function": function}


def tool_choice(choice: Any) -> JsonObject:
    """Say `tool_choice`, with what it says of parallel calls."""
    if not isinstance(choice, dict):
        return {}
    said: JsonObject = {}
    kind = choice.get("type")
    if kind == "tool":
        said["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif kind in _CHOICES:
        said["tool_choice"] = _CHOICES[kind]
    else:
        raise InvalidRequest("tool_choice must be of type auto, any, tool or none", member="tool_choice")
    return {**said, "parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") else said


_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def _effort(thinking: Any, output: Any) -> JsonObject:
    asked = output.get("effort") if isinstance(output, dict) else None
    if asked is not None:
        return {"reasoning_effort": "xhigh" if asked == "max" else asked}
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return {}
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int):
        return {}
    return {"reasoning_effort": next((effort for most, effort in EFFORT_OF_BUDGET if budget <= most), "high")}


def _format(output: Any) -> JsonObject:
    wanted = output.get("format") if isinstance(output, dict) else None
    if not isinstance(wanted, dict):
        return {}
    schema = {"name": "answer", "schema": wanted.get("schema"), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
