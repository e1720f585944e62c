"""Tool sources in a request's `tools`, told from the caller's own tools. Pure.

Those of type `mcp` name this hub, those of type `a2a` an agent of it.
"""

from __future__ import annotations

import re

import msgspec

from llm.types import ToolSource
from registry import judged
from registry.errors import InvalidRequest
from registry.judged import RawObject

TOOL_DECIDING = frozenset({"type", "server_url", "server_label", "allowed_tools", "require_approval", "agent"})
"""Members of a tool on which the hub decides."""

NOT_HONOURED = ("authorization", "connector_id", "headers")
"""Members of a source that would change whom the tools are called as, or which: refused rather than ignored."""

NOT_OF_AGENTS = (*NOT_HONOURED, "server_url", "allowed_tools", "delegates")
"""Members that a tool of type `a2a` does not have: what an agent may do is its configuration's to say."""

AGENTS = "agent"
"""The source that all agents as tools are; no server is called so (surface.md 6)."""

_AGENT = re.compile(r"[a-z][a-z0-9_-]{0,31}")

OWN_SOURCES = ("hub", "litellm_proxy")
"""Names for the hub itself in `server_url`; the second is LiteLLM's."""


def read_tools(raw: msgspec.Raw | None, public_url: str) -> tuple[tuple[ToolSource, ...], tuple[msgspec.Raw, ...]]:
    """Sort tools into sources and the caller's own; of a request without sources the latter are left where they are.

    Where no tool can read as `mcp` or `a2a` under any spelling, nothing is decided and nothing needs to be read.
    """
    if raw is None:
        return (), ()
    text = bytes(raw).lower()
    if b"mcp" not in text and b"a2a" not in text and b"\\u" not in text:
        return (), ()
    sources: list[ToolSource] = []
    own: list[msgspec.Raw] = []
    for item in judged.read_array(raw, "tools"):
        tool = judged.body(bytes(item), TOOL_DECIDING)
        judged.check_spelling(tool, TOOL_DECIDING)
        kind = judged.read_string(tool, "type")
        if kind == "mcp":
            sources.append(read_source(tool, public_url))
        elif kind == "a2a":
            sources.append(read_agent(tool))
        elif kind is not None and (meant := kind.strip().lower()) in {"mcp", "a2a"}:
            raise InvalidRequest(f"tool type {kind!r} is not known; write {meant!r}", member="tools")
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
    _check_approval(tool, url)
    return ToolSource(
        url=url, name=source_name(url, public_url), allowed=_allowed(tool.get("allowed_tools"), url), label=label
    )


def read_agent(tool: RawObject) -> ToolSource:
    """Read one tool of type `a2a`: an agent, which is one tool."""
    name = judged.read_string(tool, "agent")
    if not name or not _AGENT.fullmatch(name):
        raise InvalidRequest("a tool of type a2a needs agent, the name of an agent here", member="tools")
    url = f"agent/{name}"
    for member in NOT_OF_AGENTS:
        if member in tool:
            raise InvalidRequest(f"{member} does not belong to tool source {url!r}, which is one agent", member="tools")
    _check_approval(tool, url)
    return ToolSource(url=url, name=AGENTS, allowed=(name,), label=judged.read_string(tool, "server_label"))


def _check_approval(tool: RawObject, url: str) -> None:
    approval = None if "require_approval" not in tool else judged.decode(tool["require_approval"])
    if approval not in (None, "never"):
        raise InvalidRequest(
            f"require_approval of tool source {url!r} must be 'never' or absent: approvals are not supported here yet",
            member="tools",
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
