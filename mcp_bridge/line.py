"""The calls of one server: so many at a time, others in line until a deadline, and none while it does nothing but fail.

Knows no protocol. One principal gets half of the places at most, so that a caller who keeps calls waiting starves nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from registry.errors import Overloaded, UpstreamUnavailable

MAX_WAITING = 1024
WAIT_S = 30.0
"""How long a call may stand in line."""

FAILURES = 8
"""So many in a row, and the server is left alone for a while; then one call is let through to see."""

PAUSE_S, MAX_PAUSE_S = 1.0, 30.0
"""How long it is left alone at first; doubled each time."""


class Line:
    """One server's."""

    def __init__(self, server: str, places: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._places = places
        self._most = max(1, places // 2)
        """Of one principal."""
        self._clock = clock
        self._taken = 0
        self._of: dict[str, int] = {}
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()
        self._failures = 0
        self._again_at = 0.0
        self._is_probed = False
        """Whether a call was let through to see, and nothing is known of it yet."""

    def entered(self, principal_id: str) -> bool:
        """Take a place, which `leave` gives back, if there is one; else `wait` for it.

        Raises:
            UpstreamUnavailable: the server does nothing but fail.
        """
        if self._failures >= FAILURES:
            self._check()
        return self._enter(principal_id)

    def leave(self, principal_id: str) -> None:
        """Give a place back; the first in line who may have it gets it."""
        self._taken -= 1
        left = self._of[principal_id] - 1
        if left:
            self._of[principal_id] = left
        else:
            del self._of[principal_id]
        for waiting, called in self._waiting:
            if not called.done() and self._enter(waiting):
                called.set_result(None)
                return

    def answered(self) -> None:
        """The server answered a call, be it with an error."""
        self._failures = 0
        self._is_probed = False

    def failed(self) -> None:
        """The server could not be reached, or did not answer; if it does nothing else, those in line are told."""
        self._failures += 1
        self._is_probed = False
        if self._failures >= FAILURES:
            self._again_at = self._clock() + self._pause()
            for _, called in self._waiting:
                if not called.done():
                    called.set_exception(self._refusal())

    def undecided(self) -> None:
        """A call ended by something else, as its caller's leaving: if it was to see, another may at once."""
        if self._is_probed:
            self._is_probed = False
            self._again_at = self._clock()

    def _enter(self, principal_id: str) -> bool:
        taken = self._of.get(principal_id, 0)
        if self._taken >= self._places or taken >= self._most:
            return False
        self._taken += 1
        self._of[principal_id] = taken + 1
        return True

    def _check(self) -> None:
        if self._again_at > self._clock():
            raise self._refusal()
        self._is_probed = True
        self._again_at = self._clock() + self._pause()  # the others wait for what becomes of this one

    def _refusal(self) -> UpstreamUnavailable:
        left = self._again_at - self._clock()
        return UpstreamUnavailable(
            self._server, f"it failed {self._failures} times in a row; it is asked again in {left:.0f} s"
        )

    def _pause(self) -> float:
        return float(min(PAUSE_S * 2 ** min(self._failures - FAILURES, 10), MAX_PAUSE_S))

    async def wait(self, principal_id: str) -> None:
        """Wait for a place and take it.

        Raises:
            Overloaded: too many wait, or it took too long.
            UpstreamUnavailable: meanwhile the server does nothing but fail.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"Too many calls wait for {self._server}; try again.")
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((principal_id, called))
        try:
            async with asyncio.timeout(WAIT_S):
                await called
        except BaseException as error:
            self.undecided()
            if called.done() and not called.cancelled() and called.exception() is None:  # the place came too late
                self.leave(principal_id)
            if isinstance(error, TimeoutError):
                raise Overloaded(f"{self._server} has all the calls it may have at a time; try again.") from None
            raise
        finally:
            self._waiting = deque(one for one in self._waiting if one[1] is not called)
