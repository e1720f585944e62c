"""What a task that runs here holds in memory, and what of it is kept."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from agents.hosting.live import BEHIND_BYTES, UNKEPT_BYTES, Live
from agents.hosting.pieces import Pieces
from agents.hosting.records import TaskRecord

PART = "x" * 1024
TASK = {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}}
SLACK = 1024
"""Of an event, beside what it says."""


class Shelf:
    """Where one task is kept, on disk: its record and its pieces."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.saves = 0

    def live(self, record: TaskRecord | None = None) -> Live:
        """The task, new or as its record says."""
        record = record or TaskRecord("process", TASK)
        live = Live(record, Pieces(record.pieces, put=self._put, get=self._get))

        async def save() -> None:
            self.saves += 1
            (self._directory / "task").write_bytes(msgspec.json.encode(await live.record()))

        live.save = save
        return live

    def kept(self) -> Live:
        """The task as another process finds it."""
        return self.live(msgspec.json.decode((self._directory / "task").read_bytes(), type=TaskRecord))

    async def _put(self, number: int, piece: bytes) -> None:
        (self._directory / str(number)).write_bytes(piece)

    async def _get(self, number: int) -> bytes | None:
        return (self._directory / str(number)).read_bytes()


def text_of(task: dict[str, Any]) -> str:
    return "".join(part["text"] for artifact in task.get("artifacts", ()) for part in artifact["parts"])


async def test_an_answer_of_many_mebibytes_is_not_in_memory(tmp_path: Path) -> None:
    shelf, count = Shelf(tmp_path), 8192
    live = shelf.live()
    tracemalloc.start()
    try:
        for _ in range(count):
            await live.write({"text": PART})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024 * 1024 < count * len(PART) / 7
    assert text_of(await live.whole()) == PART * count  # and all of it is there when it is asked for


async def test_the_work_waits_for_one_who_watches_and_is_slow(tmp_path: Path) -> None:
    live, total = Shelf(tmp_path).live(), 4096
    ahead = most = 0

    async def speak() -> None:
        nonlocal ahead, most
        for number in range(total):
            ahead += 1
            most = max(most, ahead)
            if number % 2:
                await live.write({"text": PART})
            else:
                live.reach("WORKING", PART)
                await live.room()
        live.end()

    async with aclosing(live.follow()) as batches, asyncio.timeout(60):
        await anext(batches)
        work = asyncio.create_task(speak())
        read = 0
        async for batch in batches:  # nothing of this reader suspends but its waiting for what comes
            read += len(batch)
            ahead -= len(batch)
        await work
    assert read == total
    assert most * len(PART) <= BEHIND_BYTES + len(PART) + SLACK


async def test_for_nobody_nothing_waits_and_nothing_is_queued(tmp_path: Path) -> None:
    live = Shelf(tmp_path).live()
    async with aclosing(live.follow()) as batches:
        await anext(batches)
    async with asyncio.timeout(60):  # who left is not waited for
        for _ in range(2 * BEHIND_BYTES // len(PART)):
            await live.write({"text": PART})
    live.end()
    async with aclosing(live.follow()) as batches:
        events = [event for batch in [batch async for batch in batches] for event in batch]
    assert len(events) == 1  # the task, which has it all


async def test_what_is_kept_and_how_far_it_was_read_are_of_one_moment(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    live, seen = shelf.live(), 0
    for number in range(1, 4 * UNKEPT_BYTES // len(PART)):
        await live.write({"text": f"{number},".ljust(len(PART))})
        live.ref = {"last": number}
        if shelf.saves > seen:  # the process may die at any time from now on
            seen = shelf.saves
            kept = shelf.kept()
            numbers = [int(one) for one in text_of(await kept.whole()).replace(" ", "").split(",") if one]
            assert numbers == list(range(1, kept.ref["last"] + 1))
    assert seen >= 3
