"""Items of OpenAI's Responses API: what a caller sends read and made whole, ids given out, pages of lists. Pure.

An item of an answer has an id that begins with its response's own token, so that a reference to it says where to look;
what it may say is decided by whose the response is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from registry.errors import InvalidRequest, NotFound
from registry.judged import JsonObject

MAX_ITEMS = 10_000
"""Of one request, with what it continues."""

MAX_PAGE = 100

PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
    "mcp_list_tools": "mcpl",
    "mcp_call": "mcp",
    "mcp_approval_request": "mcpr",
    "mcp_approval_response": "mcpa",
}
"""The kinds of items that the hub understands, and how their ids begin."""

REFERENCE = "item_reference"

_TEXTS = {
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id",),
    "custom_tool_call": ("call_id", "name", "input"),
    "custom_tool_call_output": ("call_id",),
    "mcp_list_tools": ("server_label",),
    "mcp_call": ("server_label", "name", "arguments"),
    "mcp_approval_request": ("server_label", "name", "arguments", "id"),
    "mcp_approval_response": ("approval_request_id",),
    REFERENCE: ("id",),
}
"""Members of an item that must be there and texts."""

_TOKEN_CHARS = 32
"""Of a response's id, behind `resp_`: 128 random bits in hex."""


def read(value: Any) -> list[JsonObject]:
    """Read `input`: a text, or items.

    Those of kinds that the hub does not know are left as they are: only some models can be told of them.

    Raises:
        InvalidRequest: it holds something that is no item, or a broken one of a kind that the hub knows.
    """
    if value is None:
        return []
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidRequest("input must be a text or a list of items", member="input")
    if len(value) > MAX_ITEMS:
        raise InvalidRequest(f"input may hold {MAX_ITEMS} items", member="input")
    return [_read_item(item, number) for number, item in enumerate(value)]


def _read_item(item: JsonObject, number: int) -> JsonObject:
    kind = item.get("type") or ("message" if "role" in item else None)
    where = f"input[{number}]"
    tools = item.get("tools") if kind != "mcp_list_tools" else None
    if isinstance(tools, list) and any(is_source(tool) for tool in tools):
        raise InvalidRequest(f"{where}: tools of type mcp stand in tools of the request", member=where)
    if kind == "message":
        return _read_message(item, where)
    if not isinstance(kind, str):
        raise InvalidRequest(f"{where}: an item needs a type", member=where)
    for member in _TEXTS.get(kind, ()):
        if not isinstance(item.get(member), str):
            raise InvalidRequest(f"{where}: {kind} needs {member}, a text", member=where)
    if kind in ("function_call_output", "custom_tool_call_output"):
        return {**item, "output": _read_output(item.get("output"), where), "status": "completed"}
    if kind == "function_call":
        return {**item, "status": "completed"}
    if kind == "mcp_approval_response" and not isinstance(item.get("approve"), bool):
        raise InvalidRequest(f"{where}: mcp_approval_response needs approve, true or false", member=where)
    if kind == "reasoning":
        return {**item, "summary": _parts(item.get("summary") or [], where)}
    return item


def is_source(tool: Any) -> bool:
    """Whether a tool is a source of the hub's, however it is spelt."""
    return isinstance(tool, dict) and str(tool.get("type")).strip().lower() in ("mcp", "a2a")


def _read_message(item: JsonObject, where: str) -> JsonObject:
    role = item.get("role")
    if role not in ("user", "assistant", "system", "developer"):
        raise InvalidRequest(f"{where}: role must be user, assistant, system or developer", member=where)
    content = item.get("content")
    if isinstance(content, str):
        content = [{"type": "output_text" if role == "assistant" else "input_text", "text": content}]
    parts = [_whole_part(part) for part in _parts(content, where)]
    return {**item, "type": "message", "role": role, "status": "completed", "content": parts}


def _read_output(output: Any, where: str) -> str | list[JsonObject]:
    if isinstance(output, str):
        return output
    return [_whole_part(part) for part in _parts(output, where)]


def _parts(content: Any, where: str) -> list[JsonObject]:
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InvalidRequest(f"{where}: content must be a text or a list of parts", member=where)
    return content


def _whole_part(part: JsonObject) -> JsonObject:
    kind = part.get("type")
    if kind == "output_text":
        return {"annotations": [], **part}
    return {"detail": "auto", **part} if kind == "input_image" else part


def identified(items: Sequence[JsonObject], token: str, taken: set[str] | None = None) -> list[JsonObject]:
    """Give each item an id that begins with `token`, unless it has one that nobody else has."""
    seen = taken if taken is not None else set()
    found: list[JsonObject] = []
    for number, item in enumerate(items):
        name = item.get("id")
        if not isinstance(name, str) or not name or name in seen:
            name = item_id(item["type"], f"{token}i{number:x}")
        seen.add(name)
        found.append({**item, "id": name})
    return found


def item_id(kind: str, rest: str) -> str:
    """The id of an item of a kind."""
    return f"{PREFIXES.get(kind, 'item')}_{rest}"


def response_of(name: str) -> str | None:
    """The id of the response whose item has this id; None: it was not given out here."""
    token = name.partition("_")[2][:_TOKEN_CHARS]
    return f"resp_{token}" if len(token) == _TOKEN_CHARS else None


def going_on(run: str) -> str:
    """The id of the response in which a run that waited for approvals goes on by itself."""
    return f"resp_{run.partition('_')[2]}"


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for."""

    after: str | None = None
    limit: int = 20
    order: str = "desc"

    @classmethod
    def of(cls, query: bytes) -> Page:
        """Read it from a query; raises `InvalidRequest`."""
        found = {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
        limit, order = found.get("limit", "20"), found.get("order", "desc")
        if not limit.isdecimal() or not 1 <= int(limit[:9]) <= MAX_PAGE:
            raise InvalidRequest(f"limit must be 1 to {MAX_PAGE}", member="limit")
        if order not in ("asc", "desc"):
            raise InvalidRequest("order must be asc or desc", member="order")
        return cls(found.get("after"), int(limit), order)

    def cut(self, items: Sequence[JsonObject]) -> JsonObject:
        """The list's page as it is answered; raises `NotFound` when `after` names none of its items."""
        ordered = list(items) if self.order == "asc" else list(reversed(items))
        if self.after is not None:
            at = next((at for at, item in enumerate(ordered) if item.get("id") == self.after), None)
            if at is None:
                raise NotFound("item", self.after)
            ordered = ordered[at + 1 :]
        page = ordered[: self.limit]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else "",
            "last_id": page[-1]["id"] if page else "",
            "has_more": len(ordered) > len(page),
        }
