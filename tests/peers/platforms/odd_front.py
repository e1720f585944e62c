"""What stands between the hub and a platform where a test wants its answers odd: every byte is the platform's but for what is said here.

* `is_odd`: answers are as strange as their formats allow: unknown members in every object, letters that are not escaped; in server-sent events (WHATWG
  HTML, "Server-sent events") comments, unknown fields and events, `retry`, data in several lines, every kind of line end; in lines of JSON empty ones and
  CRLF; among them the events that `Kind.odd` says.
* `busy`: the next requests are answered as `Kind.odd` says, 429 if nothing else, with a Retry-After (RFC 6585 §4).
* `expire`: streams end as `Kind.odd` says, or break, and no credentials are good any more but those that the platform gives from now on.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import cycle
from types import MappingProxyType
from typing import Any

import httpx

from tests.peers.model_service import read, reply
from tests.peers.platforms.platform import Kind, Platform
from tests.serving import served

ORIGIN = re.compile(r"http://127\.0\.0\.1:\d+")
FREE = frozenset(
    {"arguments", "args", "inputRequests", "inputSchema", "properties", "securitySchemes", "snapshot", "state"}
)
"""Members whose objects have what members they like, and mean them."""

HOP = frozenset({"connection", "content-length", "transfer-encoding", "date", "server", "keep-alive"})


class Front:
    """One front. Its `entry` is the platform's, by way of it."""

    def __init__(self, kind: Kind, platform: Platform, *, is_odd: bool) -> None:
        found = ORIGIN.search(platform.entry)
        assert found is not None
        self.url = ""
        self._platform, self._origin = platform, found[0]
        self._odd = kind.odd if is_odd else None
        self._end, self._busy = kind.odd.end, kind.odd.busy
        self._expired = asyncio.Event()
        self._refuses = False
        self._next: list[tuple[int, Mapping[str, str]]] = []
        self.refused: list[tuple[int, str, bytes]] = []
        """Status, path and body of requests that were not taken."""
        self.taken: list[bytes] = []
        """The bodies of those that were."""
        self.strange = 0
        """Events that were passed on among odd ones."""

    @property
    def entry(self) -> str:
        """The agent's members in hub.yaml."""
        return ORIGIN.sub(self.url, self._platform.entry, count=1)

    def busy(self) -> None:
        """Refuse the next requests, and ask for patience."""
        self._next = list(self._busy)

    def expire(self) -> None:
        """Let all credentials end, and the streams that were begun with them."""
        if self._platform.expire is None:
            self._refuses = True
        else:
            self._platform.expire()
        self._expired.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)
        path = scope["raw_path"].decode().partition("?")[0]
        if self._next:
            status, headers = self._next.pop(0)
            self.refused.append((status, path, request.raw))
            await _refuse(send, status, headers)
        elif self._refuses:
            self.refused.append((401, path, request.raw))
            await _refuse(send, 401)
        else:
            self.taken.append(request.raw)
            query = f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
            passing = asyncio.create_task(self._pass(scope["method"], path + query, request, send))
            leaving = asyncio.create_task(receive())
            await asyncio.wait({passing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if not passing.done():
                passing.cancel()
            await asyncio.wait({passing, leaving})
            if not passing.cancelled():
                passing.result()

    async def _pass(self, method: str, target: str, request: Any, send: Any) -> None:
        async with (
            httpx.AsyncClient(trust_env=False, timeout=60) as http,
            http.stream(
                method, httpx.URL(self._origin + target), content=request.raw or None, headers=request.headers
            ) as answer,
        ):
            headers = [(name.encode(), text.encode()) for name, text in answer.headers.items() if name not in HOP]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
            kind = answer.headers.get("content-type", "").partition(";")[0]
            cut = _CUTS.get(kind) or (_lines if "streamQuery" in target else None)
            if cut is None or answer.status_code != 200:
                body = await answer.aread()
                await send({"type": "http.response.body", "body": self._whole(body, kind)})
                return
            pieces = answer.aiter_raw().__aiter__()
            stream = self._odd_ones(kind, cut, pieces) if self._odd is not None else pieces
            await self._stream(stream, send)

    def _whole(self, body: bytes, kind: str) -> bytes:
        """A whole answer, in which the platform is where the front is."""
        body = body.replace(self._origin.encode(), self.url.encode())
        if self._odd is None or not kind.endswith("json") or not body:
            return body
        return _written(json.loads(body))

    async def _stream(self, pieces: AsyncIterator[bytes], send: Any) -> None:
        """Pass a stream on until it ends, or the credentials do that it was asked for with."""
        expired = asyncio.create_task(self._expired.wait())
        try:
            while True:
                piece = asyncio.create_task(anext(pieces, b""))  # type: ignore[arg-type]
                await asyncio.wait({piece, expired}, return_when=asyncio.FIRST_COMPLETED)
                if expired.done():
                    piece.cancel()
                    await asyncio.wait({piece})
                    break
                await send({"type": "http.response.body", "body": piece.result(), "more_body": True})
                if not piece.result():
                    await send({"type": "http.response.body", "body": b""})
                    return
        finally:
            expired.cancel()
        self._expired.clear()
        if not self._end:
            raise ConnectionAbortedError("the token has expired")
        await send({"type": "http.response.body", "body": self._end})

    async def _odd_ones(
        self, kind: str, cut: Callable[[bytes], list[bytes]], pieces: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The events of a stream, each between others that mean nothing to who reads it."""
        odd, held, strange = self._odd, b"", _STRANGE.get(kind, _strange_line)
        assert odd is not None
        ends = cycle([b"\n", b"\r\n", b"\r"])
        async for piece in pieces:
            *events, held = cut(held + piece)
            for event in events:
                self.strange += 1
                yield b"".join([*odd.among, strange(event, next(ends))])
        yield b"".join([held, *odd.late])


async def _refuse(send: Any, status: int, headers: Mapping[str, str] = MappingProxyType({})) -> None:
    body = {"message": "the token has expired" if status == 401 else "not now"}
    await reply(send, status, body, **{"retry-after": "0", **headers})


def _events(data: bytes) -> list[bytes]:
    return re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", data)


def _lines(data: bytes) -> list[bytes]:
    return re.split(rb"(?<=\n)", data)


def _messages(data: bytes) -> list[bytes]:
    """Those of AWS's event stream encoding."""
    found = []
    while len(data) >= 4 and len(data) >= (size := int.from_bytes(data[:4], "big")):
        found.append(data[:size])
        data = data[size:]
    return [*found, data]


_CUTS: dict[str, Callable[[bytes], list[bytes]]] = {
    "text/event-stream": _events,
    "application/x-ndjson": _lines,
    "application/vnd.amazon.eventstream": _messages,
}


def _strange_event(event: bytes, end: bytes) -> bytes:
    """One server-sent event, written in another way, behind what is none."""
    lines = [b": a comment, with a colon: here", b"", b"retry: 10", b"", b"event: later", b"", b": another"]
    data = [line.partition(b":")[2].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    others = [line for line in event.splitlines() if line and not line.startswith(b"data:")]
    if not data:
        return event
    lines += [*others, b"later: a field that nobody knows", b"later"]
    lines += [b"data:" + line for line in _data(b"\n".join(data)).split(b"\n")]
    return b"".join(line + end for line in [*lines, b""])


def _data(data: bytes) -> bytes:
    """The data of an event over several lines; a text as it is."""
    try:
        return _written(json.loads(data), indent=1)
    except ValueError:
        return data


def _strange_line(line: bytes, _end: bytes) -> bytes:
    return b"\r\n \n" + _written(json.loads(line)) + b"\r\n"


_STRANGE: dict[str, Callable[[bytes, bytes], bytes]] = {
    "text/event-stream": _strange_event,
    "application/vnd.amazon.eventstream": lambda message, _end: message,
}


def _written(said: Any, indent: int | None = None) -> bytes:
    return json.dumps(_more(said), ensure_ascii=False, indent=indent).encode()


def _more(said: Any) -> Any:
    """JSON with members that nobody knows."""
    if isinstance(said, list):
        return [_more(one) for one in said]
    if not isinstance(said, dict):
        return said
    known = {name: value if name in FREE else _more(value) for name, value in said.items()}
    return {"laterFirst": {"deep": [None, {"é": 1}]}, **known, "later_last": "\N{GRINNING FACE}"}


@asynccontextmanager
async def open_front(kind: Kind, platform: Platform, *, is_odd: bool = False) -> AsyncIterator[Front]:
    """A front before a platform."""
    front = Front(kind, platform, is_odd=is_odd)
    async with served(front) as front.url:
        yield front
