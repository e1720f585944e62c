"""Answers as Python programs read them: `answer["choices"][0]["message"]` and `answer.choices[0].message` are the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from llm.ports import Sink
from registry.egress.sse import Framer, data_of

AHEAD = 64
"""Chunks of a stream that are held for a slow reader; then the provider waits."""


class Record(dict[str, Any]):
    """A JSON object whose members are attributes too; a method of `dict` wins over a member of its name."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def record(data: bytes | str) -> Record:
    """Read a JSON object, objects within it too."""
    found: Record = json.loads(data, object_hook=Record)
    return found


class Collected:
    """Takes a whole answer (llm.ports.Sink)."""

    body = b""

    async def reply(self, _status: int, body: bytes) -> None:
        """Keep it."""
        self.body = body

    async def start(self, _status: int) -> None:
        """Not asked for."""

    async def write(self, chunk: bytes) -> None:
        """Likewise."""


class Streamed:
    """Takes an event stream (llm.ports.Sink) and hands out its chunks. What makes it runs until it has ended, or is left."""

    def __init__(self, answer: Callable[[Sink], Awaitable[None]]) -> None:
        self._answer = answer
        self._framer = Framer()
        self._room = asyncio.Semaphore(AHEAD)
        self._chunks: asyncio.Queue[Record | None] = asyncio.Queue()
        self._begun = asyncio.Event()

    async def begin(self) -> None:
        """Wait until the answer begins; raises what went wrong before."""
        self._answering = asyncio.ensure_future(self._answer(self))
        self._answering.add_done_callback(self._ended)
        try:
            await self._begun.wait()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if self._answering.done() and self._chunks.qsize() == 1:
            self._answering.result()

    def _ended(self, _answering: asyncio.Future[None]) -> None:
        self._begun.set()
        self._chunks.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Record]:
        while (chunk := await self._chunks.get()) is not None:
            self._room.release()
            yield chunk
        self._answering.result()

    async def aclose(self) -> None:
        """End what makes the stream, if it still does."""
        self._answering.cancel()
        await asyncio.wait({self._answering})

    async def reply(self, _status: int, body: bytes) -> None:
        """A whole answer is a stream of one chunk."""
        await self._hand_on(body)

    async def start(self, _status: int) -> None:
        """The answer begins."""
        self._begun.set()

    async def write(self, chunk: bytes) -> None:
        """Hand on the events of a piece."""
        for event in self._framer.feed(chunk):
            data = data_of(event)
            if data and data != b"[DONE]":
                await self._hand_on(data)

    async def _hand_on(self, data: bytes) -> None:
        await self._room.acquire()
        self._chunks.put_nowait(record(data))
