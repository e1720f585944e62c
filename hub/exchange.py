"""One request and its answer, free of ASGI: what a door gets to see. `hub/http_exchange.py` is the only implementation.

A door reads the request, then either `reply`s at once or `start`s a stream and `write`s to it. `write` waits while the
client reads slowly. Inside `until_gone` the door's task is cancelled when the client leaves; outside it is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from registry.deadline import CallerLeft
from registry.errors import HubError
from registry.identity import Principal

Header = tuple[bytes, bytes]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiCall = tuple[MutableMapping[str, Any], Receive, Send]
"""`scope`, `receive` and `send` of one ASGI call."""


KEEP_ALIVE = b": keep-alive\n\n"
"""A comment in an event stream."""


class ClientGone(CallerLeft):
    """The client left; nobody reads an answer any more."""


class Exchange(Protocol):
    """One HTTP request under way."""

    method: str
    path: str
    """Decoded, without the query."""
    query: bytes
    target: bytes
    """Path and query as they came, percent-encoded."""
    headers: Mapping[bytes, bytes]
    """By lower-case name; of repeated ones the first."""
    raw_headers: Sequence[Header]
    request_id: str
    principal: Principal
    """Who calls. On a path that a door opened to everybody: `registry.identity.NOBODY`."""
    failure: HubError | None
    """The error that the door itself answered with."""

    async def body(self) -> bytes:
        """Read the whole body; raises `TooLarge`, `BodyStalled`, `MediaTypeRefused`, `ContentCodingRefused`, `ClientGone`."""

    async def any_body(self) -> bytes:
        """Read the whole body, of any media type; raises as `body`."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, up to the limit of uploads, read as fast as this is; raises as `body`, once."""

    def add_header(self, name: bytes, value: bytes) -> None:
        """Have the answer, which has not begun, carry a header; the last of a name counts."""

    async def reply(
        self,
        status: int,
        body: bytes | tuple[bytes, ...],
        *,
        media_type: bytes = b"application/json",
        headers: Sequence[Header] = (),
    ) -> None:
        """Answer whole; a body in parts is sent without copying them together."""

    async def start(
        self,
        status: int,
        *,
        media_type: bytes = b"text/event-stream",
        headers: Sequence[Header] = (),
        idle: bytes = KEEP_ALIVE,
    ) -> None:
        """Begin a streamed answer. An event stream gets `idle` when nothing was written for the keep-alive time."""

    async def write(self, chunk: bytes) -> None:
        """Send a piece of the stream as it is; waits while the client is slow."""

    def until_gone(self) -> AbstractContextManager[None]:
        """`with`: cancel what runs inside when the client leaves; it then ends with `ClientGone`."""

    def asgi(self) -> AsgiCall:
        """Hand the exchange to an ASGI application of an SDK: a body that was read is replayed to it."""

    @property
    def peer(self) -> str | None:
        """The address at the other end of the connection, which may be a proxy's; None: it has none."""

    @property
    def started(self) -> bool:
        """Whether the answer's status has been sent."""
