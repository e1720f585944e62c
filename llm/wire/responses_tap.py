"""Passes an answer of a provider that speaks OpenAI's Responses API on: as it came, but for what the hub says itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from llm.wire.meter import Meter
from llm.wire.response_events import ENDS, event
from registry.egress.sse import Framer, data_of
from registry.judged import JsonObject

_OF_RESPONSE = tuple(f'"response.{word}"'.encode() for word in ("created", "queued", "in_progress"))
_LAST = tuple(f'"{kind}"'.encode() for kind in (*sorted(set(ENDS.values())), "error"))
_DELTA = b'.delta"'
_HEAD = 160
"""Bytes of an event in which its type stands, behind the name of the event or at the beginning of its data."""


class _Kind(msgspec.Struct):
    type: str = ""


_kind = msgspec.json.Decoder(_Kind)
_object = msgspec.json.Decoder(JsonObject)


class ResponsesTap:
    """One stream. `said` are the members of the response that the hub says itself, such as its id."""

    def __init__(self, said: Mapping[str, object]) -> None:
        self._said = said
        self._framer = Framer()
        self.events = 0
        self.meter = Meter()
        self.last: JsonObject | None = None
        """The last event, once it has come, with the whole response in it; it is not among those passed on."""
        self.error: object = None
        """The error with which the provider ended the stream; it is not passed on."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take what came and return the events that may go on.

        Raises:
            EventTooLarge: this is no event stream.
            ValueError: an event that holds the response is none.
        """
        return [passed for one in self._framer.feed(chunk) if (passed := self._passed(one))]

    def _passed(self, one: bytes) -> bytes:
        if self.last is not None or self.error is not None:
            return b""
        self.events += 1
        data = data_of(one)
        head = data[:_HEAD]
        if any(kind in head for kind in _OF_RESPONSE):
            return event(self._rewritten(data))
        if _DELTA in head:
            self.meter.take(one)
            return one
        if not any(kind in head for kind in _LAST):
            return one
        kind = _kind.decode(data).type
        if kind == "error":
            self.error = _object.decode(data)
        elif kind in ENDS.values():
            self.last = self._rewritten(data)
        else:
            return one
        return b""

    def _rewritten(self, data: bytes) -> JsonObject:
        found = _object.decode(data)
        response = found.get("response")
        if not isinstance(response, dict):
            raise ValueError("an event of a response without it")  # noqa: TRY004  # as for what is no JSON
        response |= self._said
        return found
