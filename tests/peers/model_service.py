"""What the fake model services have in common: how a request is read, a scripted stream written, and a client that leaves noticed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

Send = Callable[[bytes], Awaitable[None]]


@dataclass
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw)


async def read(scope: Any, receive: Any) -> Received:
    """Read a request to its end."""
    raw = b""
    while True:
        message = await receive()
        raw += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    return Received(scope["path"], headers, raw)


async def reply(send: Any, status: int, body: Any, kind: str = "application/json", **headers: str) -> None:
    """Answer a request whole: bytes as they are, anything else as JSON."""
    named = [(name.encode(), text.encode()) for name, text in {"content-type": kind, **headers}.items()]
    await send({"type": "http.response.start", "status": status, "headers": named})
    await send({"type": "http.response.body", "body": body if isinstance(body, bytes) else json.dumps(body).encode()})


async def unless_left(answer: Coroutine[Any, Any, None], receive: Any) -> bool:
    """Answer a request that was read, as long as its client stays; returns whether it did."""
    answering, watching = asyncio.create_task(answer), asyncio.create_task(receive())
    await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
    stayed = answering.done()
    answering.cancel()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    with suppress(asyncio.CancelledError):
        await answering
    return stayed


async def write_all(
    pieces: Sequence[bytes], write: Send, *, text: bytes, hold_last: asyncio.Event | None, cut_after: int | None
) -> None:
    """Write a stream: `hold_last` is awaited before its last piece with `text` in it, after `cut_after` pieces it breaks."""
    last = max((n for n, piece in enumerate(pieces) if text in piece), default=len(pieces) - 1)
    for number, piece in enumerate(pieces):
        if cut_after == number:
            raise ConnectionAbortedError("as the script says")
        if number == last and hold_last is not None:
            await hold_last.wait()
        await write(piece)
