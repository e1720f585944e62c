"""Who hears of changes, and of what: streams of `subscriptions/listen`, and the sessions of older clients.

A change of the catalog is told to those whose own list became another by it, what a server says of a resource to those
who subscribed to it. What waits for a slow client is a set, so that nobody's slowness costs anybody else anything.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

import msgspec

from mcp_bridge.dispatch import Dispatch
from mcp_bridge.feed import backoff
from mcp_bridge.listener import NOTHING, Front
from mcp_bridge.listening import CAPABILITIES, LIST_CHANGED, LISTS, MAX_TASKS, UPDATED, Filter
from mcp_bridge.pool import Pool
from mcp_bridge.sync import INTERVAL_S
from mcp_bridge.task_watch import TOLD, watch
from mcp_bridge.tasks import Task
from mcp_bridge.views import View
from mcp_bridge.wire import Request
from registry.access import Grants
from registry.catalog import Catalog
from registry.entries import Resource
from registry.errors import HubError, InvalidParams, MethodNotFound, NotFound, Overloaded
from registry.gate import Gate, Permit
from registry.identity import Principal
from registry.judged import JsonObject, RawObject
from registry.registry import Registry

MAX_STREAMS = 64
"""Streams that one principal may have open."""

MAX_SUBSCRIPTIONS = 1024
"""Resources that one principal may be subscribed to, on all its streams and sessions."""

MAX_WAITING = 256
"""URIs that may wait for a slow client beside those it named: of more, only what it named is told."""

TRIES, RETRY_S = 10, 1.0
"""How often keys that cannot be read are read again, until those who listen with them are sent away."""

_NO_META: RawObject = {}


class Hearer(NamedTuple):
    """Who wants to hear, and where."""

    principal: Principal
    path: str
    searches: bool
    front: Front | None = None
    """The session of an older client; None: a stream of 2026-07-28."""
    capabilities: msgspec.Raw = NOTHING
    """What a server may ask of that session's client."""
    meta: RawObject = _NO_META
    """Of the request that opened the stream."""


class Subscriber:
    """One client that is told of changes."""

    def __init__(self, hearer: Hearer, lists: frozenset[str]) -> None:
        self.hearer = hearer
        self.principal = hearer.principal
        self.lists = lists
        self.seen: Mapping[str, bytes] = {}
        """What its lists were when they were last compared."""
        self.watches: dict[str, asyncio.Task[None]] = {}
        """The resources that it subscribed to, by the URIs that it sees."""
        self.tasks: dict[str, asyncio.Task[None]] = {}
        """The tasks that it hears of, by the ids that it knows."""
        self.is_over = False
        self._news: dict[str, JsonObject] = {}
        self._waiting: dict[tuple[str, str], None] = {}
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.follow(hearer.principal)

    def follow(self, principal: Principal) -> None:
        """Go on with what the key may now; at its end it is over."""
        self.principal = principal
        if self._timer is not None:
            self._timer.cancel()
        if principal.expires_at is not None:
            left = max(0.0, principal.expires_at - time.time())
            self._timer = asyncio.get_running_loop().call_later(left, self.end)

    def put(self, method: str, uri: str = "", *, named: str = "") -> None:
        """Have a notification told, once; of a resource `uri`, which the client `named` so or by a URI above it."""
        if len(self._waiting) >= MAX_WAITING:
            uri = named
        self._waiting.setdefault((method, uri))
        self._changed.set()

    def put_task(self, handle: str, task: JsonObject) -> None:
        """Have it told what a task is now, whatever it was before."""
        self._news[handle] = task
        self._waiting.setdefault((TOLD, handle))
        self._changed.set()

    async def next(self) -> tuple[str, JsonObject] | None:
        """The next notification's method and params, waiting for it; None: it is over."""
        while not self._waiting and not self.is_over:
            self._changed.clear()
            await self._changed.wait()
        if self.is_over:
            return None
        method, uri = next(iter(self._waiting))
        del self._waiting[method, uri]
        if method == TOLD:
            return method, self._news.pop(uri)
        return method, {"uri": uri} if uri else {}

    def unsubscribe(self, uri: str) -> None:
        """Hear no more of a resource; nothing happens if it was not subscribed to."""
        task = self.watches.pop(uri, None)
        if task is not None:
            task.cancel()

    def end(self) -> None:
        """Tell nothing more."""
        self.is_over = True
        self._changed.set()
        if self._timer is not None:
            self._timer.cancel()
        for uri in list(self.watches):
            self.unsubscribe(uri)
        for watching in list(self.tasks.values()):
            watching.cancel()


class Subscriptions:
    """All who listen."""

    def __init__(self, registry: Registry, *, dispatch: Dispatch, pool: Pool, gate: Gate) -> None:
        self._registry = registry
        self._dispatch = dispatch
        self._pool = pool
        self._gate = gate
        self._subscribers: set[Subscriber] = set()
        self._listening: Counter[str] = Counter()
        """How many of them each principal has."""
        self._changed = asyncio.Event()
        self._unsure: set[str] | None = set()
        """Principals whose keys have to be looked at; None: all."""
        self._catalog_turned = asyncio.Event()
        self._draining = False
        registry.subscribe(self._catalog_changed)
        registry.keys.subscribe(self._key_changed)

    async def run(self) -> None:
        """Tell of changes until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S if self._dispatch.serves_accounts else None):
                    await self._changed.wait()
            self._changed.clear()
            await self._look_at_keys()
            await self._compare()

    @contextmanager
    def listening(self, hearer: Hearer, wanted: Filter) -> Iterator[tuple[Subscriber, Filter]]:
        """Open a stream; yields what of `wanted` is told on it. Waits for no server.

        Raises:
            Overloaded: the principal has too many.
            RateLimited: its pace.
        """
        mine = self._of(hearer.principal)
        if sum(one.hearer.front is None for one in mine) >= MAX_STREAMS:
            raise Overloaded(f"This key has {MAX_STREAMS} streams of notifications open; close some.")
        if sum(len(one.watches) for one in mine) + len(wanted.uris) > MAX_SUBSCRIPTIONS:
            raise Overloaded(f"This key has {MAX_SUBSCRIPTIONS} subscriptions to resources; end some.")
        if sum(len(one.tasks) for one in mine) + len(wanted.tasks) > MAX_TASKS:
            raise Overloaded(f"This key hears of {MAX_TASKS} tasks; wait for the end of some.")
        view = self._dispatch.view(hearer.principal, hearer.path)
        offered = {method for member, method in LISTS.items() if view.offers(CAPABILITIES[member])}
        resources = {uri: found for uri in wanted.uris if (found := _subscribable(view, uri)) is not None}
        tasks = {one.handle: one for one in self._tasks(wanted, view, hearer.principal)}
        honoured = Filter(wanted.lists & offered, tuple(resources), tuple(tasks))
        within = None
        for named in (*resources.values(), *(one.tool for one in tasks.values())):
            with self._gate.admit(hearer.principal, named, within=within) as within:  # one request of the client's
                within.check({})
        subscriber = self.join(hearer, honoured.lists)
        try:
            for uri in resources:
                self._watch(subscriber, uri)
            for handle in tasks:
                assert within is not None, "its tool was admitted"
                self._watch_task(subscriber, handle, within)
            yield subscriber, honoured
        finally:
            self.leave(subscriber)

    def join(self, hearer: Hearer, lists: frozenset[str] = LIST_CHANGED) -> Subscriber:
        """Tell a client of changes of `lists` until it leaves; raises `Overloaded` when the hub is stopping."""
        if self._draining:
            raise Overloaded("The hub is stopping.")
        subscriber = Subscriber(hearer, lists)
        subscriber.seen = self._digests(subscriber)
        self._subscribers.add(subscriber)
        self._listening[hearer.principal.id] += 1
        if self._unsure is not None:  # its key may have been revoked since the request came
            self._unsure.add(hearer.principal.id)
        self._changed.set()
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a client."""
        subscriber.end()
        if subscriber not in self._subscribers:
            return
        self._subscribers.remove(subscriber)
        principal = subscriber.principal
        self._listening[principal.id] -= 1
        if not self._listening[principal.id]:
            del self._listening[principal.id]
            if not self._draining:
                self._dispatch.renew(principal)  # servers need not tell it any more

    def listens(self, principal_id: str) -> bool:
        """Whether a principal has a stream or session that is told of changes."""
        return principal_id in self._listening

    async def subscribe(self, subscriber: Subscriber, uri: str, *, request_id: str) -> None:
        """Tell a client of a resource too, once its server has agreed.

        Raises:
            NotFound: the caller is shown no such resource.
            MethodNotFound: its server tells nothing of resources.
            Overloaded: the client has too many subscriptions.
            UpstreamError: the server did not agree.
        """
        view = self._dispatch.view(subscriber.principal, subscriber.hearer.path)
        resource = view.resource(uri)
        if _subscribable(view, uri) is None:
            raise MethodNotFound("resources/subscribe")
        held = sum(len(one.watches) for one in self._of(subscriber.principal))
        if uri not in subscriber.watches and held >= MAX_SUBSCRIPTIONS:
            raise Overloaded(f"This key has {MAX_SUBSCRIPTIONS} subscriptions to resources; end some.")
        with self._gate.admit(subscriber.principal, resource, request_id=request_id) as permit:
            await permit.judge({"uri": uri}, screening=True)
            if uri in subscriber.watches:
                return
            try:
                await self._watch(subscriber, uri)
            except BaseException:
                subscriber.unsubscribe(uri)
                raise

    def drain(self) -> None:
        """End all: the hub is stopping."""
        self._draining = True
        for subscriber in self._subscribers:
            subscriber.end()

    def _of(self, principal: Principal) -> list[Subscriber]:
        return [one for one in self._subscribers if one.principal.id == principal.id]

    def _tasks(self, wanted: Filter, view: View, principal: Principal) -> Iterator[Task]:
        for handle in wanted.tasks:
            with suppress(InvalidParams):
                yield self._dispatch.tasks.open(handle, view, principal)

    def _watch_task(self, subscriber: Subscriber, handle: str, within: Permit) -> None:
        def sight() -> tuple[Principal, View]:
            return subscriber.principal, self._dispatch.view(subscriber.principal, subscriber.hearer.path)

        request = Request(method="tasks/get", meta=subscriber.hearer.meta, name=handle)
        watching = watch(
            self._dispatch, sight, request, within=within, tell=lambda task: subscriber.put_task(handle, task)
        )
        task = subscriber.tasks[handle] = asyncio.get_running_loop().create_task(watching, name="watch of a task")
        task.add_done_callback(lambda _: subscriber.tasks.pop(handle, None))

    def _watch(self, subscriber: Subscriber, uri: str) -> asyncio.Future[None]:
        """Begin to hear of a resource; the result is there when its server has agreed, or refused."""
        loop = asyncio.get_running_loop()
        first: asyncio.Future[None] = loop.create_future()
        first.add_done_callback(_retrieve)
        subscriber.watches[uri] = loop.create_task(self._follow(subscriber, uri, first), name=f"watch of {uri[:80]}")
        return first

    async def _follow(self, subscriber: Subscriber, uri: str, first: asyncio.Future[None]) -> None:
        """Hear of a resource for as long as it is wanted; again when its server went, failed or was replaced."""
        failures = 0
        while True:
            turned = self._catalog_turned
            try:
                await self._heard(subscriber, uri, first)
                failures = 0
            except HubError as error:
                if not first.done():
                    first.set_exception(error)
                failures += 1
                try:
                    async with asyncio.timeout(backoff(failures)):
                        await turned.wait()
                except TimeoutError:
                    pass

    async def _heard(self, subscriber: Subscriber, uri: str, first: asyncio.Future[None]) -> None:
        """Hear of a resource from its server as that is now; raises `HubError`."""
        hearer = subscriber.hearer
        resource = self._dispatch.view(subscriber.principal, hearer.path).resource(uri)
        server = self._registry.catalog.servers[resource.server]
        upstream = self._pool.upstream(server, subscriber.principal)
        feed = await upstream.feed(subscriber.principal, hearer.front, hearer.capabilities)
        with feed.watching(resource.name, self._teller(subscriber, resource, uri)) as watch:
            await watch.ready
            if first.done():  # something may have been missed
                subscriber.put(UPDATED, uri, named=uri)
            else:
                first.set_result(None)
            await watch.ended.wait()

    def _teller(self, subscriber: Subscriber, resource: Resource, named: str) -> Callable[[str], None]:
        def tell(own: str) -> None:
            uri = named
            if own != resource.name:  # below what was subscribed to (2026-07-28, Resources, Subscriptions)
                try:
                    view = self._dispatch.view(subscriber.principal, subscriber.hearer.path)
                    uri = view.shown_uri(resource.server, own)
                    view.resource(uri)
                except NotFound:
                    return
            subscriber.put(UPDATED, uri, named=named)

        return tell

    def _digests(self, subscriber: Subscriber) -> Mapping[str, bytes]:
        searches = subscriber.hearer.searches
        try:
            view = self._dispatch.view(subscriber.principal, subscriber.hearer.path)
        except NotFound:
            return {}
        return {method: view.digest(CAPABILITIES[member], searches=searches) for member, method in LISTS.items()}

    async def _compare(self) -> None:
        """Tell those whose lists are others now."""
        known: dict[tuple[Grants, str, bool, str], Mapping[str, bytes]] = {}
        number = self._registry.catalog.number
        if self._dispatch.serves_accounts:
            for principal in {one.principal.id: one.principal for one in self._subscribers}.values():
                self._dispatch.renew(principal)
        for subscriber in list(self._subscribers):
            if self._registry.catalog.number != number:  # it turned meanwhile, and everybody is looked at again
                return
            principal, hearer = subscriber.principal, subscriber.hearer
            own = principal.id if self._dispatch.has_own_lists(principal) else ""
            key = (principal.grants, hearer.path, hearer.searches, own)
            if key not in known:
                await asyncio.sleep(0)  # a view may be large
                known[key] = self._digests(subscriber)
            for method in subscriber.lists:
                if subscriber.seen.get(method) != known[key].get(method):
                    subscriber.put(method)
            subscriber.seen = known[key]

    async def _look_at_keys(self) -> None:
        """End those whose key was revoked, and let the others do what theirs may now."""
        unsure, self._unsure = self._unsure, set()
        doubted = [one for one in self._subscribers if unsure is None or one.principal.id in unsure]
        living = await self._living({one.principal.id for one in doubted}) if doubted else {}
        for subscriber in doubted:
            principal = living.get(subscriber.principal.id)
            if principal is None:
                subscriber.end()
                continue
            subscriber.follow(principal)
            for uri in list(subscriber.watches):
                if not self._may_read(subscriber, uri):
                    subscriber.unsubscribe(uri)

    async def _living(self, ids: Collection[str]) -> Mapping[str, Principal]:
        """Those whose keys are valid; nobody's is known to be when keys cannot be read for long."""
        for _ in range(TRIES):
            try:
                return await self._registry.keys.living(ids)
            except Overloaded:
                await asyncio.sleep(RETRY_S)
        return {}

    def _may_read(self, subscriber: Subscriber, uri: str) -> bool:
        try:
            self._dispatch.view(subscriber.principal, subscriber.hearer.path).resource(uri)
        except NotFound:
            return False
        return True

    def own_lists_changed(self) -> None:
        """Tell those of whom servers have other lists now."""
        self._changed.set()

    def _catalog_changed(self, _old: Catalog, _new: Catalog) -> None:
        turned, self._catalog_turned = self._catalog_turned, asyncio.Event()
        turned.set()
        self._changed.set()

    def _key_changed(self) -> None:
        self._unsure = None
        self._changed.set()


def _subscribable(view: View, uri: str) -> Resource | None:
    """The resource, if the caller may read it and its server tells of changes."""
    try:
        found = view.resource(uri)
    except NotFound:
        return None
    return found if view.has(found.server, "resources.subscribe") else None


def _retrieve(first: asyncio.Future[None]) -> None:
    """Nobody waits for it, when it is one of a stream's."""
    if not first.cancelled():
        first.exception()
