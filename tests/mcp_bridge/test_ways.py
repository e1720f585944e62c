"""The stream on which a server of 2026-07-28 tells what changes: however it ends, nothing of it is left."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from mcp_bridge.feed import Wanted
from mcp_bridge.ways import Stream

ALL = Wanted(frozenset(), lists=True)


class Server:
    """Holds streams, agrees to them when told, and takes its time to end them, the first one longest."""

    def __init__(self) -> None:
        self.way = Stream("s", self.listen, broken=lambda: None)
        self.asked: list[Any] = []
        self.open = 0
        self.agrees = False

    async def listen(self, wanted: Any) -> None:
        self.asked.append(wanted)
        self.open += 1
        turns = 30 // len(self.asked)
        if self.agrees:
            self.way.acknowledged()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(turns):
                await asyncio.sleep(0)
            self.open -= 1


@pytest.mark.parametrize("agrees", [False, True])
async def test_no_stream_that_was_given_up_while_it_was_opened_outlives_its_way(agrees: bool) -> None:
    server = Server()
    settling = asyncio.create_task(server.way.settle(ALL))
    while not server.open:
        await asyncio.sleep(0)
    if agrees:
        server.way.acknowledged()
    settling.cancel()
    with suppress(asyncio.CancelledError):
        await settling
    await server.way.close()
    assert server.open == 0


async def test_no_stream_that_another_follows_outlives_its_way() -> None:
    server = Server()
    server.agrees = True
    await server.way.settle(ALL)
    await server.way.settle(ALL._replace(uris=frozenset({"note://1"})))
    assert (len(server.asked), server.open) == (2, 2)
    await server.way.close()
    assert server.open == 0
