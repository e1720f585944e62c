"""The end of a test that hangs: a plugin of pytest, which `tests/conftest.py` brings along.

pytest-timeout would raise in the test, from the handler of a signal, which uvloop swallows; and nothing that is raised ends a loop
that waits, while it closes, for a task which does not let itself be cancelled. So the process ends, and says what it waited for. The
test fails, as the controller finds its worker gone, and gets another one.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import sys
import threading
from typing import Any

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Begin to wait for the end of a test, of its fixtures and of its loop (pytest-timeout's own hook)."""
    timer = threading.Timer(settings.timeout, _end, (item,))
    timer.daemon = True
    timer.start()
    item.cancel_timeout = timer.cancel  # type: ignore[attr-defined]
    return True


def _end(item: pytest.Item) -> None:
    capture = item.config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture()
    out = sys.__stderr__
    assert out is not None
    try:
        print(f"\n{item.nodeid} does not end. Its tasks:", file=out)
        for one in gc.get_objects():
            if issubclass(type(one), asyncio.Task) and not one.done():  # isinstance() would wake what stands for others
                one.print_stack(file=out)
        out.flush()
        faulthandler.dump_traceback(file=out)
    finally:
        os._exit(1)
