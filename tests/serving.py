"""Applications served on free ports, in the test's own event loop or a process of a test's. Loads nothing of the hub."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import uvicorn


class Embedded(uvicorn.Server):
    """A server inside the test's event loop: signals stay with pytest, and it ends as soon as it can, where uvicorn looks every 100 ms."""

    def __init__(self, config: uvicorn.Config, ending: asyncio.Event | None = None) -> None:
        super().__init__(config)
        self.ending = ending or asyncio.Event()
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        """Keep the date of answers until the block ends."""
        for second in itertools.count():
            await self.on_tick(second * 10)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.stopping.wait()
                    return

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As the hub's own server does."""
        self.ending.set()
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self.server_state.connections or self.server_state.tasks:
                    await asyncio.sleep(0.002)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, but for the end of the whole program where the application does not start."""
        try:
            await super().serve(sockets)
        except SystemExit:
            raise RuntimeError("the application did not start; its log says why") from None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def served(app: object, sock: socket.socket | None = None) -> AsyncIterator[str]:
    """Serve an ASGI application on a free port; yields its URL."""
    sock = sock or free_socket()
    host, port = sock.getsockname()[:2]
    config = uvicorn.Config(app, ws="none", log_config=None, lifespan="auto", timeout_graceful_shutdown=1)
    async with run(Embedded(config), sock):
        yield f"http://{host}:{port}"


def free_socket(port: int = 0) -> socket.socket:
    """A listening socket on a free loopback port, or on one that was free before."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(128)
    return sock


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8  # noqa: TID251  # pytest's own
_PORTS = itertools.count(secrets.randbelow(2_000))


def free_port() -> int:
    """A port that is free now, for servers that bind it themselves.

    It is below those that systems give out (from 32768 on), and given to nobody else of a run for long: each worker has ports of its
    own, one after the other, so that no other server gets it before this one does.
    """
    while True:
        port = 15_000 + 2_000 * _WORKER + next(_PORTS) % 2_000
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@asynccontextmanager
async def run(uvicorn_server: Embedded, sock: socket.socket) -> AsyncIterator[None]:
    """Run a server on a bound socket until the block ends."""
    serving = asyncio.create_task(uvicorn_server.serve([sock]))
    try:
        while not uvicorn_server.started:
            if serving.done():
                serving.result()
            await asyncio.sleep(0)
        yield
    finally:
        uvicorn_server.stopping.set()
        await serving
        sock.close()
