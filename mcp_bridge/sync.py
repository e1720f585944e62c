"""Keeps the catalog's lists true: asks each server for what it offers at start, when it changes, and now and then.

Runs in the background; a caller's list waits for a server's first one alone, and not for long. A failed fetch never
replaces a good listing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import msgspec

from mcp_bridge.consent import invitation
from mcp_bridge.listing import LISTS, ListMethod, introduction, left_out, listed, read_page
from mcp_bridge.pool import Pool
from mcp_bridge.upstream import Upstream
from mcp_bridge.wire import METHOD_NOT_FOUND, Request
from registry.catalog import Catalog
from registry.entries import Feature, ListedKind, Server
from registry.errors import (
    CallerError,
    HubError,
    NotFound,
    UpstreamError,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamTimeout,
)
from registry.gate import Gate, Permit
from registry.identity import HUB, Principal
from registry.judged import JsonObject, encode
from registry.registry import Registry
from registry.trust.listings import Listed

logger = logging.getLogger(__name__)

LIST_S = 30.0
"""How long all pages of one server may take, once it is connected; its start may take CONNECT_S more."""

INTERVAL_S = 300.0
RETRY_S = 2.0
"""After the first failure; doubled up to INTERVAL_S."""

QUIET_S = 0.1
"""How long a server that says that its lists changed may say so again before they are asked for."""

MAX_QUIET_S = 10.0
"""The same for one that said so several times in vain."""

FIRST_S = 5.0
"""How long requests wait for the first list of a server, counted from when the hub came to know it: one that never lists holds up
those of its first seconds, and no later one."""

Found = Mapping[ListedKind, Sequence[Listed]]
"""What was listed of each kind; a kind that could not be listed is absent."""

MAX_PAGES = 100
MAX_THINGS = 10_000
MAX_BYTES = 16 * 1024 * 1024
"""How much is read of one list. Every caller's view has its share of it, and so have the bytes of their lists."""


class Sync:
    """Lists the tools of every server in the catalog."""

    def __init__(self, registry: Registry, *, gate: Gate, pool: Pool) -> None:
        self.first: dict[str, asyncio.Future[None]] = {}
        """By name, the end of the first listing of servers of which no list is known; it comes within FIRST_S, well or not."""
        self._registry = registry
        self._gate = gate
        self._pool = pool
        self._catalog_changed = asyncio.Event()
        self._nudged: dict[str, asyncio.Event] = {}
        self._followed: dict[str, tuple[Server, asyncio.Task[None]]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._empty_once: set[str] = set()
        registry.subscribe(self._notice)
        pool.lists_changed = self._nudge

    async def run(self) -> None:
        """Follow every server until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._catalog_changed.clear()
                self._follow_catalog(group)
                await self._catalog_changed.wait()

    async def ask(
        self, server: Server, principal: Principal = HUB, *, follows: bool = True
    ) -> tuple[Found, UpstreamError | None]:
        """List a server as a principal: what it has of each kind, and why the rest could not be listed.

        `follows`: have it say when that changes, if it can.

        Raises:
            UpstreamError: nothing can be listed.
        """
        with self._gate.admit(HUB, server) as permit:
            upstream = self._pool.upstream(server, principal)
            asked = await _Asking.begin(upstream, permit)
            failure = await asked.everything()
        if asked.tells:
            upstream.follow_lists(follows)
        return asked.found, failure

    async def refresh(self, name: str) -> int:
        """List what one server offers everybody now and return how many things.

        One that lists to accounts only is listed as a tool that leads to such.

        Raises:
            NotFound: no such server.
            UpstreamError: some of it cannot be listed; what is known of that stays.
        """
        try:
            return await self._refresh(name)
        finally:
            self._end_first(name)

    async def _refresh(self, name: str) -> int:
        async with self._locks.setdefault(name, asyncio.Lock()):
            # looked up within: one that was switched off meanwhile must not be connected to any more
            server = self._registry.catalog.servers.get(name)
            if server is None:
                raise NotFound("server", name)
            try:
                found, failure = await self.ask(server)
            except UpstreamRefused as error:
                if not server.serves_accounts:
                    raise
                found, failure = {}, error
            own: list[Listed] = []
            if isinstance(failure, UpstreamRefused) and server.serves_accounts:
                own = [invitation(name)]
                found = {**{kind: [] for kind in LISTS}, **found, "tool": []}
            current = self._registry.catalog
            if current.servers.get(name) != server:
                raise UpstreamInvalid(name, "it changed while it was listed")
            rows = [one for things in found.values() for one in things]
            if own or self._may_empty(name, found):
                rows = await self._registry.set_listing(name, rows, kinds=found.keys(), own=own)
        for one in rows_quarantined(rows):
            extra = {"server": name, "kind": one.kind, "thing": one.name, "reason": one.quarantined}
            logger.warning("quarantined", extra=extra)
        if failure is not None:
            raise failure
        return sum(one.quarantined is None and one.kind != "server" for one in rows)

    def _may_empty(self, name: str, found: Mapping[ListedKind, Sequence[Listed]]) -> bool:
        """Whether to believe that a server has none of a kind: at once if it had none, else when it says so twice."""
        catalog = self._registry.catalog
        known: Mapping[ListedKind, Mapping[str, Feature]] = {
            "tool": catalog.tools,
            "prompt": catalog.prompts,
            "resource": catalog.resources,
            "template": catalog.templates,
        }
        emptied = any(
            kind in found and not found[kind] and any(one.server == name for one in features.values())
            for kind, features in known.items()
        )
        if not emptied or name in self._empty_once:
            self._empty_once.discard(name)
            return True
        self._empty_once.add(name)
        return False

    async def _follow(self, server: Server) -> None:
        """List one server again and again. A boundary: nothing that a server does may end another's sync."""
        nudged = self._nudged[server.name]
        retry, quiet = RETRY_S, QUIET_S
        while True:
            nudged.clear()
            before = self._registry.catalog.number
            try:
                await self.refresh(server.name)
                pause, retry = RETRY_S if server.name in self._empty_once else INTERVAL_S, RETRY_S
            except HubError as error:
                logger.warning("not listed", extra={"server": server.name, "reason": error.text})
                pause, retry = retry, min(retry * 2, INTERVAL_S)
            except Exception:
                logger.exception("listing failed", extra={"server": server.name})
                pause = INTERVAL_S
            quiet = QUIET_S if self._registry.catalog.number != before else min(quiet * 2, MAX_QUIET_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.9, 1.1)):  # noqa: S311 - jitter, no secret
                    await nudged.wait()
            if not nudged.is_set():
                quiet = QUIET_S
            await asyncio.sleep(quiet)

    def _follow_catalog(self, group: asyncio.TaskGroup) -> None:
        servers = self._registry.catalog.servers
        for name, (server, task) in list(self._followed.items()):
            if servers.get(name) != server:
                task.cancel()
                del self._followed[name], self._nudged[name]
                self._empty_once.discard(name)
                self._end_first(name)
        known = _listed_servers(self._registry.catalog)
        for name, server in servers.items():
            if name not in self._followed and server.unavailable is None:
                if name not in known:
                    self._begin_first(name)
                self._nudged[name] = asyncio.Event()
                self._followed[name] = server, group.create_task(self._follow(server), name=f"lists of {name}")

    def _begin_first(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        ended = self.first[name] = loop.create_future()
        timer = loop.call_later(FIRST_S, self._end_first, name)
        ended.add_done_callback(lambda _: timer.cancel())

    def _end_first(self, name: str) -> None:
        ended = self.first.pop(name, None)
        if ended is not None:
            ended.set_result(None)

    def _notice(self, old: Catalog, new: Catalog) -> None:
        if old.servers != new.servers:
            self._catalog_changed.set()

    def _nudge(self, name: str) -> None:
        nudged = self._nudged.get(name)
        if nudged is not None:
            nudged.set()


class _Asking:
    """One server being asked for all that it has."""

    def __init__(self, upstream: Upstream, permit: Permit, said: JsonObject) -> None:
        self.found: dict[ListedKind, list[Listed]] = {"server": [introduction(upstream.server.name, said)]}
        """What was listed of each kind; a kind that could not be listed is absent."""
        self._upstream = upstream
        self._permit = permit
        self._capabilities = said.get("capabilities")

    @classmethod
    async def begin(cls, upstream: Upstream, permit: Permit) -> _Asking:
        """Connect, and hear what the server says of itself; raises `UpstreamError`."""
        await upstream.ready()
        return cls(upstream, permit, await upstream.introduction(permit))

    async def everything(self) -> UpstreamError | None:
        """List every kind that the server says it has; returns why the first that failed did."""
        name, failure = self._upstream.server.name, None
        try:
            async with asyncio.timeout(LIST_S):
                for kind, of in LISTS.items():
                    try:
                        things, cut = await self._pages(of) if self._has(of.capability) else ([], None)
                        rest = [left_out(name, cut, kind)] if cut is not None else []
                        self.found[kind] = [*listed(name, things, kind), *rest]
                    except UpstreamError as error:
                        failure = failure or error
                    except CallerError:
                        failure = failure or UpstreamInvalid(name, f"its answer to {of.method} is not MCP")
        except TimeoutError:
            return failure or UpstreamTimeout(name, "it did not list all that it has in time")
        return failure

    async def tools(self) -> list[Listed]:
        """List nothing but the tools; raises `UpstreamError`."""
        name = self._upstream.server.name
        try:
            async with asyncio.timeout(LIST_S):
                things, _ = await self._pages(LISTS["tool"])
        except CallerError:
            raise UpstreamInvalid(name, "its answer to tools/list is not MCP") from None
        except TimeoutError:
            raise UpstreamTimeout(name, "it did not list its tools in time") from None
        return listed(name, things, "tool")

    @property
    def tells(self) -> bool:
        """Whether the server says that it tells when its lists change."""
        said = self._capabilities if isinstance(self._capabilities, dict) else {}
        return any(isinstance(one, dict) and one.get("listChanged") is True for one in said.values())

    def _has(self, capability: str) -> bool:
        """Whether to ask; one that says nothing of itself is asked for tools."""
        said = self._capabilities if isinstance(self._capabilities, dict) else {}
        return capability in said or (capability == "tools" and not said.keys() & {"prompts", "resources"})

    async def _pages(self, of: ListMethod) -> tuple[list[msgspec.Raw], str | None]:
        """What a list holds, and why the rest of it is left out; None: that is all."""
        things: list[msgspec.Raw] = []
        size = 0
        cursors: set[str] = set()
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            params = {} if cursor is None else {"cursor": msgspec.Raw(encode(cursor))}
            answer = await self._upstream.request(Request(method=of.method, params=params), self._permit)
            if answer.result is None:
                if answer.error_code == METHOD_NOT_FOUND:  # some declare resources and know no templates
                    return things, None
                raise UpstreamInvalid(self._upstream.server.name, f"it answered {of.method} with an error")
            page, cursor = read_page(answer.result, of.member)
            for thing in page:
                size += len(bytes(thing))
                if len(things) == MAX_THINGS:
                    return things, f"the list is longer than {MAX_THINGS:,}, and is read no further"
                if size > MAX_BYTES:
                    return things, f"the list is larger than {MAX_BYTES // 1024:,} KiB, and is read no further"
                things.append(thing)
            if cursor is None:
                return things, None
            if cursor in cursors:
                return things, "the list goes in a circle: the server gave a cursor twice"
            cursors.add(cursor)
        return things, f"the list goes on after {MAX_PAGES} pages, and is read no further"


def _listed_servers(catalog: Catalog) -> frozenset[str]:
    """The servers of which a list is known, perhaps of an earlier run; one that lists to accounts alone has no introduction."""
    return frozenset(catalog.introductions) | {tool.server for tool in catalog.tools.values()}


async def tools_of(upstream: Upstream, permit: Permit) -> list[Listed]:
    """The tools of a server that is nobody's but its caller's, each judged by itself; raises `UpstreamError`."""
    asked = await _Asking.begin(upstream, permit)
    return await asked.tools()


def rows_quarantined(rows: Sequence[Listed]) -> Iterator[Listed]:
    """What was listed and is not offered."""
    return (one for one in rows if one.quarantined is not None)
