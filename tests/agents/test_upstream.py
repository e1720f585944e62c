"""How the hub reads what agents say."""

from __future__ import annotations

import asyncio

from agents.upstream import Gathering


async def test_all_who_gather_go_on_together_whoever_leaves() -> None:
    gathering, order = Gathering(), []

    async def gather(name: str) -> None:
        await gathering.wait()
        order.append(name)
        await asyncio.sleep(0)
        order.append("next turn")

    first, leaving, last = (asyncio.create_task(gather(name)) for name in ("first", "leaving", "last"))
    await asyncio.sleep(0)
    leaving.cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(first, last)
        assert order[:2] == ["first", "last"]
        await gathering.wait()  # and again
