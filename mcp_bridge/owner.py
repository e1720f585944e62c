"""The owner of one upstream connection: one task that opens it when it is first needed, and alone enters and leaves it.

Starts lazily and once for all who wait, again after a crash or a lost session, with back-off while it fails; ends an
idle connection. Knows nothing of what is asked over it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_bridge.feed import Feed
from mcp_bridge.ways import OverConnection
from registry.egress.http import OpenPermit
from registry.errors import HubError, UpstreamTimeout, UpstreamUnavailable
from registry.gate import Permit
from registry.judged import JsonObject

if TYPE_CHECKING:
    from mcp_bridge.connection import Connection, Events
    from mcp_bridge.listener import Listener
    from mcp_bridge.wire import Request

logger = logging.getLogger(__name__)

CONNECT_S = 60.0
"""How long start and handshake may take: `npx` and `uvx` may have to install first."""

DRAIN_S = 60.0
"""How long the calls under way may keep a connection that is replaced."""

STOP_S = 10.0
MAX_BACKOFF_S = 60.0

Connect = Callable[["Events"], AbstractAsyncContextManager["Connection"]]


@dataclass(eq=False, slots=True)
class _Live:
    """One connection's life."""

    ready: asyncio.Future[Connection]
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    calls: int = 0
    used_at: float = 0.0
    leave_at: float | None = None
    """When it ends even if calls are under way; None: it is wanted."""
    ended: bool = False
    answered: bool = False

    def end(self) -> None:
        """Note that the connection carries nothing more."""
        self.ended = True
        self.changed.set()


class Owner:
    """Keeps at most one wanted connection to one server."""

    def __init__(
        self,
        name: str,
        connect: Connect,
        *,
        idle_s: float,
        starting: asyncio.Semaphore,
        admit: Callable[[], Permit],
        lists_changed: Callable[[], None],
    ) -> None:
        """`admit` lets the hub itself ask the server something."""
        self.starts = 0
        """Connections opened so far."""
        self.name = name
        """The server's."""
        self.feed = Feed(name, OverConnection(name, self.connection, admit, self._broken), lists_changed=lists_changed)
        """What the server tells over the connection; while somebody hears of a resource, it is never idle."""
        self._connect = connect
        self._idle_s = idle_s
        self._starting = starting
        self._live: _Live | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._not_before = 0.0
        self._stopped = False

    @property
    def is_open(self) -> bool:
        """Whether a connection is open, or being opened or drained."""
        return bool(self._tasks)

    async def connection(self) -> Connection:
        """Return the open connection, opening it if need be; raises `UpstreamError`."""
        return (await self._ensure()).ready.result()

    async def request(self, request: Request, permit: OpenPermit, listener: Listener | None = None) -> JsonObject:
        """Send one request; a connection found lost is rebuilt and the request, not executed yet, sent once more.

        Raises:
            UpstreamFault: the server answered with an error.
            UpstreamError: no connection or no answer.
        """
        from mcp_bridge.connection import Lost  # noqa: PLC0415 - loads the SDK, which costs a second

        for _ in range(2):
            live = await self._ensure()
            live.calls += 1
            try:
                result = await live.ready.result().request(request, permit, listener)
            except Lost:
                self._retire(live, DRAIN_S)
            else:
                live.answered = True
                self._failures = 0
                return result
            finally:
                live.calls -= 1
                live.used_at = asyncio.get_running_loop().time()
                live.changed.set()
        raise UpstreamUnavailable(permit.entry_name, "it forgets every session")

    async def notify(self, method: str) -> None:
        """Send a notification over the connection, if it is open."""
        live = self._live
        if live is not None and live.ready.done() and not live.ended and live.ready.exception() is None:
            await live.ready.result().notify(method)

    async def stop(self, *, drain_s: float = 0.0) -> None:
        """End the connection for good, giving calls under way `drain_s` seconds."""
        self._stopped = True
        await self.feed.stop()
        if self._live is not None:
            self._retire(self._live, drain_s)
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=drain_s + STOP_S)
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished, timeout=STOP_S)

    async def _ensure(self) -> _Live:
        live = self._live
        if live is not None and live.ended:
            self._retire(live, DRAIN_S)
            live = None
        if live is None:
            live = self._start()
        await asyncio.shield(live.ready)
        return live

    def _start(self) -> _Live:
        loop = asyncio.get_running_loop()
        if self._stopped:
            raise UpstreamUnavailable(self.name, "it was switched off or replaced")
        if loop.time() < self._not_before:
            raise UpstreamUnavailable(self.name, "it failed several times and is left alone for a moment")
        live = self._live = _Live(loop.create_future())
        live.ready.add_done_callback(_retrieve)
        live.task = loop.create_task(self._run(live), name=f"connection to {self.name}")
        self._tasks.add(live.task)
        live.task.add_done_callback(self._tasks.discard)
        return live

    async def _run(self, live: _Live) -> None:
        """Open, hold and close one connection. A boundary: whatever goes wrong in it is one server's trouble."""
        from mcp_bridge.connection import Events  # noqa: PLC0415 - loads the SDK, which costs a second

        assert live.task is not None
        deadline = asyncio.get_running_loop().call_later(CONNECT_S, live.task.cancel)
        failure: HubError = UpstreamUnavailable(self.name, "it ended before the handshake was done")
        try:
            async with AsyncExitStack() as stack:
                async with self._starting:
                    events = Events(ended=live.end, told=self.feed.told, deaf=lambda: self._deaf(live))
                    opening = self._connect(events)
                    connection = await stack.enter_async_context(opening)
                deadline.cancel()
                self.starts += 1
                live.used_at = asyncio.get_running_loop().time()
                live.ready.set_result(connection)
                logger.info("upstream connected", extra={"server": self.name})
                await self._wait(live)
                self._forget(live)
        except HubError as error:
            failure = error
        except asyncio.CancelledError:
            failure = UpstreamTimeout(self.name, "it did not start in time")
        except Exception as error:  # noqa: BLE001 - the SDK ends a broken connection with an exception group
            logger.warning("upstream connection broke", extra={"server": self.name, "reason": type(error).__name__})
        finally:
            deadline.cancel()
            self._finished(live, failure)

    async def _wait(self, live: _Live) -> None:
        """Return when the connection has ended, is idle for long, or is no longer wanted and drained."""
        loop = asyncio.get_running_loop()
        while not live.ended:
            live.changed.clear()
            if live.leave_at is not None:
                left = live.leave_at - loop.time() if live.calls else 0.0
            else:
                busy = live.calls or self.feed.is_watching
                left = self._idle_s if busy else live.used_at + self._idle_s - loop.time()
            if left <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await live.changed.wait()

    def _broken(self) -> None:
        self.feed.broken()

    def _deaf(self, live: _Live) -> None:
        """Replace a connection over which nothing is heard any more, if somebody listens."""
        if self.feed.is_watching and not live.ended:
            self._retire(live, DRAIN_S)

    def _forget(self, live: _Live) -> None:
        """Want a connection no more."""
        if self._live is live:
            self._live = None
            self.feed.broken()

    def _retire(self, live: _Live, drain_s: float) -> None:
        self._forget(live)
        live.leave_at = asyncio.get_running_loop().time() + drain_s
        live.changed.set()
        if not live.ready.done() and live.task is not None:
            live.task.cancel()  # still starting; nobody's call would be drained

    def _finished(self, live: _Live, failure: HubError) -> None:
        self._forget(live)
        if not live.ready.done():
            live.ready.set_exception(failure)
            logger.warning("upstream not available", extra={"server": self.name, "reason": failure.text})
        elif live.answered or not live.ended:
            return
        self._failures += 1
        if self._failures > 1:
            pause = min(MAX_BACKOFF_S, 2.0 ** (self._failures - 2))
            self._not_before = asyncio.get_running_loop().time() + pause


def _retrieve(ready: asyncio.Future[Connection]) -> None:
    """A failure that nobody waits for any more is in the log."""
    if not ready.cancelled():
        ready.exception()
