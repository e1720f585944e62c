"""Tool sources in a request's `tools`, told from the caller's own tools. Pure.

Those of type `mcp` name this hub, those of type `a2a` an agent of it.
"""

from __future__ import annotations

import re

import msgspec

from llm.demands import read_demand
from llm.types import ToolSource
from registry import judged
from registry.entries import Headers
from registry.errors import InvalidRequest
from registry.judged import RawObject
from registry.members import header_map

FOR_OTHERS = ("authorization", "headers")
"""Members of a source that sign in at servers elsewhere."""

TOOL_DECIDING = frozenset(
    {"type", "server_url", "server_label", "allowed_tools", "require_approval", "agent", *FOR_OTHERS}
)
"""Members of a tool on which the hub decides."""

NOT_OF_AGENTS = (*FOR_OTHERS, "connector_id", "server_url", "allowed_tools", "delegates")
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
    approval = read_demand(tool.get("require_approval"), url)
    allowed, read_only = _allowed(tool.get("allowed_tools"), url)
    foreign = _sent_along(tool, url) if is_elsewhere(url, public_url) else None
    for member in FOR_OTHERS if foreign is None else ():
        if member in tool:
            raise InvalidRequest(
                f"{member} of tool source {url!r}: tools of the hub are called as the hub's configuration says; "
                f"{member} belongs to servers elsewhere",
                member="tools",
            )
    for member in ("connector_id", "tunnel_id"):
        if member in tool:
            raise InvalidRequest(f"{member} of tool source {url!r} is not supported here", member="tools")
    name = None if foreign is not None else source_name(url, public_url)
    return ToolSource(
        url=url, name=name, allowed=allowed, read_only=read_only, label=label, foreign=foreign, approval=approval
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
    label = judged.read_string(tool, "server_label")
    approval = read_demand(tool.get("require_approval"), url)
    return ToolSource(url=url, name=AGENTS, allowed=(name,), label=label, approval=approval)


def is_elsewhere(url: str, public_url: str) -> bool:
    """Whether an address is another server's than this hub."""
    own = public_url.rstrip("/")
    return url.startswith(("http://", "https://")) and url != own and not url.startswith(f"{own}/")


def _sent_along(tool: RawObject, url: str) -> Headers:
    """The headers that a server elsewhere is sent: the caller's own, whoever they sign in."""
    found = judged.decode(tool["headers"]) if "headers" in tool else None
    headers = {} if found is None else found
    token = judged.read_string(tool, "authorization") if "authorization" in tool else None
    try:
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            raise ValueError("must be a map of texts")  # noqa: TRY301 - one refusal for all that is wrong
        if token is not None:
            headers = {**headers, "Authorization": f"Bearer {token}"}
        header_map(headers)
    except ValueError as error:
        raise InvalidRequest(f"headers of tool source {url!r}: {error}", member="tools") from None
    return tuple(headers.items())


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


def _allowed(raw: msgspec.Raw | None, url: str) -> tuple[tuple[str, ...] | None, bool]:
    """Read a list of names, or OpenAI's other form of it, `{"tool_names": [...], "read_only": true}`."""
    value = None if raw is None else judged.decode(raw)
    read_only = False
    if isinstance(value, dict) and value.keys() <= {"tool_names", "read_only"}:
        read_only = value.get("read_only", False)
        value = value.get("tool_names")
    if not isinstance(read_only, bool):
        raise InvalidRequest(f"read_only of tool source {url!r} must be true or false", member="tools")
    if value is None:
        return None, read_only
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InvalidRequest(f"allowed_tools of tool source {url!r} must be a list of names", member="tools")
    return tuple(value), read_only
