"""Transports whose writes go out together. Knows no protocol.

Written one by one, each write puts the kernel's code in the place of the hub's in the processor's caches, and wakes a peer that has
gone to sleep since the last: together they cost a quarter less of a whole request (docs/decisions/0038).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from registry.company import Company

MAX_HELD_BYTES = 16 * 1024
"""Of one transport; more goes out at once, and its peer's slowness is told at once."""


class Cork:
    """What holds the writes of many transports of one event loop back until they go out together."""

    def __init__(self) -> None:
        self._held: list[CorkedTransport] = []
        self._company = Company(lambda: len(self._held), self._release)

    def hold(self, transport: CorkedTransport) -> None:
        """Have `transport` flushed with the others."""
        if not self._held:
            self._company.wait()
        self._held.append(transport)

    def _release(self) -> None:
        held, self._held = self._held, []
        for transport in held:
            transport.flush()


class CorkedTransport:
    """The methods of `asyncio.Transport` that the hub needs; what is written goes out in its order."""

    __slots__ = (
        "_cork",
        "_held",
        "_size",
        "_write",
        "get_extra_info",
        "inner",
        "is_closing",
        "pause_reading",
        "resume_reading",
    )

    def __init__(self, cork: Cork, transport: asyncio.BaseTransport) -> None:
        self.inner = cast("asyncio.Transport", transport)  # uvloop's own are no subclasses
        self._cork = cork
        self._held: list[bytes | memoryview] = []
        self._size = 0
        self._write = self.inner.write
        self.get_extra_info = self.inner.get_extra_info
        self.is_closing = self.inner.is_closing
        self.pause_reading = self.inner.pause_reading
        self.resume_reading = self.inner.resume_reading

    def write(self, data: bytes | memoryview) -> None:
        """Write `data` soon, or at once where it is much."""
        self._size += len(data)
        held = self._held
        if not held:
            self._cork.hold(self)
        held.append(data)
        if self._size > MAX_HELD_BYTES:
            self.flush()

    def writelines(self, parts: Sequence[bytes]) -> None:
        """Write parts one after the other, as `write` does one."""
        if not self._held:
            self._cork.hold(self)
        self._held += parts
        self._size += sum(map(len, parts))
        if self._size > MAX_HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        held, size = self._held, self._size
        if not held:
            return
        self._held = []
        self._size = 0
        if self.is_closing():
            return
        if len(held) == 1:
            self._write(held[0])
        elif size > MAX_HELD_BYTES:
            self.inner.writelines(held)
        else:
            self._write(b"".join(held))

    def get_write_buffer_size(self) -> int:
        """How many bytes the kernel has not taken yet."""
        return self._size + self.inner.get_write_buffer_size()

    def close(self) -> None:
        """Close when everything is written."""
        self.flush()
        self.inner.close()

    def abort(self) -> None:
        """Close at once; what is held is dropped."""
        self._held = []
        self._size = 0
        self.inner.abort()
