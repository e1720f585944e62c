"""The stdio transport of one MCP server: a child in a process group of its own that never outlives its connection.

Fits the SDK's `Transport`. The child sees a minimal environment and its entry's own variables, nothing of the hub's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import anyio
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from registry.entries import Server

logger = logging.getLogger(__name__)

INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
"""What a child may know of the hub's environment."""

GRACE_S = 2.0
"""How long a child has to end after its stdin closed, and again after SIGTERM (2025-11-25, Lifecycle, Shutdown)."""

MAX_LINE_BYTES = 32 * 1024 * 1024
MAX_LOGGED_LINE = 2000
MIN_SECRET_LENGTH = 6
"""Shorter values of the entry's environment are words like `true`, not secrets."""


@asynccontextmanager
async def stdio_transport(
    server: Server, environment: Mapping[str, str], on_end: Callable[[], None]
) -> AsyncIterator[TransportStreams]:
    """Start the child and carry JSON-RPC lines; `on_end` is called when the child stops answering.

    Raises:
        OSError: it cannot be started.
    """
    assert server.command is not None
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: _Protocol(on_end),
        server.command,
        *server.args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: environment[name] for name in INHERITED if name in environment} | dict(server.env),
        cwd=server.cwd,
        start_new_session=True,
    )
    process = asyncio.subprocess.Process(transport, protocol, loop)
    incoming, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write_stream, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    # closed without awaiting: one cancelled twice must close them as well
    with incoming, read_stream, write_stream, outgoing:
        pumps = [
            asyncio.create_task(_read(process, incoming, on_end)),
            asyncio.create_task(_write(process, outgoing)),
            asyncio.create_task(_log_errors(process, server)),
        ]
        try:
            yield read_stream, write_stream
        finally:
            try:
                await asyncio.shield(_end(process, protocol))
            finally:
                kill_group(process.pid, signal.SIGKILL)
                transport.close()  # its pipes too, which nobody may read to their end any more
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)


class _Protocol(asyncio.subprocess.SubprocessStreamProtocol):
    """Tells when the child has ended: its descendants may hold its pipes, so that no end of file would."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        super().__init__(limit=MAX_LINE_BYTES, loop=asyncio.get_running_loop())
        self._on_end = on_end
        self._group = 0
        self.exited = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # not isinstance: uvloop's transport is none of asyncio's classes
        self._group = cast("asyncio.SubprocessTransport", transport).get_pid()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()
        kill_group(self._group, signal.SIGKILL)
        self._on_end()


async def _read(process: asyncio.subprocess.Process, incoming: Any, on_end: Callable[[], None]) -> None:
    assert process.stdout is not None
    try:
        with suppress(ValueError, ConnectionError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while line := await process.stdout.readline():
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:
                    continue  # servers print banners; a lost answer runs into its deadline
                await incoming.send(SessionMessage(message))
    finally:
        incoming.close()
        on_end()


async def _write(process: asyncio.subprocess.Process, outgoing: Any) -> None:
    assert process.stdin is not None
    with suppress(ConnectionError, RuntimeError):
        async for session_message in outgoing:
            text = session_message.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(text.encode() + b"\n")
            await process.stdin.drain()


async def _log_errors(process: asyncio.subprocess.Process, server: Server) -> None:
    """Put the child's stderr into the log, without the values that its entry's environment holds."""
    assert process.stderr is not None
    secrets = [value for _, value in server.env if len(value) >= MIN_SECRET_LENGTH]
    with suppress(ConnectionError):
        while chunk := await process.stderr.read(65536):
            for line in chunk.decode(errors="replace").splitlines():
                for secret in secrets:
                    line = line.replace(secret, "***")  # noqa: PLW2901 - several secrets, one line
                logger.info(
                    "stdio server wrote to stderr", extra={"server": server.name, "line": line[:MAX_LOGGED_LINE]}
                )


async def _end(process: asyncio.subprocess.Process, protocol: _Protocol) -> None:
    """Close stdin, then SIGTERM, then SIGKILL, each for the whole group."""
    assert process.stdin is not None
    with suppress(ConnectionError, RuntimeError):
        process.stdin.close()
    if not await _ended(protocol):
        kill_group(process.pid, signal.SIGTERM)
        if not await _ended(protocol):
            kill_group(process.pid, signal.SIGKILL)
            await _ended(protocol)


async def _ended(protocol: _Protocol) -> bool:
    """Whether the child itself ends within the grace.

    Not `process.wait()`: that would also wait for descendants that hold the child's pipes.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            await protocol.exited.wait()
    return protocol.exited.is_set()


def kill_group(group: int, signal_number: signal.Signals) -> None:
    """Send a signal to what is left of a child's process group; never to the hub's own."""
    assert group > 1, "0 would be the hub's own group, 1 is nobody's child"
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal_number)
