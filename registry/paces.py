"""Paces: how many requests a minute somebody may make, counted by this process alone."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from registry.errors import RateLimited
from registry.limits import Pace

MAX_PACED = 100_000
"""Whose pace is remembered. One forgotten by this bound was idle longest and starts anew with a full minute."""


class Paces:
    """All paces. One for a process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_free: OrderedDict[str, float] = OrderedDict()

    def take(self, pace: Pace) -> bool:
        """Count one request: so many at once, then one every 60/`per_minute` seconds (GCRA, one number for each); whether it is nearly used up.

        Raises:
            RateLimited: there is none left.
        """
        now, of, all_free = self._clock(), pace.of, self._next_free
        interval = 60.0 / pace.per_minute
        free_at = all_free.get(of, now)
        if free_at < now:
            free_at = now
        free_at += interval
        wait = free_at - now - 60.0
        if wait > 1e-6:
            raise RateLimited(wait)
        all_free[of] = free_at
        all_free.move_to_end(of)
        if len(all_free) > MAX_PACED:
            all_free.popitem(last=False)
        if pace.warn is None:
            return False
        left = int((60.0 - free_at + now) / interval + 1e-6)
        return pace.per_minute - left >= pace.warn
