"""A bench of threads for what may take long, or never end: code of others. Nobody waits for it but who asked, and not for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

THREADS = 8
MAX_WAITING = 1000


class Bench:
    """Some threads, made when they are needed. They do not keep the process from ending."""

    def __init__(self, threads: int = THREADS) -> None:
        self._threads = threads
        self._started = 0
        self._work: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = SimpleQueue()

    async def do(self, work: Callable[[], T], *, within_s: float) -> T:
        """Do something in one of the threads; what does not end in time keeps its thread, and is waited for no more.

        Raises:
            TimeoutError: it did not end in time, or too much waits for a thread.
        """
        if self._work.qsize() >= MAX_WAITING:
            raise TimeoutError
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._work.put((work, outcome))
        if self._started < self._threads:
            self._started += 1
            threading.Thread(target=self._run, name="bench", daemon=True).start()
        async with asyncio.timeout(within_s):
            return await outcome

    def _run(self) -> None:
        while True:
            work, outcome = self._work.get()
            if outcome.cancelled():
                continue
            result, failure = None, None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  # it is raised where it is waited for
                failure = error
            with suppress(RuntimeError):  # nobody waits any more: their loop is closed
                outcome.get_loop().call_soon_threadsafe(_tell, outcome, result, failure)
            del work, outcome, result, failure


def _tell(outcome: asyncio.Future[Any], result: object, failure: BaseException | None) -> None:
    if outcome.cancelled():
        return
    if failure is not None:
        outcome.set_exception(failure)
    else:
        outcome.set_result(result)


BENCH = Bench()
