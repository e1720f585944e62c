"""The stdio transport of one MCP server, carried by the supervisor that keeps the child. Fits the SDK's `Transport`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from mcp_bridge.stdio.children import STOP_S, Attached, Children
from mcp_bridge.stdio.frames import ENDED, LEAVE, MESSAGE, WROTE
from registry.entries import Server

logger = logging.getLogger(__name__)


@asynccontextmanager
async def stdio_transport(
    children: Children, server: Server, *, is_shared: bool, on_end: Callable[[], None]
) -> AsyncIterator[TransportStreams]:
    """Talk to the server's child; `on_end` is called when it stops answering. A child that nobody else needs ends with it.

    Raises:
        UpstreamUnavailable: it cannot be started.
    """
    attached = await children.open(server, is_shared=is_shared)
    ended = asyncio.Event()
    incoming, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write_stream, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    # closed without awaiting: one cancelled twice must close them as well
    with incoming, read_stream, write_stream, outgoing:
        pumps = [
            asyncio.create_task(_read(attached, server, incoming, ended, on_end)),
            asyncio.create_task(_write(attached, outgoing)),
        ]
        try:
            yield read_stream, write_stream
        finally:
            is_lost = _is_over(attached.reader) and not ended.is_set()
            if not is_lost and not ended.is_set():
                with suppress(RuntimeError):  # uvloop's word for a connection that has just been lost
                    attached.writer.write(LEAVE + b"\n")  # now: one that is cancelled again must have said it as well
            try:
                await asyncio.shield(_leave(children, attached, pumps, is_lost=is_lost))
            finally:
                attached.writer.close()


def _is_over(reader: asyncio.StreamReader) -> bool:
    return reader.at_eof() or reader.exception() is not None


async def _read(
    attached: Attached, server: Server, incoming: Any, ended: asyncio.Event, on_end: Callable[[], None]
) -> None:
    try:
        with suppress(ValueError, ConnectionError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while line := await attached.reader.readline():
                kind, rest = line[:1], line[1:-1]
                if kind == MESSAGE:
                    with suppress(ValueError):  # no JSON-RPC after all; a lost answer runs into its deadline
                        message = jsonrpc_message_adapter.validate_json(rest, by_name=False)
                        await incoming.send(SessionMessage(message))
                elif kind == WROTE:
                    text = rest.decode(errors="replace")
                    logger.info("stdio server wrote to stderr", extra={"server": server.name, "line": text})
                elif kind == ENDED:
                    ended.set()
                    reason = rest.decode(errors="replace")
                    logger.warning("stdio server ended", extra={"server": server.name, "reason": reason})
    finally:
        incoming.close()
        on_end()


async def _write(attached: Attached, outgoing: Any) -> None:
    with suppress(ConnectionError, RuntimeError):
        async for session_message in outgoing:
            text = session_message.message.model_dump_json(by_alias=True, exclude_unset=True)
            attached.writer.write(MESSAGE + text.encode() + b"\n")
            await attached.writer.drain()


async def _leave(children: Children, attached: Attached, pumps: list[asyncio.Task[None]], *, is_lost: bool) -> None:
    """Wait for what ends with this connection."""
    for pump in pumps:
        pump.cancel()
    await asyncio.gather(*pumps, return_exceptions=True)
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(STOP_S):
            while await attached.reader.read(65536):
                pass
    await children.left(attached, is_lost=is_lost)
