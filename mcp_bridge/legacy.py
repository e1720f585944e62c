"""Whether a server of 2026-07-28 speaks older revisions too."""

from __future__ import annotations

import msgspec

from mcp_bridge.modern import check_status, read_one
from mcp_bridge.wire import HUB, LEGACY, request_message
from registry.egress.http import OpenPermit, Outgoing, Sender
from registry.entries import Headers, Server
from registry.errors import InvalidRequest, ParseFailed, UpstreamInvalid

_ACCEPT: Headers = (("accept", "application/json, text/event-stream"), ("content-type", "application/json"))
_HELLO = {"protocolVersion": LEGACY[0], "capabilities": {}, "clientInfo": HUB}


async def is_legacy(egress: Sender, server: Server, permit: OpenPermit) -> bool:
    """Ask an HTTP server for a session of 2025-11-25, and end it.

    Raises:
        UpstreamError: it cannot be asked; that says nothing about what it speaks.
    """
    assert server.url is not None
    hello = request_message("initialize", _HELLO)
    outgoing = Outgoing(url=server.url, headers=(*_ACCEPT, *server.headers), body=hello, trusted=server.trusted)
    async with egress.send(permit, outgoing) as incoming:
        check_status(incoming, permit.entry_name)
        session = incoming.header(b"mcp-session-id")
        try:
            answer = await read_one(incoming, permit.entry_name, None)
        except (ParseFailed, InvalidRequest, UpstreamInvalid):
            return False
    if session is not None:
        ended: Headers = (*_ACCEPT, ("mcp-session-id", session), *server.headers)
        gone = Outgoing(url=server.url, method="DELETE", headers=ended, trusted=server.trusted)
        async with egress.send(permit, gone) as incoming:
            await incoming.read()
    version = (answer.result or {}).get("protocolVersion", msgspec.Raw(b'""'))
    return msgspec.json.decode(version) in LEGACY
