"""Signals to process groups."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


def kill_group(group: int, number: signal.Signals) -> None:
    """Send a signal to what is left of a child's process group; never to one's own."""
    assert group > 1, "0 would be one's own group, 1 is nobody's child"
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
