"""The bench of threads: work that never ends keeps nobody waiting, neither callers nor the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from registry import bench
from registry.bench import Bench


async def test_work_is_done_elsewhere_and_its_failure_is_its_callers() -> None:
    own = threading.get_ident()
    assert await Bench().do(threading.get_ident, within_s=10) != own
    with pytest.raises(ZeroDivisionError):
        await Bench().do(lambda: 1 / 0, within_s=10)


async def test_who_hangs_keeps_one_thread_and_nobody_for_long() -> None:
    free, threads = threading.Event(), Bench(threads=2)
    with pytest.raises(TimeoutError):
        await threads.do(free.wait, within_s=0.01)
    assert await threads.do(lambda: 1, within_s=10) == 1
    with pytest.raises(TimeoutError):
        await threads.do(free.wait, within_s=0.01)
    waiting = asyncio.create_task(threads.do(lambda: 2, within_s=10))
    free.set()
    assert await waiting == 2


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "MAX_WAITING", 1)
    free, begun, threads = threading.Event(), threading.Event(), Bench(threads=1)

    def hang() -> None:
        begun.set()
        free.wait()

    first = asyncio.create_task(threads.do(hang, within_s=10))
    await asyncio.to_thread(begun.wait)
    second = asyncio.create_task(threads.do(lambda: None, within_s=10))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await threads.do(lambda: None, within_s=10)
    free.set()
    await asyncio.gather(first, second)


def test_a_process_ends_whatever_hangs() -> None:
    code = """
import asyncio, threading
from registry.bench import Bench
async def main():
    try:
        await Bench().do(threading.Event().wait, within_s=0.01)
    except TimeoutError:
        print("refused")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "refused\n"
