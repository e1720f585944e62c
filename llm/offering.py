"""Which tools of the hub a request's sources offer to its caller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from llm.ports import Guests, ToolExecutor
from llm.types import Guest, Listing, Offer, OfferedTool, ToolSource
from registry.access import MAX_GRANT_CHARS, Grant, Grants
from registry.errors import InvalidRequest
from registry.identity import Principal

MAX_SOURCES = 64
MAX_FOREIGN = 8
MAX_GLOBS = 1000
"""Of one source. Each is tried on each tool, by the one event loop that serves all callers."""


Visits = Mapping[ToolSource, Guest]
"""Servers elsewhere that the request brought along."""


@asynccontextmanager
async def visits(guests: Guests, principal: Principal, sources: Sequence[ToolSource]) -> AsyncIterator[Visits]:
    """Let in the servers elsewhere for the length of a request; raises `InvalidRequest` for too many, and as `Guests`."""
    if len(sources) > MAX_SOURCES:
        raise InvalidRequest(f"a request may have {MAX_SOURCES} tool sources", member="tools")
    foreign = [source for source in sources if source.foreign is not None]
    if len(foreign) > MAX_FOREIGN:
        raise InvalidRequest(f"a request may bring along {MAX_FOREIGN} servers from elsewhere", member="tools")
    async with AsyncExitStack() as stack:
        found: dict[ToolSource, Guest] = {}
        for source in foreign:
            visit = guests.visit(principal, url=source.url, label=source.label, headers=source.foreign or ())
            found[source] = await stack.enter_async_context(visit)
        yield found


def offered(
    tools: ToolExecutor, principal: Principal, *, sources: Sequence[ToolSource], visits: Visits
) -> list[Listing]:
    """The tools of each source, each tool once; raises `InvalidRequest` for a source without any."""
    listings: list[Listing] = []
    seen: set[str] = set()
    for source in sources:
        allowed = _globs(source)
        guest = visits.get(source)
        all_tools = tools.offered(principal, source.name) if guest is None else guest.offered
        usable = [tool for tool in all_tools if _is_allowed(tool, allowed) and _is_read_only(tool, source)]
        if not usable:
            raise InvalidRequest(f"tool source {source.url!r} has no tools for this request", member="tools")
        new = [tool for tool in usable if tool.exposed not in seen]
        seen.update(tool.exposed for tool in new)
        listings.append(Listing(source, [Offer(tool, source.label or tool.server, guest) for tool in new]))
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


def _is_read_only(tool: OfferedTool, source: ToolSource) -> bool:
    return not source.read_only or tool.annotations.get("readOnlyHint") is True
