"""What the suite of bridges needs to know of a platform, and to do to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from tests.peers.platforms import brain

Property = Literal[
    "memory", "streams", "files", "data", "failure", "asks", "cancel", "rejoin", "isolation", "renews", "down", "busy"
]
"""What a bridge shows; each is a test of tests/bridges/test_bridges.py."""


def _cannot() -> None:
    raise AssertionError("a platform that cannot be made to do it lacks the property")


@dataclass
class Platform:
    """One platform with one agent, whose brain is `brain`'s."""

    entry: str = ""
    """The agent's members in hub.yaml, as a flow mapping."""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Lets an agent go on that holds, where it runs in this process."""
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """The platform was told to end a run, or saw its client leave where there is no other way; likewise."""
    named: list[str] = field(default_factory=list)
    """Under which name of a session, or of a user where there are none, each message came; likewise."""
    expire: Callable[[], None] = _cannot
    """From now on the platform takes no token that it gave before."""
    busy: Callable[[], None] = _cannot
    """The next request is refused, with 429 and a Retry-After of 0."""

    def release(self) -> None:
        """Let an agent go on that holds."""
        self.released.set()

    async def ended(self) -> None:
        """Wait until the platform has ended a run."""
        await self.cancelled.wait()

    def sessions(self) -> list[str]:
        """Under which names messages came."""
        return self.named


class Kind(NamedTuple):
    """A row of the table in docs/bridges.md."""

    name: str
    """The bridge's, or what speaks A2A and needs none."""
    open: Callable[[Path], AbstractAsyncContextManager[Platform]]
    proof: str
    """What it was proved against."""
    lacks: dict[Property, str]
    """What its platform does not have, and why."""
    reason: str = brain.REASON
    """What it says of a failure; some tell their clients less than the agent said."""
    card: str = ""
    """Text of its card that the platform alone can have told; empty: it tells nothing."""
    group: str = ""
    """In whose turn it runs (tests.foreign.environments.GROUPS); empty: it needs no environment of its own."""
