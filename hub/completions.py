"""`completion` and `acompletion`: one call of a model, with nothing opened before. Behind both is one hub of the process.

It runs in a thread of its own, is opened with the first call, and closed when the program ends.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Literal, TypeVar, overload

from hub.embedded import Hub
from hub.record import Record

T = TypeVar("T")
_lock = threading.Lock()
_running: _Thread | None = None


class _Thread:
    """A hub in a thread with an event loop."""

    def __init__(self) -> None:
        """Wait until it is open; raises as `Hub.open`."""
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hubbub", daemon=True)
        self._thread.start()
        opened: Future[Hub] = Future()
        self._keeping = self.submit(self._keep(opened))
        first: list[Future[Any]] = [opened, self._keeping]
        wait(first, return_when=FIRST_COMPLETED)
        if not opened.done():
            self._stop()
            self._keeping.result()
        self.hub = opened.result()
        atexit.register(self.close)

    async def _keep(self, opened: Future[Hub]) -> None:
        async with Hub.open() as hub:
            opened.set_result(hub)
            await self._over.wait()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._keeping.result()
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _thread() -> _Thread:
    global _running
    with _lock:
        _running = _running or _Thread()
        return _running


@overload
def completion(model: str, messages: Sequence[Any], *, stream: Literal[False] = False, **members: Any) -> Record: ...


@overload
def completion(model: str, messages: Sequence[Any], *, stream: Literal[True], **members: Any) -> Iterator[Record]: ...


def completion(
    model: str, messages: Sequence[Any], *, stream: bool = False, **members: Any
) -> Record | Iterator[Record]:
    """Ask `provider/model`, whose key is in the environment, and wait for the answer; as `Hub.chat`.

    With `stream` it is read as it comes. Not for use inside an event loop: `acompletion` is.
    """
    thread = _thread()
    found = thread.submit(thread.hub.chat(model=model, messages=messages, stream=stream, **members)).result()
    return found if isinstance(found, Record) else _chunks(thread, found)


def _chunks(thread: _Thread, stream: AsyncIterator[Record]) -> Iterator[Record]:
    try:
        while (chunk := thread.submit(_next(stream)).result()) is not None:
            yield chunk
    finally:
        thread.submit(_closed(stream)).result()


@overload
async def acompletion(
    model: str, messages: Sequence[Any], *, stream: Literal[False] = False, **members: Any
) -> Record: ...


@overload
async def acompletion(
    model: str, messages: Sequence[Any], *, stream: Literal[True], **members: Any
) -> AsyncIterator[Record]: ...


async def acompletion(
    model: str, messages: Sequence[Any], *, stream: bool = False, **members: Any
) -> Record | AsyncIterator[Record]:
    """As `completion`, in any event loop."""
    thread = await asyncio.to_thread(_thread)
    asking = thread.submit(thread.hub.chat(model=model, messages=messages, stream=stream, **members))
    found = await asyncio.wrap_future(asking)
    return found if isinstance(found, Record) else _achunks(thread, found)


async def _achunks(thread: _Thread, stream: AsyncIterator[Record]) -> AsyncIterator[Record]:
    try:
        while (chunk := await asyncio.wrap_future(thread.submit(_next(stream)))) is not None:
            yield chunk
    finally:
        await asyncio.wrap_future(thread.submit(_closed(stream)))


async def _next(stream: AsyncIterator[Record]) -> Record | None:
    return await anext(stream, None)


async def _closed(stream: AsyncIterator[Record]) -> None:
    """Leave a stream, wherever it is; only generators can be left."""
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()
