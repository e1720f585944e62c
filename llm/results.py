"""From MCP's CallToolResult to what a model is told. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from registry.judged import JsonObject

MAX_CHARACTERS = 100_000
"""About 25,000 tokens: more of one result crowds out the conversation and costs money at every later round."""


def told(result: JsonObject) -> str:
    """Say a result in text: its texts, or its structured content when it has none, and notes for what is no text."""
    content = result.get("content")
    items = content if isinstance(content, list) else []
    parts = list(_parts(items))
    structured = result.get("structuredContent")
    if structured is not None and not any(_is_text(item) for item in items):
        parts.insert(0, msgspec.json.encode(structured).decode())
    return cut("\n".join(parts) or "(the tool gave no output)")


def blocks(result: JsonObject) -> list[JsonObject]:
    """Its content blocks, for models that take more than text."""
    content = result.get("content")
    return [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []


def cut(text: str) -> str:
    """Shorten a result that is too large, and say so."""
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]}\n[cut here: {len(text) - MAX_CHARACTERS} of {len(text)} characters are left out]"


def _is_text(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == "text" and bool(item.get("text"))


def _parts(content: list[Any]) -> Iterator[str]:
    for item in content:
        if isinstance(item, dict):
            yield _part(item)


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
