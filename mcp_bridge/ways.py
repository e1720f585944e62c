"""The ways on which a server is had to tell what changes, in its own revision (mcp.md 1.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from mcp_bridge.feed import Wanted
from mcp_bridge.wire import RESOURCE_NOT_FOUND, Request
from registry.errors import HubError, NotFound, UpstreamInvalid, UpstreamTimeout
from registry.gate import Permit
from registry.judged import JsonObject, encode

if TYPE_CHECKING:
    from mcp_bridge.connection import Connection, UpstreamFault

AGREED_S = 30.0
"""How long a server may take to agree to a subscription."""

Listen = Callable[[JsonObject], Coroutine[Any, Any, None]]
"""Holds a `subscriptions/listen` with a filter until the server ends it."""


Connect = Callable[[], Awaitable["Connection"]]


class Stream:
    """The way of 2026-07-28: one `subscriptions/listen`. Another follows it, with no gap, when more or less is wanted."""

    costs_nothing = True

    def __init__(self, name: str, listen: Listen, broken: Callable[[], None]) -> None:
        """`listen` holds a stream for a filter until the server ends it."""
        self._name = name
        self._listen = listen
        self._broken = broken
        self._agreed = asyncio.Event()
        self._asked: JsonObject = {}
        self._task: asyncio.Task[None] | None = None
        self._open: set[asyncio.Task[None]] = set()
        """All that have not ended yet: the one in use, one that is to follow it, and those that were told to end."""

    async def settle(self, wanted: Wanted) -> Mapping[str, HubError]:
        """As `Way.settle`."""
        if self._task is not None and wanted.filter == self._asked:
            return {}
        agreed = self._agreed = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._listen(wanted.filter), name=f"listen at {self._name}")
        self._open.add(task)
        task.add_done_callback(self._left)
        waiting = asyncio.ensure_future(agreed.wait())
        try:
            await asyncio.wait([task, waiting], timeout=AGREED_S, return_when=asyncio.FIRST_COMPLETED)
            if not agreed.is_set():
                self._say_why(task)
        except BaseException:
            task.cancel()
            raise
        finally:
            waiting.cancel()
        before, self._task, self._asked = self._task, task, wanted.filter
        task.add_done_callback(self._ended)
        if before is not None:
            before.cancel()
        return {}

    def _say_why(self, task: asyncio.Task[None]) -> NoReturn:
        if not task.done():
            raise UpstreamTimeout(self._name, "it did not agree to tell of changes in time")
        task.result()
        raise UpstreamInvalid(self._name, "it ended its stream before it agreed")

    def acknowledged(self) -> None:
        """As `Way.acknowledged`."""
        self._agreed.set()

    async def rest(self) -> None:
        """As `Way.rest`."""
        await self.close()

    async def close(self) -> None:
        """As `Way.close`."""
        self._task = None
        for task in self._open:
            if not task.cancelling():  # a second time would interrupt how it ends
                task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        if not task.cancelled():
            task.exception()  # who waits for it is told; nobody else cares

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None
            self._broken()


class OverConnection:
    """The way over an owner's connection, in the era that it speaks: `resources/subscribe`, or one `subscriptions/listen`."""

    costs_nothing = False

    def __init__(self, name: str, connect: Connect, admit: Callable[[], Permit], broken: Callable[[], None]) -> None:
        """`connect` returns the connection as it is now, and `admit` lets the hub itself ask over it."""
        self._name = name
        self._connect = connect
        self._broken = broken
        self._admit = admit
        self._connection: Connection | None = None
        self._subscribed: set[str] = set()
        self._stream: Stream | None = None

    async def settle(self, wanted: Wanted) -> Mapping[str, HubError]:
        """As `Way.settle`."""
        connection = await self._connect()
        if connection is not self._connection:
            await self.close()
            self._connection, self._subscribed = connection, set()
        if connection.is_modern:
            if self._stream is None:
                self._stream = self._listening(connection)
            return await self._stream.settle(wanted)
        for uri in self._subscribed - wanted.uris:
            self._subscribed.discard(uri)
            await self._ask(connection, "resources/unsubscribe", uri)
        refused: dict[str, HubError] = {}
        for uri in wanted.uris - self._subscribed:
            error = await self._ask(connection, "resources/subscribe", uri)
            if error is None:
                self._subscribed.add(uri)
            else:
                refused[uri] = error
        return refused

    def acknowledged(self) -> None:
        """As `Way.acknowledged`."""
        if self._stream is not None:
            self._stream.acknowledged()

    async def rest(self) -> None:
        """As `Way.rest`."""
        connection, subscribed = self._connection, self._subscribed
        await self.close()
        if connection is not None and not connection.is_lost:
            with suppress(HubError):
                for uri in subscribed:
                    await self._ask(connection, "resources/unsubscribe", uri)

    async def close(self) -> None:
        """As `Way.close`."""
        stream, self._stream = self._stream, None
        self._connection, self._subscribed = None, set()
        if stream is not None:
            await stream.close()

    def _listening(self, connection: Connection) -> Stream:
        async def listen(notifications: JsonObject) -> None:
            params = {"notifications": msgspec.Raw(encode(notifications))}
            with self._admit() as permit:
                await connection.request(Request(method="subscriptions/listen", params=params), permit)

        name = self._name
        return Stream(name, listen, self._broken)

    async def _ask(self, connection: Connection, method: str, uri: str) -> HubError | None:
        """Ask over the connection; returns why the server refused, raises `HubError` when it did not answer."""
        from mcp_bridge.connection import Lost, UpstreamFault  # noqa: PLC0415 - loads the SDK, which costs a second

        name = self._name
        try:
            with self._admit() as permit:
                async with asyncio.timeout(AGREED_S):
                    await connection.request(Request(method=method, params={"uri": uri}), permit)
        except UpstreamFault as fault:
            return _refusal(name, uri, fault)
        except Lost:
            raise UpstreamInvalid(name, "it forgot the session") from None
        except TimeoutError:
            raise UpstreamTimeout(name, "it did not agree to a subscription in time") from None
        return None


def _refusal(name: str, uri: str, fault: UpstreamFault) -> HubError:
    if fault.error.get("code") in {RESOURCE_NOT_FOUND, -32602}:
        return NotFound("resource", uri)
    return UpstreamInvalid(name, "it refused the subscription")
