"""Responses that are worked on without their client: bounded in number, followed as they go, cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llm.wire.response_events import Composer
from registry.errors import Overloaded

logger = logging.getLogger(__name__)

MAX_RUNS = 256
MAX_RUNS_OF_ONE = 16
"""Under way for one key."""


class Log:
    """The events of one response, in order, for any number of readers who come at any time."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.has_ended = False
        self._news = asyncio.Event()

    def add(self, events: Sequence[bytes], *, is_last: bool = False) -> None:
        """Note events as they come."""
        self.events += events
        self.has_ended = is_last
        self._news.set()
        self._news = asyncio.Event()

    async def read(self, begin: int) -> AsyncIterator[bytes]:
        """The events from number `begin` on, several at a time, until the last."""
        while True:
            news, found = self._news, self.events[begin:]
            begin += len(found)
            if found:
                yield b"".join(found)
            elif self.has_ended:
                return
            else:
                await news.wait()


@dataclass(slots=True)
class Run:
    """One response that is worked on."""

    id: str
    owner: str
    composer: Composer
    log: Log = field(default_factory=Log)
    is_cancelled: bool = False
    """By its owner; a run that ends with the hub is not."""
    task: asyncio.Task[None] | None = None


class Runs:
    """All that are under way. One for a process."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def find(self, name: str) -> Run | None:
        """The run of a response; None: nobody works on it here."""
        return self._runs.get(name)

    @contextmanager
    def expecting(self, run: Run) -> Iterator[None]:
        """Let a run be found already while all is made ready to start it."""
        self._runs[run.id] = run
        try:
            yield
        except BaseException:
            del self._runs[run.id]
            raise

    def start(self, run: Run, work: Coroutine[Any, Any, None]) -> None:
        """Begin to work on what is expected, until it ends, is cancelled or the hub stops."""
        run.task = asyncio.create_task(work)
        run.task.add_done_callback(lambda task: self._ended(run, task))

    def _ended(self, run: Run, task: asyncio.Task[None]) -> None:
        del self._runs[run.id]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a response in the background ended by a bug", exc_info=error)

    def check_room(self, owner: str) -> None:
        """Raise `Overloaded` when `owner`, or all together, have as many as may be."""
        of_one = sum(run.owner == owner for run in self._runs.values())
        if of_one >= MAX_RUNS_OF_ONE or len(self._runs) >= MAX_RUNS:
            raise Overloaded("Too many responses are worked on in the background; try again when one has ended.")

    async def cancel(self, run: Run) -> None:
        """End a run and wait until it has."""
        run.is_cancelled = True
        if run.task is not None:
            run.task.cancel()
            await asyncio.wait([run.task])

    async def aclose(self) -> None:
        """End all: what they were worked on is lost, and said to be when their owners ask."""
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
