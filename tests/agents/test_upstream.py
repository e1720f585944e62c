"""How the hub reads what agents say."""

from __future__ import annotations

import asyncio
from typing import Any

from agents.gathering import Gathering


class Stream:
    """What is held; a fake, since it is about moments."""

    def __init__(self, went_on: list[Stream]) -> None:
        self.is_held = False
        self._went_on = went_on
        self.reads = asyncio.Event()

    def hold(self) -> None:
        self.is_held = True

    def go_on(self) -> None:
        self.is_held = False
        self._went_on.append(self)
        self.reads.set()


async def test_streams_that_are_held_go_on_together_and_late_ones_at_the_next_moment() -> None:
    gathering: Any = Gathering()
    went_on: list[Stream] = []
    first, second, late = (Stream(went_on) for _ in range(3))
    gathering.hold(first)
    gathering.hold(second)
    gathering._late = 0.0
    gathering.hold(late)
    assert first.is_held
    async with asyncio.timeout(5):
        await first.reads.wait()
        assert went_on == [first, second]
        assert late.is_held
        await late.reads.wait()
        gathering.hold(first)
        first.reads.clear()
        await first.reads.wait()
    assert went_on == [first, second, late, first]
