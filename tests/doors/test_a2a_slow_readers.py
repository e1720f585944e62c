"""Streams much longer than what the hub may hold, past clients that do not read."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from registry.ledger.events import Events
from tests.conftest import OpenHub
from tests.peers.a2a_agent import Seen, rough_agent, simple_card, start, task, write

EVENTS, EVENT_BYTES = 1000, 64 * 1024
SOCKETS_BYTES = 32 * 1024 * 1024
"""More than the system keeps of two connections, and half of the stream."""

HELD_BYTES = 16 * 1024 * 1024
"""Copies of a page (it is read, framed, joined and handed to the transport) beside what a hub and the test's own reader of the
same task do meanwhile; a quarter of the stream."""


class Talker:
    """An agent whose task says very much; `sent` counts the pieces that the hub took."""

    def __init__(self) -> None:
        self.sent = 0
        self.go = asyncio.Event()
        """Lets the task end."""

    async def answer(self, _one: Seen, send: Any) -> None:
        ids = {"taskId": "t", "contextId": "c"}
        await start(send)
        await write(send, framed({"task": task("t", "TASK_STATE_WORKING")}))
        artifact = {"artifactId": "x", "parts": [{"text": "x" * EVENT_BYTES}]}
        piece = framed({"artifactUpdate": {**ids, "artifact": artifact, "append": True}})
        for _ in range(EVENTS):
            await write(send, piece)
            self.sent += 1
        await self.go.wait()
        await write(send, framed({"statusUpdate": {**ids, "status": {"state": "TASK_STATE_COMPLETED"}}}))
        await send({"type": "http.response.body", "body": b""})


def framed(event: dict[str, Any]) -> bytes:
    return f"data: {json.dumps({'jsonrpc': '2.0', 'id': 'mine', 'result': event})}\n\n".encode()


def said() -> dict[str, Any]:
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "go"}]}
    return {"jsonrpc": "2.0", "id": "mine", "method": "SendStreamingMessage", "params": {"message": message}}


async def stands_still(count: Callable[[], int]) -> None:
    """Wait until nothing moves any more; should it only pause, the test shows less and still no wrong."""
    before = -1
    while before != count():
        before = count()
        for _ in range(20_000):
            await asyncio.sleep(0)


async def numbers(answer: httpx.Response) -> list[int]:
    return [int(line[4:]) async for line in answer.aiter_lines() if line.startswith("id: ")]


async def test_who_does_not_read_slows_the_agent_and_not_the_hub(hub: OpenHub) -> None:
    talker = Talker()
    async with (
        rough_agent(talker.answer, simple_card("1.0")) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
        asyncio.timeout(120),
        http.stream("POST", "/a2a/echo", json=said()) as answer,
    ):
        await stands_still(lambda: talker.sent)
        assert 0 < talker.sent * EVENT_BYTES < SOCKETS_BYTES
        talker.go.set()
        assert await numbers(answer) == list(range(1, EVENTS + 3))


async def test_who_does_not_read_what_was_kept_holds_a_page_of_it(
    hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    talker = Talker()
    size, after = 0, Events.after

    async def counting(self: Events, agent: str, task_id: str, seq: int) -> Any:
        nonlocal size
        found = await after(self, agent, task_id, seq)
        size += sum(len(one.data) for one in found)
        return found

    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(rough_agent(talker.answer, simple_card("1.0")))
        running = await stack.enter_async_context(hub(f"agents:\n  echo: {{url: {peer.url}}}\n"))
        http = await stack.enter_async_context(running.http(await running.key("agent:*")))
        await stack.enter_async_context(asyncio.timeout(120))
        leading = await stack.enter_async_context(http.stream("POST", "/a2a/echo", json=said()))
        rest = asyncio.create_task(numbers(leading))
        while talker.sent < EVENTS:
            await asyncio.sleep(0)
        monkeypatch.setattr(Events, "after", counting)
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        headers = {"last-event-id": "0"}
        path = "/a2a/echo/tasks/t:subscribe"
        slow = await stack.enter_async_context(http.stream("POST", path, headers=headers))
        await stands_still(lambda: size)
        assert 0 < size < SOCKETS_BYTES
        assert tracemalloc.get_traced_memory()[1] < HELD_BYTES
        talker.go.set()
        assert await rest == await numbers(slow) == list(range(1, EVENTS + 3))
