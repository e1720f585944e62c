"""One request and its answer, free of ASGI: what a door gets to see. `hub/asgi.py` is the only implementation.

A door reads the request, then either `reply`s at once or `start`s a stream and `write`s to it. `write` waits while the
client reads slowly. Inside `until_gone` the door's task is cancelled when the client leaves; outside it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from registry.identity import Principal

Header = tuple[bytes, bytes]


class Exchange(Protocol):
    """One HTTP request under way."""

    method: str
    path: str
    """Decoded, without the query."""
    query: bytes
    headers: Mapping[bytes, bytes]
    """By lower-case name; of repeated ones the first."""
    raw_headers: Sequence[Header]
    request_id: str
    principal: Principal

    async def body(self) -> bytes:
        """The whole body; raises `TooLarge`, `BodyStalled`, `MediaTypeRefused`."""

    async def reply(
        self, status: int, body: bytes, *, media_type: bytes = b"application/json", headers: Sequence[Header] = ()
    ) -> None:
        """Answer whole."""

    async def start(
        self, status: int, *, media_type: bytes = b"text/event-stream", headers: Sequence[Header] = ()
    ) -> None:
        """Begin a streamed answer. An event stream gets a comment when nothing was written for the keep-alive time."""

    async def write(self, chunk: bytes) -> None:
        """Send a piece of the stream as it is; waits while the client is slow."""

    def until_gone(self) -> AbstractAsyncContextManager[None]:
        """Cancel what runs inside when the client leaves."""

    @property
    def started(self) -> bool:
        """Whether the answer's status has been sent."""
