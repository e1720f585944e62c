"""Loads a stream as wrk loads the other cases, and stamps the first event of each answer, which wrk cannot.

`python -m tests.bench.streams PORT REQUEST CONNECTIONS SECONDS WORDS`; REQUEST is a file with the raw request, WORDS the
number of `word`s in a whole answer; with 0 seconds each connection asks once. Prints one line of JSON as load.lua does,
where the percentiles are the times to the first event, and `open_at_once` is how many streams were under way at most.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

EVENT = b"data: "
WORD = b'"word'


@dataclass(slots=True)
class Load:
    """What all connections share."""

    request: bytes
    words: int
    until: float
    first_events: list[float] = field(default_factory=list)
    open_now: int = 0
    open_at_once: int = 0


class Streams(asyncio.Protocol):
    """One connection: asks again as soon as an answer has ended, until the time is over."""

    def __init__(self, shared: Load) -> None:
        self._shared = shared
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
        self._transport.write(self._shared.request)

    def data_received(self, data: bytes) -> None:
        self._read += data
        shared = self._shared
        if self._waiting and EVENT in self._read:
            self._waiting = False
            shared.first_events.append(time.perf_counter() - self._asked)
            shared.open_now += 1
            shared.open_at_once = max(shared.open_at_once, shared.open_now)
        if not self._read.endswith(b"0\r\n\r\n"):
            return
        shared.open_now -= 1
        right = self._read.startswith(b"HTTP/1.1 200") and self._read.count(WORD) == shared.words
        self.whole += right
        self.wrong += not right
        if time.perf_counter() < shared.until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.wrong += error is not None or time.perf_counter() < self._shared.until
        self.done.set_result(None)


async def load(port: int, request: bytes, *, connections: int, seconds: float, words: int) -> dict[str, float]:
    """Load for `seconds` and say how it went."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    shared = Load(request, words, began + seconds)
    streams = []
    for _ in range(connections):
        _, stream = await loop.create_connection(lambda: Streams(shared), "127.0.0.1", port)
        streams.append(stream)
    await asyncio.wait_for(asyncio.gather(*(stream.done for stream in streams)), seconds + 60)
    took = time.perf_counter() - began
    ordered = sorted(shared.first_events) or [0.0]
    return {
        "requests": sum(stream.whole for stream in streams),
        "seconds": took,
        "refused": 0,
        "broken": sum(stream.wrong for stream in streams),
        "open_at_once": shared.open_at_once,
        "p50_ms": ordered[len(ordered) // 2] * 1e3,
        "p99_ms": ordered[len(ordered) * 99 // 100] * 1e3,
    }


if __name__ == "__main__":
    port, file, connections, seconds, words = sys.argv[1:]
    loading = load(
        int(port), Path(file).read_bytes(), connections=int(connections), seconds=float(seconds), words=int(words)
    )
    print(json.dumps(uvloop.run(loading)))
