"""Which tools of the hub a request's sources offer to its caller."""

from __future__ import annotations

from collections.abc import Sequence

from llm.ports import ToolExecutor
from llm.types import Listing, Offer, OfferedTool, ToolSource
from registry.access import MAX_GRANT_CHARS, Grant, Grants
from registry.errors import InvalidRequest
from registry.identity import Principal

MAX_SOURCES = 64
MAX_GLOBS = 1000
"""Of one source. Each is tried on each tool, by the one event loop that serves all callers."""


def offered(tools: ToolExecutor, principal: Principal, *, sources: Sequence[ToolSource]) -> list[Listing]:
    """The tools of each source, each tool once; raises `InvalidRequest` for a source without any."""
    if len(sources) > MAX_SOURCES:
        raise InvalidRequest(f"a request may have {MAX_SOURCES} tool sources", member="tools")
    listings: list[Listing] = []
    seen: set[str] = set()
    for source in sources:
        allowed = _globs(source)
        usable = [tool for tool in tools.offered(principal, source.name) if _is_allowed(tool, allowed)]
        if not usable:
            raise InvalidRequest(f"tool source {source.url!r} has no tools for this request", member="tools")
        new = [tool for tool in usable if tool.exposed not in seen]
        seen.update(tool.exposed for tool in new)
        listings.append(Listing(source, [Offer(tool, source.label or tool.server) for tool in new]))
    return listings


def _globs(source: ToolSource) -> Grants | None:
    """The source's own narrowing, in the language of grants: it takes linear time and keeps nothing of a caller's."""
    if source.allowed is None:
        return None
    if len(source.allowed) > MAX_GLOBS or any(len(glob) > MAX_GRANT_CHARS for glob in source.allowed):
        text = f"{MAX_GLOBS} names of at most {MAX_GRANT_CHARS} characters"
        raise InvalidRequest(f"allowed_tools of tool source {source.url!r} may hold {text}", member="tools")
    return Grants(tuple(Grant("tool", glob) for glob in source.allowed))


def _is_allowed(tool: OfferedTool, globs: Grants | None) -> bool:
    return globs is None or globs.allow("tool", tool.name) or globs.allow("tool", tool.exposed)
