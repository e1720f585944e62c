"""The hub's own calls in a conversation of Anthropic's format, as a model's turns: `mcp_tool_use` was a call, once. Pure.

A client sends back what it was answered: one assistant message with calls, their results and what the model said after
them. A model knows calls and results as messages of both sides, so such a message is taken apart at its results.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from llm.translate.whole import blocks, decoded
from registry import judged
from registry.judged import JsonObject

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME = 64


def sendable(messages: Sequence[object]) -> list[object]:
    """A conversation as a provider of Anthropic's format takes it; messages that it takes as they are stay raw.

    Calls of the hub are told as turns; thoughts that nobody signed, those of models of other formats, are left out.
    """
    if not any(_needs_change(message) for message in messages):
        return list(messages)
    return [_without_unsigned(message) for message in untangled(decoded(messages))]


def _needs_change(message: object) -> bool:
    text = bytes(message) if isinstance(message, msgspec.Raw) else judged.encode(message)
    return b"mcp_tool" in text or b'"thinking"' in text or b"\\u" in text


def _without_unsigned(message: JsonObject) -> JsonObject:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    kept = [block for block in content if _kind(block) != "thinking" or block.get("signature")]
    return message if len(kept) == len(content) else {**message, "content": kept}


def untangled(messages: Sequence[JsonObject]) -> list[JsonObject]:
    """The same conversation with `tool_use` and `tool_result` for `mcp_tool_use` and `mcp_tool_result`.

    Messages without such blocks are the same objects.
    """
    told: list[JsonObject] = []
    waiting: list[JsonObject] = []
    for message in messages:
        content = message.get("content")
        if waiting and message.get("role") == "user":  # results of the hub's go with those that the caller gives
            told.append({**message, "content": [*waiting, *blocks(content)]})
            waiting = []
            continue
        if waiting:
            told.append({"role": "user", "content": waiting})
            waiting = []
        if isinstance(content, list) and any(_kind(block) in _KINDS for block in content):
            *turns, waiting = _turns(content)
            told += _paired(turns)
        else:
            told.append(message)
    if waiting:
        told.append({"role": "user", "content": waiting})
    return told


_KINDS = frozenset({"mcp_tool_use", "mcp_tool_result", "mcp_tool_listing"})


def _kind(block: object) -> str | None:
    kind = block.get("type") if isinstance(block, dict) else None
    return kind if isinstance(kind, str) else None


def _turns(content: Sequence[JsonObject]) -> Iterator[list[JsonObject]]:
    """Yield what the model said and the results it was given, by turns; a last list of results, perhaps empty."""
    said: list[JsonObject] = []
    given: list[JsonObject] = []
    for block in content:
        kind = _kind(block)
        if kind == "mcp_tool_result":
            given.append(_result(block))
            continue
        if given:
            yield said
            yield given
            said, given = [], []
        if kind == "mcp_tool_use":
            said.append(_use(block))
        elif kind != "mcp_tool_listing":
            said.append(block)
    yield said
    yield given


def _paired(turns: Sequence[list[JsonObject]]) -> Iterator[JsonObject]:
    for number, turn in enumerate(turns):
        if turn:
            yield {"role": "user" if number % 2 else "assistant", "content": turn}


def _use(block: JsonObject) -> JsonObject:
    return {
        "type": "tool_use",
        "id": block.get("id"),
        "name": exposed(str(block.get("server_name")), str(block.get("name"))),
        "input": block.get("input") or {},
    }


def _result(block: JsonObject) -> JsonObject:
    result = {"type": "tool_result", "tool_use_id": block.get("tool_use_id"), "content": block.get("content") or ""}
    return {**result, "is_error": True} if block.get("is_error") else result


def exposed(server: str, name: str) -> str:
    """The name by which a model knew the tool. What a client sends back says no more than these two."""
    whole = name if "__" in name else f"{server}__{name}"
    return _NOT_IN_NAMES.sub("_", whole)[:_MAX_NAME]
