"""An MCP server of a revision before 2026-07-28, over Streamable HTTP: a session for each request, which ends with it.

Such a server asks its callers over the session, which nobody waits on here: it is told that it cannot.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from agents.bridges.way import Way
from registry.egress.http import Incoming
from registry.entries import Headers
from registry.errors import HubError, UpstreamInvalid
from registry.judged import JsonObject

NEWEST = "2025-11-25"
ACCEPT = ("accept", "application/json, text/event-stream")


async def ask(
    way: Way, url: str, method: str, params: JsonObject, *, progress: str | None = None
) -> AsyncGenerator[JsonObject]:
    """Send one request in a session of its own; gives back the notifications that come, and the response last.

    Raises:
        UpstreamError: it was not answered, or not in MCP.
    """
    headers = await _begin(way, url)
    meta = {"_meta": {"progressToken": progress}} if progress is not None else {}
    body = {"jsonrpc": "2.0", "id": 2, "method": method, "params": {**params, **meta}}
    try:
        async with (
            way.send("POST", url, body, headers=(ACCEPT, *headers)) as incoming,
            aclosing(messages(way, incoming)) as found,
        ):
            async for message in found:
                yield message
                if message.get("id") == 2 and "method" not in message:
                    return
        raise UpstreamInvalid(way.name, "its answer was cut short")
    finally:  # also of who leaves: the server ends what the session does
        with suppress(HubError):
            async with way.send("DELETE", url, headers=headers):
                pass


async def messages(way: Way, incoming: Incoming) -> AsyncGenerator[JsonObject]:
    """The messages of an answer, whole or streamed."""
    if incoming.media_type == "text/event-stream":
        async for event in way.events_of(incoming):
            message = way.read(event.data)
            if isinstance(message, dict):
                yield message
    else:
        message = way.read(await incoming.read())
        if isinstance(message, dict):
            yield message


async def _begin(way: Way, url: str) -> Headers:
    """Open a session: the headers of its requests."""
    params = {"protocolVersion": NEWEST, "capabilities": {}, "clientInfo": {"name": "hubbub", "version": "1"}}
    body: JsonObject = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    result: Any = None
    async with (
        way.send("POST", url, body, headers=(ACCEPT,)) as incoming,
        aclosing(messages(way, incoming)) as found,
    ):
        session = incoming.header("mcp-session-id")
        async for message in found:
            if message.get("id") == 1:
                result = message.get("result")
                break
    version = result.get("protocolVersion") if isinstance(result, dict) else None
    if not isinstance(version, str):
        raise UpstreamInvalid(way.name, "its handshake is not MCP")
    named = (("mcp-session-id", session),) if session else ()
    headers = (("mcp-protocol-version", version), *named)
    async with way.send(
        "POST", url, {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=(ACCEPT, *headers)
    ):
        pass
    return headers
