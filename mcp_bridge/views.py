"""What one caller sees at one path of the MCP door: catalog, grants and path in; names, tools and encoded lists out. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from mcp_bridge.wire import HUB, META_SERVER
from registry.access import Grant, Grants
from registry.catalog import Catalog
from registry.entries import Presented, Tool, Toolset
from registry.errors import NotFound
from registry.judged import JsonObject, RawObject, decode, encode, read_object

AGGREGATE = ""
"""The path of all tools under their exposed names; any other path is a server's or a toolset's name."""

MAX_VIEWS = 64
"""Encoded lists kept: with 500 tools each, some 25 MB."""

TTL_MS = 60_000
"""How long a client may keep a list: many ignore list_changed, so it is short."""

_MODERN_HEAD = encode(
    {"resultType": "complete", "ttlMs": TTL_MS, "cacheScope": "private", "_meta": {META_SERVER: HUB}}
)[:-1]


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool as a chat offers it to its model."""

    server: str
    name: str
    """As its server calls it."""
    exposed: str
    description: str
    input_schema: JsonObject


class View:
    """The tools of one caller at one path, by the name shown there, in the catalog's order."""

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self.tools = tools

    @cached_property
    def modern_list(self) -> bytes:
        """The result of `tools/list` for 2026-07-28. One page: many clients never ask for a second."""
        tools = b",".join(encode(_named(name, tool)) for name, tool in self.tools.items())
        return b'%b,"tools":[%b]}' % (_MODERN_HEAD, tools)

    @cached_property
    def legacy_list(self) -> bytes:
        """The result of `tools/list` for 2025-11-25 and older."""
        tools = b",".join(encode(_for_legacy(_named(name, tool))) for name, tool in self.tools.items())
        return b'{"tools":[%b]}' % tools

    @cached_property
    def offered(self) -> tuple[Offered, ...]:
        """The tools for a chat, always under their exposed names."""
        return tuple(_offered(tool) for tool in self.tools.values())


def _offered(tool: Tool) -> Offered:
    described: JsonObject = decode(tool.description)
    return Offered(
        server=tool.server,
        name=tool.name,
        exposed=tool.exposed,
        description=described.get("description", ""),
        input_schema=described["inputSchema"],
    )


def _named(name: str, tool: Tool) -> RawObject:
    return {**read_object(tool.description), "name": msgspec.Raw(encode(name))}


def _for_legacy(tool: RawObject) -> RawObject:
    """Drop an output schema that is no object's: older clients fail on the whole list for it."""
    output = decode(tool["outputSchema"]) if "outputSchema" in tool else None
    if output is not None and not (isinstance(output, dict) and output.get("type") == "object"):
        del tool["outputSchema"]
    return tool


class Views:
    """The views in use, by caller's grants and path; all are dropped when the catalog changes."""

    def __init__(self) -> None:
        self._number = -1
        self._views: OrderedDict[tuple[Grants, str], View] = OrderedDict()

    def of(self, catalog: Catalog, grants: Grants, path: str = AGGREGATE) -> View:
        """Return the caller's view of `path`.

        Raises:
            NotFound: no server or toolset of that name, or the caller is granted nothing there.
        """
        if catalog.number != self._number:
            self._views.clear()
            self._number = catalog.number
        key = (grants, path)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = build(catalog, grants, path)
            if len(self._views) > MAX_VIEWS:
                self._views.popitem(last=False)
        else:
            self._views.move_to_end(key)
        return view


def build(catalog: Catalog, grants: Grants, path: str) -> View:
    """Put a view together; raises `NotFound` as `Views.of` does."""
    if path == AGGREGATE:
        return View({tool.exposed: tool for tool in _granted(catalog, grants)})
    if path in catalog.servers and grants.reach("tool", f"{path}__"):
        return View({tool.name: tool for tool in _granted(catalog, grants) if tool.server == path})
    toolset = catalog.toolsets.get(path)
    if toolset is not None and any(grants.reach("tool", name) for name in _beginnings(toolset)):
        return View(dict(_presented(toolset, _granted(catalog, grants))))
    raise NotFound("server", path)


def _beginnings(toolset: Toolset) -> Iterator[str]:
    """With what the names of a toolset's tools begin."""
    yield from (glob.partition("*")[0] for glob in toolset.tools)
    yield from (one.tool for one in toolset.presented)


def _presented(toolset: Toolset, tools: Iterable[Tool]) -> Iterator[tuple[str, Tool]]:
    """Those of `tools` that a toolset has, under the names and with the descriptions that it gives them."""
    chosen = Grants(tuple(Grant("tool", glob) for glob in toolset.tools))
    otherwise: dict[str, list[Presented]] = {}
    for one in toolset.presented:
        otherwise.setdefault(one.tool, []).append(one)
    for tool in tools:
        if tool.grant_name in otherwise:
            yield from ((one.alias or tool.exposed, _redescribed(tool, one)) for one in otherwise[tool.grant_name])
        elif chosen.allow("tool", tool.grant_name):
            yield tool.exposed, tool


def _redescribed(tool: Tool, presented: Presented) -> Tool:
    if presented.description is None:
        return tool
    described = {**read_object(tool.description), "description": msgspec.Raw(encode(presented.description))}
    return replace(tool, description=encode(described))


def _granted(catalog: Catalog, grants: Grants) -> Iterator[Tool]:
    return (tool for tool in catalog.tools.values() if grants.allow("tool", tool.grant_name))
