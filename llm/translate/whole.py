"""What translations of whole requests have in common: raw parts are decoded, and what is not as its format has it is refused. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from llm.types import Format, Prompt
from registry import judged
from registry.errors import InvalidRequest
from registry.judged import JsonObject


def translated(asked: Prompt, into: Format, request: Callable[[JsonObject], JsonObject], *, made_by: str) -> Prompt:
    """Say a prompt in another format with what says a whole `request`; raises as that. `made_by` is whose format it came in."""
    members = {name: _decoded(value) for name, value in asked.members.items()}
    tools = {"tools": decoded(asked.own_tools)} if asked.own_tools else {}
    try:
        said = request({**members, "messages": decoded(asked.messages), **tools})
    except (AttributeError, KeyError, TypeError) as fault:  # a value of a type that the format does not have there
        raise InvalidRequest(f"the request is not as {made_by}'s format has it") from fault
    return Prompt(into, said, said.pop("messages"), said.pop("tools", ()))


def decoded(messages: Sequence[object]) -> list[JsonObject]:
    """Messages, or other objects, that may be raw; raises `InvalidRequest` for one that is no object."""
    found = [_decoded(message) for message in messages]
    if not all(isinstance(message, dict) for message in found):
        raise InvalidRequest("messages and tools must be lists of objects")
    return found


def _decoded(value: object) -> Any:
    return judged.decode(value) if isinstance(value, msgspec.Raw) else value


def blocks(content: object) -> list[JsonObject]:
    """A message's content as blocks, which both formats call text alike."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
