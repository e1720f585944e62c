"""What the suite of bridges needs to know of a platform, and to do to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from tests.peers.platforms import brain

Property = Literal[
    "memory",
    "streams",
    "files",
    "data",
    "failure",
    "asks",
    "cancel",
    "rejoin",
    "isolation",
    "odd",
    "busy",
    "renews",
    "expires",
    "down",
]
"""What a bridge shows; each is a test of tests/bridges/test_bridges.py."""


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
    expire: Callable[[], None] | None = None
    """From now on the platform takes no token that it gave before; None: it gives none."""

    def release(self) -> None:
        """Let an agent go on that holds."""
        self.released.set()

    async def ended(self) -> None:
        """Wait until the platform has ended a run."""
        await self.cancelled.wait()

    def sessions(self) -> list[str]:
        """Under which names messages came."""
        return self.named


NOBODYS = "of nobody"
"""What an odd event says: the caller is told nothing of it."""


class Fake(Protocol):
    """A fake of a platform, which runs in this process."""

    @property
    def platform(self) -> Platform:
        """What the suite knows of it."""


def opening(
    fake: Callable[[], AbstractAsyncContextManager[Fake]],
) -> Callable[[Path], AbstractAsyncContextManager[Platform]]:
    """What opens a fake, as `Kind.open`."""

    @asynccontextmanager
    async def opened(_directory: Path) -> AsyncIterator[Platform]:
        async with fake() as one:
            yield one.platform

    return opened


class Odd(NamedTuple):
    """How odd a platform's answers may be, as its reference has it (`odd_front` is what makes them so)."""

    allows: str
    """What may come in which order."""
    among: tuple[bytes, ...] = ()
    """Events of things that nobody knows, or that are over: they come before each of the platform's own."""
    late: tuple[bytes, ...] = ()
    """Those that come after the last."""
    end: bytes = b""
    """How a stream says that the token has expired with which it was asked for; empty: it breaks."""
    busy: tuple[tuple[int, Mapping[str, str]], ...] = ((429, {}),)
    """What requests are answered that come too often, each with a Retry-After of 0."""


def event(data: Any, name: str = "") -> bytes:
    """A server-sent event."""
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


def line(data: Any) -> bytes:
    """A line of JSON."""
    return json.dumps(data).encode() + b"\n"


class Kind(NamedTuple):
    """A row of the table in docs/bridges.md."""

    name: str
    """The bridge's, or what speaks A2A and needs none."""
    open: Callable[[Path], AbstractAsyncContextManager[Platform]]
    proof: str
    """What it was proved against."""
    lacks: dict[Property, str]
    """What its platform does not have, and why."""
    odd: Odd
    reason: str = brain.REASON
    """What it says of a failure; some tell their clients less than the agent said."""
    card: str = ""
    """Text of its card that the platform alone can have told; empty: it tells nothing."""
    group: str = ""
    """In whose turn it runs (tests.foreign.environments.GROUPS); empty: it needs no environment of its own."""

    @property
    def is_a2a(self) -> bool:
        """Whether it needs no bridge."""
        return "a2a" in self.name
