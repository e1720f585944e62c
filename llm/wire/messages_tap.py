"""Reads the usage off a stream of Anthropic's that goes by as bytes. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from llm.wire.messages_upstream import chat_usage
from llm.wire.meter import Meter
from registry.egress.sse import Framer, data_of
from registry.judged import JsonObject


class _Usage(msgspec.Struct):
    usage: dict[str, msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Usage | None = None
    usage: dict[str, msgspec.Raw] | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


_event = msgspec.json.Decoder(_Event)
_whole = msgspec.json.Decoder(dict[str, msgspec.Raw])


def usage_in(data: bytes) -> JsonObject:
    """What a whole answer says it used, as chat's usage; raises `ValueError` if it is not a JSON object."""
    said = _whole.decode(data).get("usage")
    found = None if said is None else msgspec.json.decode(said)
    return chat_usage(found) if isinstance(found, dict) else {}


class MessagesTap:
    """Passes a stream on, whole events only, and notes what it used.

    `finish` adds to the event that says so last what the hub says itself.
    """

    def __init__(self, finish: Callable[[bytes, JsonObject], bytes]) -> None:
        self._finish = finish
        self._framer = Framer()
        self._said: JsonObject = {}
        self.usage: JsonObject = {}
        """As chat's usage."""
        self.meter = Meter()
        self.error: object = None
        """The error with which the provider ended the stream; it is not passed on."""
        self.ended = False
        """Whether the stream said that it was complete."""

    def feed(self, chunk: bytes) -> bytes:
        """Take what came and return what may go on, perhaps nothing; raises `EventTooLarge`."""
        return b"".join([self._passed(event) for event in self._framer.feed(chunk)])

    def _passed(self, event: bytes) -> bytes:
        if self.error is not None:
            return b""
        if b'"content_block_delta"' in event[:160]:  # nearly all events; none of these says what is looked for
            self.meter.take(event)
            return event
        try:
            found = _event.decode(data_of(event))
        except ValueError:
            return event
        if found.type == "error":
            self.error = msgspec.json.decode(found.error) or {}
            return b""
        self.ended = self.ended or found.type == "message_stop"
        said = found.usage or (found.message.usage if found.message else None)
        if said:
            decoded = {name: msgspec.json.decode(value) for name, value in said.items()}
            self._said |= {name: value for name, value in decoded.items() if value is not None}
            self.usage = chat_usage(self._said)
        return self._finish(event, self.usage) if found.type == "message_delta" else event
