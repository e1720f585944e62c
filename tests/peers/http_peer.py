"""Raw HTTP/1.1 peers, written against the sockets: no real server can be made to cut, stall or garble on demand.

Also a forward proxy (CONNECT and absolute-form), since no real one can be installed here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"


@dataclass
class Request:
    """One request as it came."""

    head: bytes
    body: bytes = b""

    @property
    def start(self) -> str:
        return self.head.split(b"\r\n")[0].decode()

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


@dataclass
class Peer:
    """A listening peer and what it saw."""

    port: int = 0
    accepted: int = 0
    requests: list[Request] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """A request came."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """A client closed its connection, as far as the peer looked."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


Answer = Callable[[Peer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read a head, and the body that it states."""
    request = Request(await reader.readuntil(b"\r\n\r\n"))
    request.body = await reader.readexactly(int(request.headers.get("content-length", "0")))
    return request


def always(raw: bytes, *, close: bool = False) -> Answer:
    """Answer every request with these bytes, then perhaps close."""

    async def answer(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            peer.requests.append(await read_request(reader))
            peer.asked.set()
            writer.write(raw)
            await writer.drain()
            if close:
                return

    return answer


def never(raw: bytes = b"") -> Answer:
    """Begin to answer with these bytes, then only watch the client leave."""

    async def answer(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.requests.append(await read_request(reader))
        writer.write(raw)
        peer.asked.set()
        with suppress(ConnectionError):
            await reader.read()
        peer.left.set()

    return answer


@asynccontextmanager
async def listening(answer: Answer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """Serve each connection with `answer` until the block ends."""
    peer = Peer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await answer(peer, reader, writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.accepted += 1
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _: writer.close())  # also when it is cancelled before it began

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0)


async def forward(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a forward proxy: a tunnel for CONNECT, `OK` for everything else."""
    request = await read_request(reader)
    peer.requests.append(request)
    if not request.start.startswith("CONNECT "):
        writer.write(OK)
        await writer.drain()
        await forward(peer, reader, writer)
        return
    host, _, port = request.start.split(" ")[1].rpartition(":")
    behind_reader, behind_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_pipe(reader, behind_writer))
            both.create_task(_pipe(behind_reader, writer))
    finally:
        behind_writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
