"""Something that ends, such as a token: fetched when it is needed, once for all who wait, and anew when it was refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Generic, NamedTuple, TypeVar

from agents.bridges.way import Way
from registry.errors import UpstreamError, UpstreamUnavailable

EARLY_S = 60.0
"""What ends so soon is not used any more: a request may take a while to be looked at."""

T = TypeVar("T")


class Ending(NamedTuple, Generic[T]):
    """It, and when it ends."""

    value: T
    expires_at: float
    """By time.monotonic()."""


Fetch = Callable[[Way], Awaitable[Ending[T]]]


class Renewed(Generic[T]):
    """One such thing."""

    def __init__(self, fetch: Fetch[T]) -> None:
        self._fetch = fetch
        self._held: Ending[T] | None = None
        self._fetching = asyncio.Lock()

    async def get(self, way: Way) -> T:
        """It, as it is good now; `way` is the agent's. Raises `UpstreamError` when there is none."""
        async with self._fetching:
            if self._held is None or self._held.expires_at - EARLY_S <= time.monotonic():
                try:
                    self._held = await self._fetch(way.elsewhere())
                except UpstreamError as error:  # it was not the agent
                    raise UpstreamUnavailable(way.name, f"it gets no credentials: {error.reason}") from None
            return self._held.value

    def forget(self, was_sent: Callable[[T], bool]) -> None:
        """Fetch it anew, if what was refused is still what is held."""
        if self._held is not None and was_sent(self._held.value):
            self._held = None


def ending_at(text: str) -> float:
    """When a time of RFC 3339 is, by time.monotonic(); raises ValueError."""
    at = datetime.fromisoformat(text)
    return time.monotonic() + (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
