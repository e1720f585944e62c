"""Hands a provider's answer of any media type to the caller as it comes, and reads off what it says it used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from llm.providers import failures
from llm.spending import with_hub
from llm.wire.chat import Count
from llm.wire.meter import BYTES_PER_TOKEN, Meter, texts_in
from registry.egress.http import Incoming
from registry.egress.sse import EventTooLarge, Framer, data_of
from registry.entries import Model
from registry.errors import HubError, UpstreamInvalid
from registry.gate import Permit, Usage

JSON = "application/json"
EVENTS = "text/event-stream"
BYTES = b"application/octet-stream"
_HARMLESS = ("application/json", "audio/", "video/", "image/", "text/plain", "text/vtt", "application/x-subrip")


class Answering(Protocol):
    """Where the answer goes: the part of `hub.exchange.Exchange` that is used here."""

    async def reply(self, status: int, body: bytes) -> None:
        """Answer with JSON, whole."""

    async def start(self, status: int, *, media_type: bytes = ...) -> None:
        """Begin a streamed answer."""

    async def write(self, chunk: bytes) -> None:
        """Send a piece of it."""


class _Counts(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    total_tokens: Count | None = None


class _Counted(msgspec.Struct):
    usage: _Counts | None = None
    response: _Counted | None = None


class _Failed(msgspec.Struct):
    error: dict[str, object] | str | None = None


_counted = msgspec.json.Decoder(_Counted)
_failed = msgspec.json.Decoder(_Failed)


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


class Origin(NamedTuple):
    """Where an answer comes from."""

    model: Model
    secrets: Sequence[str]
    """What no text of it may show."""


class StreamFailed(Exception):
    """An event stream that had begun ended with `error`; what was written until then is whole events."""

    def __init__(self, error: HubError) -> None:
        super().__init__(str(error))
        self.error = error


async def relay(incoming: Incoming, of: Origin, permit: Permit, sink: Answering, *, says: bool = False) -> None:
    """Pass an answer on, and hand the permit what it used if it says that; `says`: what it says counts where it does not.

    Raises:
        UpstreamError: it ended early or is not what it says.
        StreamFailed: the same of an event stream.
    """
    media_type = incoming.media_type
    if media_type == JSON:
        data = await incoming.read()
        permit.usage = used(data) or _made(permit.usage, texts_in(data) // BYTES_PER_TOKEN if says else 0)
        if permit.warnings and data.rstrip().endswith(b"}") and b":" in data:  # an object that is not empty
            data = with_hub(data, None, permit.warnings)
        await sink.reply(incoming.status, data)
    elif media_type == EVENTS:
        await _events(incoming, of, permit, sink, says=says)
    else:
        await pass_on(incoming, sink)


async def pass_on(incoming: Incoming, sink: Answering) -> None:
    """Pass content on as it comes, of any media type."""
    await sink.start(incoming.status, media_type=shown_as(incoming.media_type))
    async for chunk in incoming.chunks():
        await sink.write(chunk)


def shown_as(media_type: str) -> bytes:
    """The media type under which the hub hands content on: nothing of a provider's may run in a browser as the hub's own."""
    if media_type.startswith(_HARMLESS) and media_type != "image/svg+xml":
        return media_type.encode("latin-1", "replace")
    return BYTES


async def _events(incoming: Incoming, of: Origin, permit: Permit, sink: Answering, *, says: bool) -> None:
    framer, meter, told = Framer(), Meter(), None
    await sink.start(200)
    try:
        async for chunk in incoming.chunks():
            passed: list[bytes] = []
            try:
                for event in framer.feed(chunk):
                    _check(event, of)
                    passed.append(event)
                    meter.take(event)
                    if b'"usage"' in event:
                        told = used(data_of(event)) or told
            finally:
                await sink.write(b"".join(passed))
        _check(framer.rest, of)
        await sink.write(framer.rest)
    except EventTooLarge:
        raise StreamFailed(UpstreamInvalid(of.model.name, "its answer is not an event stream")) from None
    except HubError as error:
        raise StreamFailed(error) from None
    finally:
        permit.usage = told or _made(permit.usage, meter.tokens if says else 0)


def _made(estimate: Usage, tokens: int) -> Usage:
    """An estimate with what was made; nothing, where nothing was estimated."""
    return estimate._replace(output_tokens=tokens) if tokens else estimate


def _check(event: bytes, of: Origin) -> None:
    """Refuse the event with which a provider ends its stream as failed: it speaks of the hub's account, too.

    Raises:
        HubError: the error in the provider's words, without the hub's secrets.
    """
    if b'"error"' not in event:
        return
    try:
        found = _failed.decode(data_of(event)).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if found is not None:
        unsaid = UpstreamInvalid(of.model.name, "it reported an error in its stream")
        raise failures.reported(of.model.name, found, secrets=of.secrets) or unsaid
