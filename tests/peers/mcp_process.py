"""An MCP server in a process of its own, over HTTP, which is killed and started again on the same port (official SDK).

`python -m tests.peers.mcp_process KIND PORT DIRECTORY` serves it: `both`, `modern`, `legacy`, or `sse`. Its tool `work`
works until the file `release` is there; each that is at it has a file `working-…`, and one that was cancelled `cancelled`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import mcp_types as t
from mcp.server import Server

from tests.peers.mcp_asking import ANY, asking, asking_over_sse, text
from tests.peers.mcp_servers import Peer
from tests.serving import free_port, free_socket
from tests.until import until


def working_server(directory: Path) -> Server[Any]:
    """Its tools say what they were given, and at how many calls they were at once at most."""
    numbers, at_once = count(1), [0, 0]

    async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
        return t.ListToolsResult(tools=[t.Tool(name=name, input_schema=ANY) for name in ("echo", "work")])

    async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
        if params.name == "work":
            mark = directory / f"working-{os.getpid()}-{next(numbers)}"
            mark.touch()
            at_once[:] = at_once[0] + 1, max(at_once[0] + 1, at_once[1])
            try:
                while not (directory / "release").exists():
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                (directory / "cancelled").touch()
                raise
            finally:
                at_once[0] -= 1
                mark.unlink(missing_ok=True)
        return text(f"{(params.arguments or {}).get('text')} of {at_once[1]}")

    return Server("working", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


@dataclass
class Process:
    """The server; what it tells is in `directory`."""

    kind: str
    port: int
    directory: Path
    child: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{'sse' if self.kind == 'sse' else 'mcp'}"

    async def start(self) -> None:
        """Start it, and wait until it takes connections."""
        arguments = (self.kind, str(self.port), str(self.directory))
        self.child = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, *arguments, cwd=ROOT)
        async with asyncio.timeout(60):
            while True:
                assert self.child.returncode is None
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                return

    async def kill(self) -> None:
        """Kill -9, as when it crashes."""
        if self.child is not None and self.child.returncode is None:
            self.child.send_signal(signal.SIGKILL)
            await self.child.wait()
        for mark in self.directory.glob("working-*"):
            mark.unlink()

    async def works(self, calls: int) -> None:
        """Wait until it is at so many calls."""
        await until(lambda: len(list(self.directory.glob("working-*"))) >= calls)

    async def cancelled(self) -> None:
        """Wait until a call was cancelled."""
        await until(lambda: (self.directory / "cancelled").exists())

    def release(self) -> None:
        """Let all work end."""
        (self.directory / "release").touch()


@asynccontextmanager
async def server_process(kind: str, directory: Path) -> AsyncIterator[Process]:
    """Start it on a free port; whichever process it is at the end is ended."""
    process = Process(kind, free_port(), directory)
    await process.start()
    try:
        yield process
    finally:
        await process.kill()


ROOT = Path(__file__).parents[2]


async def _serve(kind: str, port: int, directory: Path) -> None:
    def make(_: Peer) -> Server[Any]:
        return working_server(directory)

    sock = free_socket(port)
    async with asking_over_sse(make, sock) if kind == "sse" else asking(kind, make, sock):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
