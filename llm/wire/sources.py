"""Tool sources in a request's `tools`: those of type `mcp` that name this hub, told from the caller's own tools. Pure."""

from __future__ import annotations

import msgspec

from llm.types import ToolSource
from registry import judged
from registry.errors import InvalidRequest
from registry.judged import RawObject

TOOL_DECIDING = frozenset({"type", "server_url", "server_label", "allowed_tools", "require_approval"})
"""Members of a tool on which the hub decides."""

NOT_HONOURED = ("authorization", "connector_id", "headers")
"""Members of a source that would change whom the tools are called as, or which: refused rather than ignored."""

OWN_SOURCES = ("hub", "litellm_proxy")
"""Names for the hub itself in `server_url`; the second is LiteLLM's."""


def read_tools(raw: msgspec.Raw | None, public_url: str) -> tuple[tuple[ToolSource, ...], tuple[msgspec.Raw, ...]]:
    """Sort tools into sources and the caller's own; of a request without sources the latter are left where they are.

    Where no tool can read as `mcp` under any spelling, nothing is decided and nothing needs to be read.
    """
    if raw is None:
        return (), ()
    text = bytes(raw)
    if b"mcp" not in text.lower() and b"\\u" not in text:
        return (), ()
    sources: list[ToolSource] = []
    own: list[msgspec.Raw] = []
    for item in judged.read_array(raw, "tools"):
        tool = judged.body(bytes(item), TOOL_DECIDING)
        judged.check_spelling(tool, TOOL_DECIDING)
        kind = judged.read_string(tool, "type")
        if kind == "mcp":
            sources.append(read_source(tool, public_url))
        elif kind is not None and kind.strip().lower() == "mcp":
            raise InvalidRequest(f"tool type {kind!r} is not known; write 'mcp'", member="tools")
        else:
            own.append(msgspec.Raw(judged.encode(tool)))
    return tuple(sources), tuple(own) if sources else ()


def read_source(tool: RawObject, public_url: str) -> ToolSource:
    """Read one tool of type `mcp`."""
    url = judged.read_string(tool, "server_url")
    if not url:
        raise InvalidRequest("a tool of type mcp needs server_url, for example 'hub/mcp/github'", member="tools")
    label = judged.read_string(tool, "server_label")
    for member in NOT_HONOURED:
        if member in tool:
            raise InvalidRequest(f"{member} of tool source {url!r} is not supported here", member="tools")
    approval = None if "require_approval" not in tool else judged.decode(tool["require_approval"])
    if approval not in (None, "never"):
        raise InvalidRequest(
            f"require_approval of tool source {url!r} must be 'never' or absent: approvals are not supported here yet",
            member="tools",
        )
    return ToolSource(
        url=url, name=source_name(url, public_url), allowed=_allowed(tool.get("allowed_tools"), url), label=label
    )


def source_name(url: str, public_url: str) -> str | None:
    """The server or toolset that an address of this hub means, None for all; raises `InvalidRequest` for another's."""
    trimmed = url.rstrip("/")
    for own in OWN_SOURCES:
        if trimmed in (own, f"{own}/mcp"):
            return None
    if trimmed == f"{public_url.rstrip('/')}/mcp":
        return None
    for own in (*OWN_SOURCES, public_url.rstrip("/")):
        name = trimmed.removeprefix(f"{own}/mcp/")
        if name != trimmed and name and "/" not in name:
            return name
    raise InvalidRequest(
        f"tool source {url!r} is not served here; write 'hub/mcp' or 'hub/mcp/{{name}}'", member="tools"
    )


def _allowed(raw: msgspec.Raw | None, url: str) -> tuple[str, ...] | None:
    """Read a list of names, or OpenAI's other form of it, `{"tool_names": [...]}`."""
    value = None if raw is None else judged.decode(raw)
    if isinstance(value, dict) and set(value) == {"tool_names"}:
        value = value["tool_names"]
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InvalidRequest(f"allowed_tools of tool source {url!r} must be a list of names", member="tools")
    return tuple(value)
