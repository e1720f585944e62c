"""What one caller sees at one path of the MCP door: catalog, grants and path in; names, tools and encoded lists out. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b

import msgspec

from mcp_bridge import agent_shapes
from mcp_bridge.listing import LISTS, MAX_NAME, MAX_URI
from mcp_bridge.naming import exposed_name
from mcp_bridge.search import Cost, Search, cost_of, is_wanted
from mcp_bridge.uris import exposed_meta_of, exposed_result, exposed_uri, split_uri
from mcp_bridge.wire import HUB, META_SERVER, MODERN, TASKS
from registry.access import OF_SERVERS, SEPARATOR, Grant, Grants
from registry.catalog import Catalog
from registry.entries import AgentTool, Feature, ListedKind, Presented, Prompt, Resource, Server, Tool, Toolset
from registry.errors import NotFound
from registry.judged import JsonObject, RawObject, decode, encode, read_object

AGENTS = f"{agent_shapes.SERVER}{SEPARATOR}"
"""With what the names of agents as tools begin."""

AGGREGATE = ""
"""The path of all tools under their exposed names; any other path is a server's or a toolset's name."""

MAX_EXCERPT = 300
MAX_EXCERPTS = 20
"""How much of what servers say of themselves a list of all of them begins with: it is in every model's context."""

MAX_VIEWS = 64
"""Encoded lists kept: with 500 tools each, some 25 MB."""

TTL_MS = 60_000
"""How long a client may keep a list: many ignore list_changed, so it is short."""

_MODERN: JsonObject = {"resultType": "complete", "ttlMs": TTL_MS, "cacheScope": "private"}


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool as a chat offers it to its model."""

    server: str
    name: str
    """As its server calls it."""
    exposed: str
    description: str
    input_schema: JsonObject
    annotations: JsonObject


@dataclass(frozen=True, slots=True)
class Sight:
    """What a view is made of, beside what is listed in it."""

    catalog: Catalog
    grants: Grants
    path: str
    about: str = ""
    """What a toolset's description says."""
    mode: str | None = None
    """How a toolset says that its tools are listed; None: it does not say."""


Features = Mapping[ListedKind, Mapping[str, Feature]]
"""What is listed, by the name or URI shown, in the catalog's order."""


class View:
    """What one caller may use at one path."""

    def __init__(self, sight: Sight, features: Features) -> None:
        self.tools: Mapping[str, Tool] = features["tool"]  # type: ignore[assignment]
        self._sight = sight
        self._features = features
        self._encoded: dict[tuple[str, bool], bytes] = {}
        self._digests: dict[tuple[str, bool], bytes] = {}
        self._server = sight.catalog.servers.get(sight.path)
        """The one server that is shown under its own names; None: the view is of several."""

    @cached_property
    def search(self) -> Search:
        """What stands for all tools in search mode, and leads to prompts too."""
        prompts: Mapping[str, Prompt] = self._features["prompt"]  # type: ignore[assignment]
        return Search(self.tools, prompts, self._described)

    def searches(self, header: bytes | None, mode: str | None) -> bool:
        """Whether a caller whose key says `mode` is served in search mode. A single server is always shown as it is.

        Raises:
            InvalidRequest: the header says something unknown.
        """
        return is_wanted(header, mode or self._sight.mode) and self._server is None

    @cached_property
    def search_list(self) -> bytes:
        """The result of `tools/list` in search mode, for 2026-07-28."""
        return _begun({}, is_modern=True) + b'"tools":%b}' % encode(self.search.listed())

    @cached_property
    def cost(self) -> Cost:
        """What the tools cost whoever puts their list before a model."""
        tools = (self._described("tool", name, tool) for name, tool in self.tools.items())
        return cost_of(tools, self.search if self._server is None else None)

    @property
    def whole_server(self) -> Server | None:
        """The one server that is shown, if all of it is granted: methods that the hub does not know may go there."""
        if self._server is not None and self._sight.grants.allow("server", self._server.name):
            return None if self._is_bad("server", self._server.name, self._server.name) else self._server
        return None

    def tool(self, name: str) -> Tool:
        """The tool shown as `name`; of a server that is granted whole any that is not hidden. Raises `NotFound`."""
        return self.tools.get(name) or self._unlisted_tool(name)

    def _unlisted_tool(self, shown: str) -> Tool:
        """A tool that is granted though it is not listed: of the whole server, or of one that lists to accounts only."""
        server, name = self.whole_server, shown
        if server is None:
            own, _, rest = shown.partition(SEPARATOR)
            server, name = (
                (self._server, shown) if self._server is not None else (self._sight.catalog.servers.get(own), rest)
            )
            if server is None or not server.serves_accounts or self._sight.path not in {AGGREGATE, server.name}:
                raise NotFound("tool", shown)
        tool = Tool(
            server=server.name,
            name=name,
            exposed=exposed_name(server.name, name),
            grant_name=f"{server.name}{SEPARATOR}{name}",
            description=b"",
        )
        if (
            not name
            or not server.offers_tool(name)
            or (server.quarantines and not server.serves_accounts)
            or len(name) > MAX_NAME
            or not self._sight.grants.allow("tool", tool.grant_name)
            or self._is_bad("tool", server.name, name)
        ):
            raise NotFound("tool", shown)
        return tool

    def prompt(self, name: str) -> Prompt:
        """The prompt shown as `name`; raises `NotFound`."""
        found = self._features["prompt"].get(name)
        if found is None:
            raise NotFound("prompt", name)
        assert isinstance(found, Prompt), "listed as one"
        return found

    def resource(self, uri: str) -> Resource:
        """What can be read under the URI shown, listed or not: links and templates lead to more. Raises `NotFound`."""
        found = self._features["resource"].get(uri)
        if found is None:
            found = self._unlisted(uri)
        assert isinstance(found, Resource), "listed as one"
        return found

    def template(self, uri: str) -> Feature:
        """The template shown as `uri`, or the resource of that URI; raises `NotFound`."""
        return self._features["template"].get(uri) or self.resource(uri)

    def has(self, server: str, capability: str) -> bool:
        """Whether a server said that it has it; one that was never reached may."""
        said = self._sight.catalog.introductions.get(server)
        return said is None or capability in said.capabilities

    def offers(self, capability: str) -> bool:
        """Whether anything of this kind can be asked for here."""
        return self.has(self._server.name if self._server is not None else "", capability)

    def digest(self, kind: str, *, searches: bool) -> bytes:
        """What the lists of `tools`, `prompts` or `resources` say, to be compared."""
        found = self._digests.get((kind, searches))
        if found is None:
            digest = blake2b(digest_size=16)
            if searches and kind == "tools":
                digest.update(self.search_list)
            else:
                for of, features in self._features.items():
                    if LISTS[of].capability == kind:
                        for shown, one in features.items():
                            digest.update(b"%b\0%b\0" % (shown.encode("utf-8", "surrogatepass"), one.description))
            found = self._digests[kind, searches] = digest.digest()
        return found

    def shown_uri(self, server: str, uri: str) -> str:
        """A server's own URI as it is shown here."""
        return uri if self._server is not None else exposed_uri(server, uri)

    def shown(self, callee: Feature | Server, result: RawObject) -> RawObject:
        """A result with the URIs under which the caller finds them here."""
        if self._server is not None or not isinstance(callee, Feature) or isinstance(callee, AgentTool):
            return result
        return exposed_result(callee.server, result)

    def modern(self, method: str) -> bytes:
        """The result of a list, or of `server/discover`, for 2026-07-28. One page: many clients ask for no second."""
        return self._encode(method, is_modern=True)

    def legacy(self, method: str) -> bytes:
        """The result of a list, or what is the view's own of `initialize`, for 2025-11-25 and older."""
        return self._encode(method, is_modern=False)

    def _encode(self, method: str, *, is_modern: bool) -> bytes:
        found = self._encoded.get((method, is_modern))
        if found is None:
            found = (
                self._list(method, is_modern=is_modern) if method in _KINDS else self._introduce(is_modern=is_modern)
            )
            self._encoded[method, is_modern] = found
        return found

    def _list(self, method: str, *, is_modern: bool) -> bytes:
        kind = _KINDS[method]
        of = LISTS[kind]
        things = (self._described(kind, name, one) for name, one in self._features[kind].items())
        encoded = b",".join(encode(one if is_modern else _for_legacy(one)) for one in things)
        meta = self.cost.meta if kind == "tool" else {}
        return _begun(meta, is_modern=is_modern) + b'"%b":[%b]}' % (of.member.encode(), encoded)

    def _described(self, kind: ListedKind, name: str, feature: Feature) -> RawObject:
        described = {**read_object(feature.description), LISTS[kind].key: msgspec.Raw(encode(name))}
        described.pop("execution", None)  # tasks of 2025-11-25 are not offered
        return described if self._server is not None else exposed_meta_of(feature.server, described)

    def _introduce(self, *, is_modern: bool) -> bytes:
        said: JsonObject = {"capabilities": self._capabilities()}
        if is_modern and self._makes_tasks():
            said["capabilities"]["extensions"] = {TASKS: {}}
        if instructions := self._instructions():
            said["instructions"] = instructions
        if is_modern:
            said["supportedVersions"] = [MODERN]
        return _begun({}, is_modern=is_modern) + encode(said)[1:]

    def _capabilities(self) -> JsonObject:
        """What can be asked for here, and what is told unasked; of one server, what it has."""
        said: JsonObject = {one: {"listChanged": True} for one in ("tools", "prompts", "resources") if self.offers(one)}
        if "resources" in said and any(self.has(name, "resources.subscribe") for name in self._reached()):
            said["resources"]["subscribe"] = True
        return said | ({"completions": {}} if self.offers("completions") else {})

    def _reached(self) -> Iterator[str]:
        """The servers whose resources may be read here."""
        if self._server is not None:
            return iter((self._server.name,))
        servers, grants = self._sight.catalog.servers, self._sight.grants
        return (name for name in servers if grants.reach("resource", f"{name}{SEPARATOR}") and self._leads_to(name))

    def _makes_tasks(self) -> bool:
        """Whether a call here may become a task: a server that was never reached may make some, and of several one."""
        said = self._sight.catalog.introductions.get(self._server.name) if self._server is not None else None
        return said is None or TASKS in said.extensions

    def _instructions(self) -> str:
        """What a model should know of what is here: of each server its own first words."""
        catalog = self._sight.catalog
        said = {name: one.instructions for name, one in catalog.introductions.items() if one.instructions}
        if self._server is not None:
            return said.get(self._server.name, "")
        shown = {one.server for features in self._features.values() for one in features.values()}
        parts = [f"{name}: {_cut(text)}" for name, text in said.items() if name in shown]
        return "\n\n".join(part for part in (self._sight.about, *parts[:MAX_EXCERPTS]) if part)

    def _unlisted(self, uri: str) -> Resource:
        server, own = self._where(uri)
        grant_name = f"{server}{SEPARATOR}{own}"
        if (
            len(own) > MAX_URI
            or not own.isprintable()
            or not self._sight.grants.allow("resource", grant_name)
            or not self.has(server, "resources")
            or self._is_bad("resource", server, own)
            or self._is_bad("server", server, server)
        ):
            raise NotFound("resource", uri)
        return Resource(
            server=server, name=own, exposed=exposed_uri(server, own), grant_name=grant_name, description=b""
        )

    def _where(self, uri: str) -> tuple[str, str]:
        """The server that a URI belongs to, and its own URI for it; raises `NotFound`."""
        if self._server is not None:
            return self._server.name, uri
        found = split_uri(uri)
        if found is None or found[0] not in self._sight.catalog.servers or not self._leads_to(found[0]):
            raise NotFound("resource", uri)
        return found

    def _leads_to(self, server: str) -> bool:
        """Whether resources of a server can be read here: in a toolset, those of its tools' servers."""
        return self._sight.path == AGGREGATE or any(tool.server == server for tool in self.tools.values())

    def _is_bad(self, kind: ListedKind, server: str, name: str) -> bool:
        return any((one.kind, one.server, one.name) == (kind, server, name) for one in self._sight.catalog.quarantined)

    @cached_property
    def offered(self) -> tuple[Offered, ...]:
        """The tools for a chat, always under their exposed names."""
        return tuple(offered(tool) for tool in self.tools.values())


_KINDS: Mapping[str, ListedKind] = {of.method: kind for kind, of in LISTS.items()}


def _begun(meta: JsonObject, *, is_modern: bool) -> bytes:
    """The beginning of a result, up to its own members."""
    if is_modern:
        return encode({**_MODERN, "_meta": {META_SERVER: HUB, **meta}})[:-1] + b","
    return encode({"_meta": meta})[:-1] + b"," if meta else b"{"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_EXCERPT else f"{text[: MAX_EXCERPT - 1]}…"


def offered(tool: Tool) -> Offered:
    """A tool as a chat offers it."""
    described: JsonObject = decode(tool.description)
    annotations = described.get("annotations")
    return Offered(
        server=tool.server,
        name=tool.name,
        exposed=tool.exposed,
        description=described.get("description", ""),
        input_schema=described["inputSchema"],
        annotations=annotations if isinstance(annotations, dict) else {},
    )


def _for_legacy(tool: RawObject) -> RawObject:
    """Drop an output schema that is no object's: older clients fail on the whole list for it."""
    output = decode(tool["outputSchema"]) if "outputSchema" in tool else None
    if output is not None and not (isinstance(output, dict) and output.get("type") == "object"):
        del tool["outputSchema"]
    return tool


class Views:
    """The views in use, by caller's grants and path; all are dropped when the catalog changes."""

    def __init__(self, limit: int = MAX_VIEWS) -> None:
        self._limit = limit
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
            if len(self._views) > self._limit:
                self._views.popitem(last=False)
        else:
            self._views.move_to_end(key)
        return view


def build(catalog: Catalog, grants: Grants, path: str) -> View:
    """Put a view together; raises `NotFound` as `Views.of` does."""
    sight = Sight(catalog, grants, path)
    if path == AGGREGATE:
        return View(sight, {kind: dict(_granted(grants, features)) for kind, features in _all(catalog).items()})
    if path in catalog.servers and any(grants.reach(kind, f"{path}{SEPARATOR}") for kind in OF_SERVERS):
        mine = {
            kind: {one.name: one for _, one in _granted(grants, features) if one.server == path}
            for kind, features in _all(catalog).items()
        }
        return View(sight, mine)
    toolset = catalog.toolsets.get(path)
    if toolset is not None and _reaches(grants, toolset):
        granted = (tool for tool in catalog.tools.values() if grants.allow(tool.kind, tool.grant_name))
        sight = Sight(catalog, grants, path, toolset.description or "", toolset.mode)
        tools = dict(_presented(toolset, granted))
        return View(sight, {"tool": tools, "prompt": {}, "resource": {}, "template": {}})
    raise NotFound("server", path)


def may_show(catalog: Catalog, grants: Grants, path: str, server: str) -> bool:
    """Whether something of a server may be shown at `path`, whatever the server lists."""
    begin = f"{server}{SEPARATOR}"
    if not any(grants.reach(kind, begin) for kind in OF_SERVERS):
        return False
    toolset = catalog.toolsets.get(path)
    if path in (AGGREGATE, server) or path in catalog.servers or toolset is None:
        return path in (AGGREGATE, server)
    chosen = Grants(tuple(Grant("tool", glob) for glob in toolset.tools))
    return chosen.reach("tool", begin) or any(one.tool.startswith(begin) for one in toolset.presented)


def cost_at(catalog: Catalog, grants: Grants, path: str = AGGREGATE) -> Cost:
    """What the view of `path` costs; nothing where nothing is granted."""
    try:
        return build(catalog, grants, path).cost
    except NotFound:
        return Cost(0, 0, None)


def _reaches(grants: Grants, toolset: Toolset) -> bool:
    """Whether a toolset may have a tool that is granted, now or later."""
    return any(
        grants.reach("tool", name)
        or (name.startswith(AGENTS) and grants.reach("agent", name.removeprefix(AGENTS)))
        or (AGENTS.startswith(name) and grants.reach("agent", ""))
        for name in _beginnings(toolset)
    )


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
        name = f"{tool.server}{SEPARATOR}{tool.name}"
        if name in otherwise:
            yield from ((one.alias or tool.exposed, _redescribed(tool, one)) for one in otherwise[name])
        elif chosen.allow("tool", name):
            yield tool.exposed, tool


def _redescribed(tool: Tool, presented: Presented) -> Tool:
    if presented.description is None:
        return tool
    described = {**read_object(tool.description), "description": msgspec.Raw(encode(presented.description))}
    return replace(tool, description=encode(described))


def _all(catalog: Catalog) -> Features:
    return {
        "tool": catalog.tools,
        "prompt": catalog.prompts,
        "resource": catalog.resources,
        "template": catalog.templates,
    }


def _granted(grants: Grants, features: Mapping[str, Feature]) -> Iterator[tuple[str, Feature]]:
    return ((shown, one) for shown, one in features.items() if grants.allow(one.kind, one.grant_name))
