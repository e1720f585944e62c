"""Cancels of a task by its own doing, which never pass for somebody else's; among them a deadline for one wait."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

import msgspec


class CallerLeft(Exception):
    """Nobody reads an answer any more: a call that ends with this was cancelled and has not failed."""


class Cancellation(msgspec.Struct, eq=False, kw_only=True):
    """What may end a block of the task that makes this. Its heirs are entered around the block, and say what it then ends with.

    A Struct: a chat makes one, and a tool's call two.
    """

    _task: asyncio.Task[Any] | None = msgspec.field(default_factory=asyncio.current_task)
    asked: bool = False

    def ask(self) -> None:
        """Cancel the task, once."""
        if self._task is not None and not self.asked:
            self.asked = True
            self._task.cancel()

    def taken_back(self, kind: type[BaseException] | None) -> bool:
        """Whether this ended the block, which an exception of `kind` leaves; what somebody else asked for meanwhile stays."""
        return self.asked and self._task is not None and self._task.uncancel() == 0 and kind is asyncio.CancelledError


class Deadline(Cancellation):
    """`with Deadline(seconds):` raises `TimeoutError` when the block has not ended by then. Use inside a task.

    At a quarter of the cost of `asyncio.timeout`: two stand on the path of every request.
    """

    _seconds: float
    _loop: asyncio.AbstractEventLoop = msgspec.field(default_factory=asyncio.get_running_loop)
    _handle: asyncio.TimerHandle | None = None

    def __enter__(self) -> Deadline:
        self._handle = self._loop.call_later(self._seconds, self.ask)
        return self

    def extend(self) -> None:
        """Begin the wait anew: something came."""
        self._stop()
        if not self.asked:
            self._handle = self._loop.call_later(self._seconds, self.ask)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if self.taken_back(kind):
            raise TimeoutError from error

    def _stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
