"""What search mode reads and tells of a tool or a prompt, and how a prompt answers whoever calls it as a tool. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from registry.catalog import Catalog
from registry.entries import Feature, Prompt
from registry.errors import InvalidRequest, ParseFailed, UpstreamInvalid
from registry.judged import JsonObject, RawObject, decode, encode, read_array
from registry.search.finding import Findable

MAX_SUMMARY = 240
"""Characters of a description in what is found; `describe_tool` tells all."""


class _Told(msgspec.Struct):
    """What is looked at of a tool or prompt."""

    input_schema: msgspec.Raw = msgspec.field(name="inputSchema", default=msgspec.Raw(b"{}"))
    arguments: list[msgspec.Raw] = []
    description: str = ""
    title: str = ""


class _Parameter(NamedTuple):
    name: str
    description: object
    is_required: bool


_told = msgspec.json.Decoder(_Told)


def findable(name: str, feature: Feature) -> Findable:
    """What is searched: what it is called, what is said of it, and what is said of its parameters."""
    told = _told.decode(feature.description)
    words = [f"{one.name} {one.description or ''}" for one in _parameters(feature, told)]
    return Findable(name, f"{feature.server} {told.title}", told.description, " ".join(words))


def meanings(catalog: Catalog) -> Iterator[str]:
    """What says of each tool and prompt of the catalog what it means."""
    for features in (catalog.tools, catalog.prompts):
        for name, feature in features.items():
            yield findable(name, feature).text


def summary(name: str, feature: Feature) -> JsonObject:
    """What a search tells of what it found."""
    told = _told.decode(feature.description)
    text = " ".join(told.description.split())
    return {
        "kind": feature.kind,
        "name": name,
        "parameters": ", ".join(one.name if one.is_required else f"{one.name}?" for one in _parameters(feature, told)),
        "description": text if len(text) <= MAX_SUMMARY else f"{text[: MAX_SUMMARY - 1]}…",
    }


def _parameters(feature: Feature, told: _Told) -> list[_Parameter]:
    if isinstance(feature, Prompt):
        arguments: list[JsonObject] = [decode(raw) for raw in told.arguments]
        return [_Parameter(one["name"], one.get("description"), one.get("required") is True) for one in arguments]
    schema: JsonObject = decode(told.input_schema)
    properties, required = schema.get("properties"), schema.get("required")
    return [
        _Parameter(
            name,
            one.get("description") if isinstance(one, dict) else None,
            isinstance(required, list) and name in required,
        )
        for name, one in (properties.items() if isinstance(properties, dict) else ())
    ]


def as_tool_result(prompt: Prompt, result: RawObject) -> RawObject:
    """The result of `prompts/get` as that of a tool: the messages' contents, with who says them where several do.

    Raises:
        UpstreamInvalid: it has no messages.
    """
    if "messages" not in result:  # it asks for input first
        return result
    try:
        messages = [decode(raw) for raw in read_array(result["messages"], "messages")]
        said = [(message["role"], message["content"]) for message in messages]
    except (InvalidRequest, ParseFailed, KeyError, TypeError):
        raise UpstreamInvalid(prompt.grant_name, "its prompt is not MCP") from None
    roles = {str(role) for role, _ in said}
    content: list[object] = []
    for role, block in said:
        if len(roles) > 1:
            content.append({"type": "text", "text": f"{role}:"})
        content.append(block)
    kept = {member: raw for member, raw in result.items() if member not in {"messages", "description"}}
    return {**kept, "content": msgspec.Raw(encode(content))}
