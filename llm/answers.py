"""Hands a provider's answer of any media type to the caller as it comes, and reads off what it says it used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from registry.egress.http import Incoming
from registry.egress.sse import EventTooLarge, Framer, data_of
from registry.entries import Model
from registry.errors import UpstreamInvalid
from registry.gate import Permit, Usage

Header = tuple[bytes, bytes]

JSON = "application/json"
EVENTS = "text/event-stream"
BYTES = b"application/octet-stream"
_HARMLESS = ("application/json", "audio/", "video/", "image/", "text/plain", "text/vtt", "application/x-subrip")
_NOT_SNIFFED: tuple[Header, ...] = ((b"x-content-type-options", b"nosniff"),)


class Answering(Protocol):
    """Where the answer goes: the part of `hub.exchange.Exchange` that is used here."""

    async def reply(self, status: int, body: bytes) -> None:
        """Answer with JSON, whole."""

    async def start(self, status: int, *, media_type: bytes = ..., headers: Sequence[Header] = ...) -> None:
        """Begin a streamed answer."""

    async def write(self, chunk: bytes) -> None:
        """Send a piece of it."""


class _Counts(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


class _Counted(msgspec.Struct):
    usage: _Counts | None = None
    response: _Counted | None = None


_counted = msgspec.json.Decoder(_Counted)


def used(data: bytes) -> Usage | None:
    """What an answer or an event says that it used, in any of the words that endpoints have for it; None: nothing."""
    try:
        found = _counted.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    counts = found.usage
    if counts is None:
        return None
    given = counts.prompt_tokens if counts.input_tokens is None else counts.input_tokens
    made = counts.completion_tokens if counts.output_tokens is None else counts.output_tokens
    if given is None and made is None:
        given = counts.total_tokens
    return None if given is None and made is None else Usage(given, made)


async def relay(incoming: Incoming, model: Model, permit: Permit, sink: Answering) -> None:
    """Pass an answer on, and hand the permit what it used if it says that.

    Raises:
        UpstreamError: it ended early or is not what it says; what was written until then is whole events.
    """
    media_type = incoming.media_type
    if media_type == JSON:
        data = await incoming.read()
        permit.usage = used(data) or permit.usage
        await sink.reply(incoming.status, data)
    elif media_type == EVENTS:
        await _events(incoming, model, permit, sink)
    else:
        await pass_on(incoming, sink)


async def pass_on(incoming: Incoming, sink: Answering) -> None:
    """Pass content on as it comes, of any media type."""
    await sink.start(incoming.status, media_type=shown_as(incoming.media_type), headers=_NOT_SNIFFED)
    async for chunk in incoming.chunks():
        await sink.write(chunk)


def shown_as(media_type: str) -> bytes:
    """The media type under which the hub hands content on: nothing of a provider's may run in a browser as the hub's own."""
    if media_type.startswith(_HARMLESS) and media_type != "image/svg+xml":
        return media_type.encode("latin-1", "replace")
    return BYTES


async def _events(incoming: Incoming, model: Model, permit: Permit, sink: Answering) -> None:
    framer = Framer()
    await sink.start(200)
    try:
        async for chunk in incoming.chunks():
            whole = framer.feed(chunk)
            for event in whole:
                if b'"usage"' in event:
                    permit.usage = used(data_of(event)) or permit.usage
            await sink.write(b"".join(whole))
    except EventTooLarge:
        raise UpstreamInvalid(model.name, "its answer is not an event stream") from None
    await sink.write(framer.rest)
