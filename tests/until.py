"""Waiting for what nothing tells of: the state of another process, or of a part that nobody can listen to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_S = 0.005
GIVE_UP_S = 60.0
"""Decides no test that passes: one that waits so long waits for what does not come, and fails before it hangs."""


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds; it is looked at again and again. Where there is an event, await that instead."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + GIVE_UP_S
    while not holds():
        assert loop.time() < ends, "what is waited for does not come"
        await asyncio.sleep(LOOK_S)
