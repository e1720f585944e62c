"""What servers list for each principal's own account: shown to that principal alone, kept in memory, listed again by the clock of all lists.

Everybody else shares the views of the catalog, where such a server has what it lists for nobody.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from mcp_bridge.sync import INTERVAL_S
from mcp_bridge.views import View, Views
from registry.access import OF_SERVERS, SEPARATOR
from registry.assembly import with_lists
from registry.catalog import Catalog
from registry.entries import ListedKind, Server
from registry.errors import ConsentNeeded, HubError, NotFound
from registry.identity import Principal
from registry.registry import Registry
from registry.trust.listings import Listed

logger = logging.getLogger(__name__)

WAIT_S = 10.0
"""How long a caller waits for lists that were never read: after a restart, or when they were forgotten."""

WITHOUT_S = 30.0
"""How long a principal counts as one without an account, or a failed listing is left alone."""

QUIET_S = 1.0
"""How long a server that says that its lists changed may say so again before they are read."""

MAX_PRINCIPALS = 10_000
MAX_BYTES = 128 * 1024 * 1024
"""Whose lists are kept, and how much of them; those that were used longest ago are listed anew."""

MAX_LAID = 32
MAX_VIEWS = 4
"""Principals whose lists are laid over the catalog, and views of each: with thousands of tools, some megabytes."""

AT_ONCE = 8

Found = Mapping[ListedKind, Sequence[Listed]]


class Ask(Protocol):
    """How servers are listed."""

    async def __call__(self, server: Server, principal: Principal, *, follows: bool) -> tuple[Found, HubError | None]:
        """List a server with a principal's account: what it has of each kind, and why the rest could not be listed.

        `follows`: have it say when that changes.
        """


@dataclass(frozen=True, slots=True)
class _Lists:
    """What one server listed for one principal."""

    server: Server
    due: float
    """When it is to be listed again."""
    found: Found
    """Empty: the principal has no account there."""
    is_followed: bool
    """Whether the server was asked to say when they change: its principal listened."""

    @property
    def size(self) -> int:
        return sum(len(one.description) for things in self.found.values() for one in things)


@dataclass(frozen=True, slots=True)
class _Laid:
    """The catalog with one principal's lists."""

    made_of: Catalog
    catalog: Catalog
    """The same, if the principal has none."""
    views: Views = field(default_factory=lambda: Views(MAX_VIEWS))


class Personal:
    """The lists of servers that serve each user by their own account."""

    def __init__(self, registry: Registry, ask: Ask) -> None:
        self.servers: tuple[Server, ...] = ()
        """Those of the catalog; without any, nothing here has to be asked."""
        self.changed: Callable[[], None] = lambda: None
        """Called when somebody's lists became others, or may have."""
        self.listens: Callable[[str], bool] = lambda _principal_id: False
        """Whether a principal wants to hear when its lists change."""
        self._ask = ask
        self._registry = registry
        self._own: OrderedDict[str, dict[str, _Lists]] = OrderedDict()
        """By principal and server."""
        self._laid: OrderedDict[str, _Laid] = OrderedDict()
        self._size = 0
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._numbers = itertools.count()
        registry.subscribe(self._follow)

    def has(self, principal: Principal) -> bool:
        """Whether the principal may have a view of its own."""
        return principal.id in self._own

    def view(self, catalog: Catalog, principal: Principal, path: str) -> View | None:
        """The principal's own view of a path, made of `catalog`; None: it has none of its own. Raises `NotFound`."""
        own = self._own.get(principal.id)
        if own is None or not any(one.found for one in own.values()):
            return None
        self._own.move_to_end(principal.id)
        laid = self._laid.get(principal.id)
        if laid is None or laid.made_of is not catalog:
            known = (one for one in own.values() if one.found and one.server in self.servers)
            lists = {one.server.name: [*itertools.chain(*one.found.values())] for one in known}
            laid = _Laid(catalog, with_lists(catalog, lists, next(self._numbers)) if lists else catalog)
            self._laid[principal.id] = laid
            if len(self._laid) > MAX_LAID:
                self._laid.popitem(last=False)
        self._laid.move_to_end(principal.id)
        return None if laid.catalog is catalog else laid.views.of(laid.catalog, principal.grants, path)

    async def prepare(self, principal: Principal) -> None:
        """Wait a while for lists of the principal that were never read; those that are old are read meanwhile."""
        waiting = self.renew(principal)
        if waiting:
            await asyncio.wait(waiting, timeout=WAIT_S)

    def renew(self, principal: Principal) -> list[asyncio.Task[None]]:
        """Have old lists of the principal read again; returns the listings of what was never read."""
        own = self._own.get(principal.id)
        listens = self.listens(principal.id)
        now = time.monotonic()
        waiting = []
        for server in self.servers:
            known = own.get(server.name) if own is not None else None
            is_known = known is not None and known.server == server
            if is_known and known is not None and known.due > now and known.is_followed == listens:
                continue
            if any(principal.grants.reach(kind, f"{server.name}{SEPARATOR}") for kind in OF_SERVERS):
                listing = self._listing(server, principal)
                if not is_known:
                    waiting.append(listing)
        return waiting

    async def refresh(self, name: str, principal: Principal) -> None:
        """List a server for a principal that has just connected its account; raises `NotFound`."""
        server = next((one for one in self.servers if one.name == name), None)
        if server is None:
            raise NotFound("server", name)
        with suppress(KeyError):
            await asyncio.shield(self._running[principal.id, name])  # it began without the account
        await asyncio.shield(self._listing(server, principal))

    def lists_changed(self, name: str) -> None:
        """Have the lists of a server read again, for those who listen soon, else when they are next wanted: it said so."""
        for own in self._own.values():
            if name in own:
                own[name] = replace(own[name], due=0.0)
                self.changed()

    async def aclose(self) -> None:
        """Stop listing."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _listing(self, server: Server, principal: Principal) -> asyncio.Task[None]:
        """The one listing under way of a server for a principal."""
        key = principal.id, server.name
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._list(server, principal))
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return task

    async def _list(self, server: Server, principal: Principal) -> None:
        """List a server. A failure leaves what was known, except that the account is gone."""
        own = self._own.get(principal.id)
        before = own.get(server.name) if own is not None else None
        found: Found = before.found if before is not None and before.server == server else {}
        pause, follows = WITHOUT_S, self.listens(principal.id)
        try:
            if before is not None and not before.due:
                await asyncio.sleep(QUIET_S)
                before = self._own.get(principal.id, {}).get(server.name)
            async with self._at_once:
                new, failure = await self._ask(server, principal, follows=follows)
            judged = await self._registry.judge_own(server, new, principal)
            found = {**found, **{kind: [one for one in judged if one.kind == kind] for kind in new}}
            if failure is not None:
                raise failure
            pause = INTERVAL_S
        except ConsentNeeded:
            found = {}
        except HubError as error:
            logger.warning("not listed for a key", extra={"server": server.name, "reason": error.text})
        now = self._own.get(principal.id, {}).get(server.name)
        due = time.monotonic() + pause if now is before else 0.0  # it said meanwhile that they changed
        self._keep(principal.id, _Lists(server, due, found, follows))
        if not due or follows != self.listens(principal.id):
            self.changed()

    def _keep(self, principal_id: str, lists: _Lists) -> None:
        own = self._own.setdefault(principal_id, {})
        before = own.get(lists.server.name)
        self._size += lists.size - (before.size if before is not None else 0)
        own[lists.server.name] = lists
        self._own.move_to_end(principal_id)
        if (before.found if before is not None else {}) != lists.found:
            self._laid.pop(principal_id, None)
            self.changed()
        while len(self._own) > MAX_PRINCIPALS or (self._size > MAX_BYTES and len(self._own) > 1):
            forgotten, left = self._own.popitem(last=False)
            self._laid.pop(forgotten, None)
            self._size -= sum(one.size for one in left.values())

    def _follow(self, old: Catalog, new: Catalog) -> None:
        for server, approved_at in new.account_approvals.items():
            if old.account_approvals.get(server) != approved_at:
                self.lists_changed(server)
        self.servers = tuple(one for one in new.servers.values() if one.serves_accounts and one.unavailable is None)
