"""Keeps the catalog's tool lists true: asks each server for its tools at start, when it changes, and now and then.

Runs in the background; no caller's list ever waits for it. A failed fetch never replaces a good listing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress

import msgspec

from mcp_bridge.listing import listed, read_page
from mcp_bridge.pool import Pool
from mcp_bridge.wire import Request
from registry.catalog import Catalog
from registry.entries import Server
from registry.errors import CallerError, HubError, NotFound, UpstreamInvalid, UpstreamTimeout
from registry.gate import Gate, Permit
from registry.identity import HUB
from registry.judged import encode
from registry.registry import Registry

logger = logging.getLogger(__name__)

LIST_S = 30.0
"""How long all pages of one server may take, once it is connected; its start may take CONNECT_S more."""

INTERVAL_S = 300.0
RETRY_S = 2.0
"""After the first failure; doubled up to INTERVAL_S."""

MAX_PAGES = 100


class Sync:
    """Lists the tools of every server in the catalog."""

    def __init__(self, registry: Registry, *, gate: Gate, pool: Pool) -> None:
        self._registry = registry
        self._gate = gate
        self._pool = pool
        self._catalog_changed = asyncio.Event()
        self._nudged: dict[str, asyncio.Event] = {}
        self._followed: dict[str, tuple[Server, asyncio.Task[None]]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._empty_once: set[str] = set()
        registry.subscribe(self._notice)
        pool.tools_changed = self._nudge

    async def run(self) -> None:
        """Follow every server until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._catalog_changed.clear()
                self._follow_catalog(group)
                await self._catalog_changed.wait()

    async def refresh(self, name: str) -> int:
        """List one server's tools now and return how many it offers.

        Raises:
            NotFound: no such server.
            UpstreamError: it cannot be listed; what is known of it stays.
        """
        async with self._locks.setdefault(name, asyncio.Lock()):
            # looked up within: one that was switched off meanwhile must not be connected to any more
            server = self._registry.catalog.servers.get(name)
            if server is None:
                raise NotFound("server", name)
            with self._gate.admit(HUB, server) as permit:
                tools = listed(name, await self._fetch(server, permit))
            current = self._registry.catalog
            if current.servers.get(name) != server:
                raise UpstreamInvalid(name, "it changed while it was listed")
            if tools or self._may_empty(current, name):
                await self._registry.set_listing(name, tools)
        for tool in tools:
            if tool.quarantined is not None:
                logger.warning(
                    "tool quarantined", extra={"server": name, "tool": tool.name, "reason": tool.quarantined}
                )
        return sum(tool.quarantined is None for tool in tools)

    def _may_empty(self, catalog: Catalog, name: str) -> bool:
        """Whether to believe that a server has no tools: at once if it had none, else when it says so twice."""
        had_none = all(tool.server != name for tool in catalog.tools.values())
        if had_none or name in self._empty_once:
            self._empty_once.discard(name)
            return True
        self._empty_once.add(name)
        return False

    async def _fetch(self, server: Server, permit: Permit) -> list[msgspec.Raw]:
        upstream = self._pool.upstream(server)
        await upstream.ready()
        try:
            async with asyncio.timeout(LIST_S):
                tools: list[msgspec.Raw] = []
                cursors: set[str] = set()
                cursor: str | None = None
                for _ in range(MAX_PAGES):
                    params = {} if cursor is None else {"cursor": msgspec.Raw(encode(cursor))}
                    answer = await upstream.request(Request(method="tools/list", params=params), permit)
                    if answer.result is None:
                        raise UpstreamInvalid(server.name, "it answered tools/list with an error")
                    page, cursor = read_page(answer.result)
                    tools += page
                    if cursor is None or cursor in cursors:
                        return tools
                    cursors.add(cursor)
                return tools
        except TimeoutError:
            raise UpstreamTimeout(server.name, "it did not list its tools in time") from None
        except CallerError:
            raise UpstreamInvalid(server.name, "its tool list is not MCP") from None

    async def _follow(self, server: Server) -> None:
        """List one server again and again. A boundary: nothing that a server does may end another's sync."""
        nudged = self._nudged[server.name]
        retry = RETRY_S
        while True:
            nudged.clear()
            try:
                await self.refresh(server.name)
                pause, retry = INTERVAL_S, RETRY_S
            except HubError as error:
                logger.warning("tools not listed", extra={"server": server.name, "reason": error.text})
                pause, retry = retry, min(retry * 2, INTERVAL_S)
            except Exception:
                logger.exception("listing tools failed", extra={"server": server.name})
                pause = INTERVAL_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.9, 1.1)):  # noqa: S311 - jitter, no secret
                    await nudged.wait()

    def _follow_catalog(self, group: asyncio.TaskGroup) -> None:
        servers = self._registry.catalog.servers
        for name, (server, task) in list(self._followed.items()):
            if servers.get(name) != server:
                task.cancel()
                del self._followed[name], self._nudged[name]
                self._empty_once.discard(name)
        for name, server in servers.items():
            if name not in self._followed and server.unavailable is None:
                self._nudged[name] = asyncio.Event()
                self._followed[name] = server, group.create_task(self._follow(server), name=f"tools of {name}")

    def _notice(self, old: Catalog, new: Catalog) -> None:
        if old.servers != new.servers:
            self._catalog_changed.set()

    def _nudge(self, name: str) -> None:
        nudged = self._nudged.get(name)
        if nudged is not None:
            nudged.set()
