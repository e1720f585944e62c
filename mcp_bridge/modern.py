"""One 2026-07-28 request to an HTTP upstream: a POST through egress, its answer read off JSON or an event stream.

Stateless: no session, no connection of its own. Knows neither names nor grants.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec

from mcp_bridge.headers import encode_header
from mcp_bridge.listener import Listener, declared, passed_on
from mcp_bridge.listening import LISTEN, read_told
from mcp_bridge.wire import (
    HUB,
    META_CAPABILITIES,
    META_CLIENT,
    META_VERSION,
    MODERN,
    Answer,
    Request,
    read_answer,
    request_message,
)
from registry.egress.http import Incoming, OpenPermit, Outgoing, Sender
from registry.egress.sse import EventTooLarge, Framer, data_of
from registry.entries import Headers, Server
from registry.errors import (
    InvalidRequest,
    ParseFailed,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamUnavailable,
)
from registry.judged import JsonObject, RawObject, encode

PROBE_S = 10.0
"""How long `server/discover` may take."""

OLDER_REFUSALS = frozenset({400, 404, 405, 406, 415})
"""Statuses with which servers of older revisions refuse what they do not know."""

_ENVELOPE: RawObject = {
    META_VERSION: msgspec.Raw(encode(MODERN)),
    META_CLIENT: msgspec.Raw(encode(HUB)),
}


Told = Callable[[str, JsonObject], None]
"""Takes a notification: method and params."""


class NotModern(Exception):
    """The upstream does not speak 2026-07-28; nothing was executed."""


def envelope(request: Request, *, sampling: bool = False) -> JsonObject:
    """The params of a request with the hub's own envelope, which says what the caller can be asked."""
    capabilities = passed_on(bytes(declared(request.meta)), sampling=sampling)
    return {**request.params, "_meta": {**request.meta, **_ENVELOPE, META_CAPABILITIES: capabilities}}


@lru_cache(maxsize=4096)
def _headers(method: str, name: str | None, server_headers: Headers) -> Headers:
    """The headers of all requests of one kind: one object, so that the way out can keep its encoded form."""
    named = (("mcp-name", encode_header(name)),) if name is not None else ()
    return (
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-protocol-version", MODERN),
        ("mcp-method", method),
        *named,
        *server_headers,
    )


async def post(
    egress: Sender, server: Server, *, permit: OpenPermit, request: Request, listener: Listener | None = None
) -> Answer:
    """Send one request and return how it was answered.

    Raises:
        NotModern: the upstream is older, or became so; nothing was executed.
        UpstreamError: no answer, or none that is MCP.
    """
    assert server.url is not None
    headers = _headers(request.method, request.name, server.headers)
    if request.headers:
        headers = (*request.headers, *headers)
    outgoing = Outgoing(
        url=server.url,
        headers=headers,
        body=request_message(request.method, envelope(request, sampling=server.sampling)),
        trusted=server.trusted,
    )
    async with egress.send(permit, outgoing) as incoming:
        check_status(incoming, permit.entry_name)
        try:
            answer = await read_one(incoming, permit.entry_name, listener)
        except (ParseFailed, InvalidRequest, EventTooLarge):
            if incoming.status in OLDER_REFUSALS:
                raise NotModern from None
            raise UpstreamInvalid(permit.entry_name, "its answer is not MCP") from None
        if answer.error is not None and answer.error_code == -32022:
            raise NotModern
        return answer


async def read_one(incoming: Incoming, entry: str, listener: Listener | None) -> Answer:
    """Read the answer to a request, whole or at the end of an event stream; `listener` hears what comes before it."""
    if incoming.media_type == "text/event-stream":
        return await _read_stream(incoming, entry, listener)
    answer = read_answer(await incoming.read())
    if answer is None:
        raise UpstreamInvalid(entry, "it answered with a notification")
    return answer


async def listen(egress: Sender, server: Server, *, permit: OpenPermit, notifications: JsonObject, told: Told) -> None:
    """Hold a `subscriptions/listen` and hand on what it tells, until the server ends it.

    Raises:
        NotModern: the upstream is older.
        UpstreamError: no stream, a broken one, or one that is not MCP.
    """
    assert server.url is not None
    request = Request(method=LISTEN, params={"notifications": notifications})
    outgoing = Outgoing(
        url=server.url,
        headers=_headers(request.method, None, server.headers),
        body=request_message(request.method, envelope(request)),
        trusted=server.trusted,
    )
    entry = permit.entry_name
    async with egress.send(permit, outgoing) as incoming:
        check_status(incoming, entry)
        try:
            if incoming.media_type == "text/event-stream":
                await _tell(incoming, told)
                return
            answer = await read_one(incoming, entry, None)
        except (ParseFailed, InvalidRequest, EventTooLarge):
            if incoming.status in OLDER_REFUSALS:
                raise NotModern from None
            raise UpstreamInvalid(entry, "its answer is not MCP") from None
        if answer.error_code == -32022:
            raise NotModern
        raise UpstreamInvalid(entry, "it offers no subscriptions")


async def _tell(incoming: Incoming, told: Told) -> None:
    framer = Framer()
    async for chunk in incoming.chunks():
        for message in framer.data(chunk):
            if read_answer(message) is not None:
                return
            found = read_told(message)
            if found is not None:
                told(*found)


def check_status(incoming: Incoming, entry: str) -> None:
    """Raise `UpstreamError` for an HTTP answer that cannot hold a JSON-RPC one."""
    status = incoming.status
    if status == 200:
        return
    if status in {401, 403}:
        raise UpstreamRefused(entry, status)
    if status == 429:
        raise UpstreamLimited(entry, incoming.header(b"retry-after"))
    if status >= 500 and incoming.media_type != "application/json":
        raise UpstreamUnavailable(entry, f"it failed (HTTP {status})")
    if status in {202, 204} or 300 <= status < 400:
        raise UpstreamInvalid(entry, f"it did not answer the request (HTTP {status})")


async def _read_stream(incoming: Incoming, entry: str, listener: Listener | None) -> Answer:
    framer = Framer()
    if listener is not None:
        await listener.opened()
    async for chunk in incoming.chunks():
        for event in framer.feed(chunk):
            message = data_of(event)
            answer = read_answer(message) if message else None
            if answer is not None:
                return answer
            if message and listener is not None:
                await listener.notified(message)
    raise UpstreamInvalid(entry, "its stream ended without an answer")


async def is_modern(egress: Sender, server: Server, permit: OpenPermit) -> bool:
    """Ask an HTTP server whether it speaks 2026-07-28.

    Raises:
        UpstreamError: it cannot be asked; that says nothing about what it speaks.
    """
    try:
        answer = await post(egress, server, permit=permit, request=Request(method="server/discover"))
        supported = (answer.result or {}).get("supportedVersions")
        return supported is not None and MODERN in msgspec.json.decode(supported, type=list[str])
    except (NotModern, msgspec.DecodeError):
        return False
