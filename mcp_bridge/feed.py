"""What one server tells unasked, over one way to it, for all who want to hear: which resources changed, and which lists.

Kept open while somebody wants it, opened again with back-off when it breaks; whatever may have been missed meanwhile
counts as changed. Knows nothing of callers and grants.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple, Protocol

from mcp_bridge.listening import ACKNOWLEDGED, LIST_CHANGED, UPDATED, as_filter
from mcp_bridge.listing import MAX_URI
from mcp_bridge.modern import NotModern
from registry.errors import HubError, UpstreamUnavailable
from registry.judged import JsonObject

logger = logging.getLogger(__name__)

STEADY_S = 10.0
"""What broke before was open too shortly to be opened again at once."""

MAX_BACKOFF_S = 60.0

_MARKS = re.compile(r"[/#?]")

Tell = Callable[[str], None]
"""Called with the server's own URI of a resource that changed."""


def backoff(failures: int) -> float:
    """Seconds until the next attempt after so many failures."""
    return min(MAX_BACKOFF_S, 0.125 * (1 << min(failures, 10))) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret


class Wanted(NamedTuple):
    """What a server is to tell."""

    uris: frozenset[str]
    lists: bool

    @property
    def filter(self) -> JsonObject:
        """As a filter of `subscriptions/listen`."""
        return as_filter(LIST_CHANGED if self.lists else (), self.uris)


class Way(Protocol):
    """How a server is had to tell."""

    costs_nothing: bool
    """Whether it may be held for lists alone."""

    async def settle(self, wanted: Wanted) -> Mapping[str, HubError]:
        """Have the server tell exactly this; returns which URIs it refused. Raises `HubError`, `NotModern`."""

    def acknowledged(self) -> None:
        """The server says that it tells what was asked for."""

    async def rest(self) -> None:
        """Have it tell nothing."""

    async def close(self) -> None:
        """Let go of it at once."""


class Watch:
    """One who hears of one resource."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the server has agreed; `HubError` when it did not."""
        self.ready.add_done_callback(_retrieve)
        self.ended = asyncio.Event()
        """Nothing more comes this way."""

    def settle(self, refused: HubError | None) -> None:
        """Note whether the server agreed."""
        if self.ready.done():
            return
        if refused is None:
            self.ready.set_result(None)
        else:
            self.ready.set_exception(refused)


class Feed:
    """What one server tells over one way."""

    def __init__(self, name: str, way: Way, *, lists_changed: Callable[[], None]) -> None:
        self.way = way
        self._name = name
        self._lists_changed = lists_changed
        self._watches: dict[str, set[Watch]] = {}
        self._lists = False
        self._poked = asyncio.Event()
        self._is_broken = False
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def is_watching(self) -> bool:
        """Whether somebody wants to hear of a resource: the way must stay open."""
        return bool(self._watches)

    @contextmanager
    def watching(self, uri: str, tell: Tell) -> Iterator[Watch]:
        """Have `tell` hear of a resource; raises `UpstreamUnavailable` when the server is gone."""
        if self._stopped:
            raise UpstreamUnavailable(self._name, "it was switched off or replaced")
        watch = Watch(tell)
        self._watches.setdefault(uri, set()).add(watch)
        self._poke()
        try:
            yield watch
        finally:
            others = self._watches.get(uri, set())
            others.discard(watch)
            if not others:
                self._watches.pop(uri, None)
                self._poke()

    def follow_lists(self, wanted: bool) -> None:
        """Have the server tell when its lists change, if that costs nothing or the way is open anyway; or no more."""
        if not self._stopped and (wanted or self._lists):
            self._lists = wanted
            self._poke()

    def told(self, method: str, params: JsonObject) -> None:
        """Take a notification of the server's."""
        if method in LIST_CHANGED:
            self._lists_changed()
        elif method == ACKNOWLEDGED:
            self.way.acknowledged()
        elif method == UPDATED:
            uri = params.get("uri")
            if isinstance(uri, str) and len(uri) <= MAX_URI and uri.isprintable():
                for watched in _above(uri):
                    for watch in self._watches.get(watched, ()):
                        watch.tell(uri)

    def broken(self) -> None:
        """The way is open no more."""
        if self._task is not None and not self._task.done():
            self._is_broken = True
            self._poked.set()

    async def stop(self) -> None:
        """Tell nobody anything more."""
        self._stopped = True
        self._end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.way.close()

    def _end(self) -> None:
        """Send away all who hear; they ask the server anew."""
        for watches in self._watches.values():
            for watch in watches:
                watch.settle(UpstreamUnavailable(self._name, "it was switched off or replaced"))
                watch.ended.set()

    def _poke(self) -> None:
        self._poked.set()
        if (self._task is None or self._task.done()) and not self._stopped:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"feed of {self._name}")

    async def _run(self) -> None:
        failures = 0
        while not self._stopped:
            if not (self._watches or self._lists):
                await self.way.rest()
                if not (self._watches or self._lists):
                    return
            self._poked.clear()
            opened_at = asyncio.get_running_loop().time()
            try:
                await self._open()
            except NotModern:
                self._lists = False
                self._end()
                return
            except HubError as error:
                failures += 1
                self._failed(error)
            else:
                await self._poked.wait()
                if not self._is_broken:
                    continue
                failures = failures + 1 if asyncio.get_running_loop().time() - opened_at < STEADY_S else 1
                self._lists = self._lists and self.way.costs_nothing
            self._poked.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff(failures)):
                    await self._poked.wait()

    async def _open(self) -> None:
        """Have the server tell what is wanted now; raises `HubError`, `NotModern`."""
        missed, self._is_broken = self._is_broken, False
        try:
            wanted = Wanted(frozenset(self._watches), self._lists)
            refused = await self.way.settle(wanted)
        except HubError:
            self._is_broken = self._is_broken or missed
            raise
        for uri in wanted.uris & self._watches.keys():
            for watch in self._watches[uri]:
                watch.settle(refused.get(uri))
                if missed:
                    watch.tell(uri)
        if missed and self._lists:
            self._lists_changed()

    def _failed(self, error: HubError) -> None:
        """Those who heard already wait on; the others are told why they cannot."""
        logger.info("not told of changes", extra={"server": self._name, "reason": error.text})
        for watches in self._watches.values():
            for watch in watches:
                watch.settle(error)
        self._lists = self._lists and self.way.costs_nothing


def _above(uri: str) -> Iterator[str]:
    """A URI, and those of which it may be a part (2025-11-25 and later, Resources, Subscriptions)."""
    yield uri
    for mark in _MARKS.finditer(uri):
        yield uri[: mark.start()]
        if mark.end() < len(uri):
            yield uri[: mark.end()]


def _retrieve(ready: asyncio.Future[None]) -> None:
    """Nobody may wait for it any more."""
    if not ready.cancelled():
        ready.exception()
