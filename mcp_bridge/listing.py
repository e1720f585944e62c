"""What a server's `tools/list` pages become: tools under their exposed names, a bad one set apart alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mcp_bridge.naming import exposed_name
from registry.errors import CallerError
from registry.judged import JsonObject, RawObject, decode, read_array, read_object
from registry.registry import Listed

MAX_TOOL_BYTES = 256 * 1024
"""A description larger than this would fill a model's context by itself."""

MAX_NAME = 128
"""Longest tool name of the specification (SEP-986)."""


class BadTool(Exception):
    """The tool cannot be offered; the text says why."""


def read_page(result: RawObject) -> tuple[list[msgspec.Raw], str | None]:
    """Split one page into its tools and the next cursor; an empty string is a cursor, None ends.

    Raises:
        InvalidRequest, ParseFailed: it is no page of tools.
    """
    tools = read_array(result.get("tools", msgspec.Raw(b"null")), "tools")
    cursor = decode(result["nextCursor"]) if "nextCursor" in result else None
    return tools, cursor if isinstance(cursor, str) else None


def listed(server: str, tools: Sequence[msgspec.Raw]) -> list[Listed]:
    """Judge each tool by itself; a quarantined one keeps its place and says why."""
    found: list[Listed] = []
    seen: set[str] = set()
    for position, raw in enumerate(tools):
        description = bytes(raw)
        name = f"#{position + 1}"
        try:
            name = _name(raw, position)
            _check(raw)
            reason = None
        except BadTool as bad:
            reason = str(bad)
        if name in seen:
            name, reason = f"{name}#{position + 1}", "the server lists this name twice"
        seen.add(name)
        kept = description if reason is None else b"{}"
        found.append(Listed(name=name, exposed=exposed_name(server, name), description=kept, quarantined=reason))
    return found


def _name(raw: msgspec.Raw, position: int) -> str:
    try:
        name = decode(read_object(raw).get("name", msgspec.Raw(b"null")))
    except CallerError:
        raise BadTool(f"entry {position + 1} is not an object") from None
    if not isinstance(name, str) or not name or len(name) > MAX_NAME or not name.isprintable():
        raise BadTool(f"its name must be 1 to {MAX_NAME} printable characters")
    return name


def _check(raw: msgspec.Raw) -> None:
    if len(bytes(raw)) > MAX_TOOL_BYTES:
        raise BadTool(f"its description is larger than {MAX_TOOL_BYTES // 1024} KiB")
    try:
        tool: JsonObject = decode(raw)
    except CallerError:
        raise BadTool("it is nested too deeply") from None
    schema = tool.get("inputSchema")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise BadTool('its inputSchema must be an object with "type": "object"')
    if not isinstance(tool.get("outputSchema", {}), dict):
        raise BadTool("its outputSchema must be an object")
    for member in ("title", "description"):
        if not isinstance(tool.get(member, ""), str):
            raise BadTool(f"its {member} must be a string")
