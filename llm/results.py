"""From MCP's CallToolResult to what a model is told. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from registry.judged import JsonObject

MAX_CHARACTERS = 100_000
"""About 25,000 tokens: more of one result crowds out the conversation and costs money at every later round."""


def told(result: JsonObject, takes: Collection[str] = ()) -> str:
    """Say a result in text: its texts, or its structured content when it has none, and notes for what is no text.

    `takes` are the kinds of content blocks that the model is given beside the text.
    """
    content = result.get("content")
    items = content if isinstance(content, list) else []
    parts = list(_parts(items, takes))
    structured = result.get("structuredContent")
    if structured is not None and not any(_is_text(item) for item in items):
        parts.insert(0, msgspec.json.encode(structured).decode())
    return "\n".join(parts) or "(the tool gave no output)"


def media(result: JsonObject, takes: Collection[str]) -> list[JsonObject]:
    """Its content blocks of the kinds that the model takes, `image` or `audio`."""
    content = result.get("content")
    blocks = content if isinstance(content, list) else []
    return [block for block in blocks if isinstance(block, dict) and _is_media(block, takes)]


def _is_media(block: JsonObject, takes: Collection[str]) -> bool:
    return block.get("type") in takes and isinstance(block.get("data"), str) and isinstance(block.get("mimeType"), str)


def cut(text: str, call_id: str) -> str:
    """Shorten a result that is too large, and say how its reader gets the rest."""
    if len(text) <= MAX_CHARACTERS:
        return text
    rest = f'{len(text) - MAX_CHARACTERS} of {len(text)} characters are left out; hub__read_result(id="{call_id}", '
    return f"{text[:MAX_CHARACTERS]}\n[cut here: {rest}offset={MAX_CHARACTERS}) reads on]"


def _is_text(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == "text" and bool(item.get("text"))


def _parts(content: list[Any], takes: Collection[str]) -> Iterator[str]:
    for item in content:
        if isinstance(item, dict):
            yield f"[{item['type']} {item['mimeType']}: given with this]" if _is_media(item, takes) else _part(item)


def _part(item: JsonObject) -> str:
    kind = item.get("type")
    if kind == "text":
        return str(item.get("text") or "")
    if kind == "resource_link":
        return f"[resource {item.get('name')}: {item.get('uri')}]"
    if kind == "resource":
        resource = item.get("resource")
        resource = resource if isinstance(resource, dict) else {}
        text = resource.get("text")
        return str(text) if isinstance(text, str) else f"[resource {resource.get('uri')}, {resource.get('mimeType')}]"
    return f"[{kind} {item.get('mimeType')}: not shown to the model]"
