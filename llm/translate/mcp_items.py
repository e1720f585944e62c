"""The hub's own items in a conversation of OpenAI's Responses API, as a model's: `mcp_call` was a call of a function, once. Pure.

What only says which tools there were, and what was asked of approvers, is not told again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from registry.errors import InvalidRequest
from registry.judged import JsonObject

ToolNames = Callable[[str, str], str]
"""The name that the model knows for a tool, by the label of its server and its name there."""

_UNTOLD = frozenset({"mcp_list_tools", "mcp_approval_request", "mcp_approval_response"})


def untangled(items: Sequence[JsonObject], tool_name: ToolNames) -> list[JsonObject]:
    """The same items with `function_call` and `function_call_output` for each `mcp_call`."""
    return [told for item in items for told in _told(item, tool_name)]


def _told(item: JsonObject, tool_name: ToolNames) -> Iterator[JsonObject]:
    if item["type"] == "mcp_call":
        name = tool_name(item["server_label"], item["name"])
        call = {"type": "function_call", "call_id": item["id"], "name": name, "arguments": item["arguments"]}
        yield {**call, "status": "completed"}
        yield {"type": "function_call_output", "call_id": item["id"], "output": _outcome(item), "status": "completed"}
    elif item["type"] not in _UNTOLD:
        yield item


def _outcome(item: JsonObject) -> str:
    error = item.get("error")
    if error is None:
        return str(item.get("output") or "")
    if isinstance(error, dict):
        error = error.get("message") or error.get("content")
    return error if isinstance(error, str) else str(error)


def tool_choice(choice: Any, *, tool_name: ToolNames, of_label: Callable[[str], Sequence[str]]) -> Any:
    """What the model has to call, without servers; `of_label` gives the names of all tools of one.

    Raises:
        InvalidRequest: it is neither a text nor an object, or its tools are none.
    """
    if choice is None or isinstance(choice, str):
        return choice
    if not isinstance(choice, dict):
        raise InvalidRequest("tool_choice must be a text or an object", member="tool_choice")
    kind = choice.get("type")
    if kind == "mcp":
        label, name = str(choice.get("server_label")), choice.get("name")
        if isinstance(name, str):
            return _function(tool_name(label, name))
        return {"type": "allowed_tools", "mode": "required", "tools": [_function(name) for name in of_label(label)]}
    if kind != "allowed_tools":
        return choice
    tools = choice.get("tools")
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InvalidRequest("allowed_tools of tool_choice needs tools, a list of objects", member="tool_choice")
    named: list[JsonObject] = []
    for tool in tools:
        label, name = tool.get("server_label"), tool.get("name")
        if tool.get("type") != "mcp" or not isinstance(label, str):
            named.append(tool)
        else:
            named += map(_function, [tool_name(label, name)] if isinstance(name, str) else of_label(label))
    return {**choice, "mode": choice.get("mode") or "auto", "tools": named}


def _function(name: str) -> JsonObject:
    return {"type": "function", "name": name}
