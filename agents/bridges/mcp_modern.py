"""One request of MCP's revision 2026-07-28, over Streamable HTTP: nothing is held open between two."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing

from agents.bridges.way import Way
from registry.egress.http import Incoming
from registry.errors import UpstreamInvalid
from registry.judged import JsonObject

VERSION = "2026-07-28"
CLIENT = {"name": "hubbub", "version": "1"}
CAPABILITIES: JsonObject = {"elicitation": {"form": {}, "url": {}}}
"""What callers of agents can be asked."""

ACCEPT = ("accept", "application/json, text/event-stream")

_META = "io.modelcontextprotocol/"
TASKS = f"{_META}tasks"


async def ask(
    way: Way, url: str, method: str, params: JsonObject, *, progress: str | None = None
) -> AsyncGenerator[JsonObject]:
    """Send one request; gives back the notifications that come, and the response last.

    Raises:
        UpstreamError: it was not answered, or not in MCP.
    """
    meta = {
        f"{_META}protocolVersion": VERSION,
        f"{_META}clientInfo": CLIENT,
        f"{_META}clientCapabilities": {**CAPABILITIES, "extensions": {TASKS: {}}},
        **({"progressToken": progress} if progress is not None else {}),
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    name = params.get("name") or params.get("taskId")
    headers = (
        ACCEPT,
        ("mcp-protocol-version", VERSION),
        ("mcp-method", method),
        *((("mcp-name", _header(name)),) if isinstance(name, str) else ()),
    )
    async with (
        way.send("POST", url, body, headers=headers) as incoming,
        aclosing(messages(way, incoming)) as found,
    ):
        async for message in found:
            yield message
            if message.get("id") == 1 and "method" not in message:
                return
    raise UpstreamInvalid(way.name, "its answer was cut short")


async def messages(way: Way, incoming: Incoming) -> AsyncGenerator[JsonObject]:
    """The messages of an answer, whole or streamed."""
    if incoming.media_type == "text/event-stream":
        async with aclosing(way.events_of(incoming)) as events:
            async for event in events:
                message = way.read(event.data)
                if isinstance(message, dict):
                    yield message
    else:
        message = way.read(await incoming.read())
        if isinstance(message, dict):
            yield message


def _header(name: str) -> str:
    """A name as the value of a header; one that is not plain ASCII in base64, as the revision wants it."""
    if name.isascii() and name.isprintable() and name == name.strip():
        return name
    return f"=?base64?{base64.b64encode(name.encode()).decode()}?="
