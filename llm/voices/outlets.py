"""Where responses go: to a client as they come or as a whole, or into the log of a background run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from llm.background import Log
from llm.ports import Sink
from llm.voices.responses import Outlet
from registry.judged import JsonObject, encode


class Streamed:
    """To a client, as it comes."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def start(self) -> None:
        """Begin the stream."""
        await self._sink.start(200)

    async def write(self, events: Sequence[bytes]) -> None:
        """Send some events."""
        if events:
            await self._sink.write(b"".join(events))

    async def end(self, _response: JsonObject, events: Sequence[bytes]) -> None:
        """Send the last ones."""
        await self.write(events)


class Whole:
    """To a client, when it is complete."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def start(self) -> None:
        """Nothing is sent yet."""

    async def write(self, events: Sequence[bytes]) -> None:
        """There are none."""

    async def end(self, response: JsonObject, _events: Sequence[bytes]) -> None:
        """Answer."""
        await self._sink.reply(200, encode(response))


class Logged:
    """Into a log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def start(self) -> None:
        """It has begun already."""

    async def write(self, events: Sequence[bytes]) -> None:
        """Note some events."""
        self._log.add(events)

    async def end(self, _response: JsonObject, events: Sequence[bytes]) -> None:
        """Note the last ones."""
        self._log.add(events, is_last=True)


class Keeping:
    """To another outlet, once the response is kept."""

    def __init__(self, outlet: Outlet, keep: Callable[[JsonObject, Sequence[bytes]], Awaitable[None]]) -> None:
        self._outlet = outlet
        self._keep = keep

    async def start(self) -> None:
        """Begin there."""
        await self._outlet.start()

    async def write(self, events: Sequence[bytes]) -> None:
        """Hand some events on."""
        await self._outlet.write(events)

    async def end(self, response: JsonObject, events: Sequence[bytes]) -> None:
        """Keep it, then end there."""
        await self._keep(response, events)
        await self._outlet.end(response, events)
