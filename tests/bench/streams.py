"""Loads a chat stream as wrk loads the other cases, and stamps the first event of each answer, which wrk cannot.

`python -m tests.bench.streams PORT REQUEST CONNECTIONS SECONDS`; REQUEST is a file with the raw request. Prints one line
of JSON as load.lua does, where the percentiles are the times to the first event.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from tests.bench.upstream import EVENTS

DELTA = b'"delta":{"content":"word'


class Streams(asyncio.Protocol):
    """One connection: asks again as soon as an answer has ended, until the time is over."""

    def __init__(self, request: bytes, until: float, first_events: list[float]) -> None:
        self._request = request
        self._until = until
        self._first_events = first_events
        self._waiting = True
        self._read = bytearray()
        self.whole = 0
        self.wrong = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._read.clear()
        self._waiting = True
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._read += data
        if self._waiting and DELTA in self._read:
            self._waiting = False
            self._first_events.append(time.perf_counter() - self._asked)
        if not self._read.endswith(b"0\r\n\r\n"):
            return
        right = self._read.startswith(b"HTTP/1.1 200") and self._read.count(DELTA) == EVENTS
        self.whole += right
        self.wrong += not right
        if time.perf_counter() < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.wrong += error is not None or time.perf_counter() < self._until
        self.done.set_result(None)


async def load(port: int, request: bytes, connections: int, seconds: float) -> dict[str, float]:
    """Load for `seconds` and say how it went."""
    loop = asyncio.get_running_loop()
    first_events: list[float] = []
    began = time.perf_counter()
    streams = []
    for _ in range(connections):
        _, stream = await loop.create_connection(
            lambda: Streams(request, began + seconds, first_events), "127.0.0.1", port
        )
        streams.append(stream)
    await asyncio.wait_for(asyncio.gather(*(stream.done for stream in streams)), seconds + 30)
    took = time.perf_counter() - began
    ordered = sorted(first_events) or [0.0]
    return {
        "requests": sum(stream.whole for stream in streams),
        "seconds": took,
        "refused": 0,
        "broken": sum(stream.wrong for stream in streams),
        "p50_ms": ordered[len(ordered) // 2] * 1e3,
        "p99_ms": ordered[len(ordered) * 99 // 100] * 1e3,
    }


if __name__ == "__main__":
    port, request, connections, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(load(int(port), Path(request).read_bytes(), int(connections), float(seconds)))))
