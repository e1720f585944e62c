"""Which tools of the hub a request's sources offer to its caller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from llm.ports import Guests, ToolExecutor
from llm.types import Guest, Listing, Offer, OfferedTool, ToolSource
from registry.access import MAX_GRANT_CHARS, matches
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
        allowed = _Allowed(source)
        guest = visits.get(source)
        all_tools = tools.offered(principal, source.name) if guest is None else guest.offered
        usable = [tool for tool in all_tools if allowed.has(tool) and _is_read_only(tool, source)]
        if not usable:
            raise InvalidRequest(f"tool source {source.url!r} has no tools for this request", member="tools")
        new = [tool for tool in usable if tool.exposed not in seen]
        seen.update(tool.exposed for tool in new)
        listings.append(Listing(source, [Offer(tool, source.label or tool.server, guest) for tool in new]))
    return listings


class _Allowed:
    """A source's own narrowing. Names are looked up; only globs are tried on every tool, in linear time each."""

    def __init__(self, source: ToolSource) -> None:
        allowed = source.allowed
        if allowed is not None and (len(allowed) > MAX_GLOBS or any(len(glob) > MAX_GRANT_CHARS for glob in allowed)):
            text = f"{MAX_GLOBS} names of at most {MAX_GRANT_CHARS} characters"
            raise InvalidRequest(f"allowed_tools of tool source {source.url!r} may hold {text}", member="tools")
        self._everything = allowed is None
        self._names = frozenset(allowed or ())
        self._denied = frozenset(source.denied)
        self._globs = [glob for glob in allowed or () if "*" in glob]

    def has(self, tool: OfferedTool) -> bool:
        """Whether the tool may be offered, under either of its names."""
        names = (tool.name, tool.exposed)
        return self._denied.isdisjoint(names) and (
            self._everything
            or not self._names.isdisjoint(names)
            or any(matches(glob, name) for glob in self._globs for name in names)
        )


def _is_read_only(tool: OfferedTool, source: ToolSource) -> bool:
    return not source.read_only or tool.annotations.get("readOnlyHint") is True
