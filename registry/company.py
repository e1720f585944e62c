"""Waiting for company: what single turns of the event loop bring is done together. Knows nothing of what is done.

Much of what a hub does costs less a piece when many pieces are done in a row: a commit, and writes to sockets, which put the kernel's
code in the place of the hub's in the processor's caches. So it is put off as long as each turn of the loop brings another piece.
A piece that stays alone waits for one turn, in which nothing else was to be done (docs/decisions/0038).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

ENOUGH = 64
"""Pieces that are not put off any longer."""

HELD_S = 0.001
"""How long a piece may be put off. The clock of the event loop ticks once a millisecond and stands still during a turn."""


class Company:
    """Does something once a turn of the event loop brings nothing more to it."""

    __slots__ = ("_count", "_do", "_handle", "_seen", "_until")

    def __init__(self, count: Callable[[], int], do: Callable[[], None]) -> None:
        """`count` says how many pieces wait for `do`."""
        self._count = count
        self._do = do
        self._handle: asyncio.Handle | None = None
        self._seen = 0
        self._until = 0.0

    def wait(self) -> None:
        """Begin to wait, unless it was begun before: a piece has come."""
        if self._handle is None:
            loop = asyncio.get_running_loop()
            self._seen = 0
            self._until = loop.time() + HELD_S
            self._handle = loop.call_soon(self._look, loop)

    def cancel(self) -> None:
        """Wait no more, and do nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        count = self._count()
        if self._seen < count < ENOUGH and loop.time() <= self._until:
            self._seen = count
            self._handle = loop.call_soon(self._look, loop)
        else:
            self._handle = None
            self._do()
