"""Has what comes of fast streams wait a moment, so that it is kept and shown together."""

from __future__ import annotations

import asyncio

from registry.egress.http import Incoming

GATHER_S = 0.01
"""How long what comes of fast streams is gathered: it is kept in one commit and shown in one write, like what comes together.

A stream is fast that says the next thing sooner. No event of any other waits. Screens show a new picture every 17 ms.
"""


class Gathering:
    """Has what comes of fast streams wait, and reads on in all of them at the same moment. One for a process."""

    def __init__(self) -> None:
        self._held: list[Incoming] = []
        self._next: list[Incoming] = []
        """Of whom too little would have come at the moment that is near."""
        self._late = 0.0

    def hold(self, incoming: Incoming) -> None:
        """Read nothing of a stream until the moment, in half of `GATHER_S` at least and thrice that at most."""
        incoming.hold()
        if not self._held:
            self._begin()
            self._held.append(incoming)
        else:
            is_late = asyncio.get_running_loop().time() > self._late
            (self._next if is_late else self._held).append(incoming)

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._late = loop.time() + GATHER_S / 2
        loop.call_later(GATHER_S, self._go_on)

    def _go_on(self) -> None:
        held, self._held, self._next = self._held, self._next, []
        if self._held:
            self._begin()
        for incoming in held:
            incoming.go_on()
