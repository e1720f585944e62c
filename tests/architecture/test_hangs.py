"""A test whose loop hangs while it closes ends the run, and is told with what it waited for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TEST = """
import asyncio

async def stubborn():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

async def test_leaves_it_to_the_loop():
    asyncio.create_task(stubborn())
    await asyncio.sleep(0)
"""
CONFTEST = """
import uvloop

def pytest_asyncio_loop_factories():
    return {"uvloop": uvloop.new_event_loop}
"""


def test_what_hangs_ends_the_process_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TEST)
    options = ("-p", "tests.hangs", "-p", "no:cacheprovider", "--timeout", "1", "-n", "0")
    command = (sys.executable, "-m", "pytest", *options, str(tmp_path))
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "test_leaves_it_to_the_loop does not end" in done.stderr
    assert "in stubborn" in done.stderr
