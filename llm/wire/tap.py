"""Reads the usage off a stream of chat completion chunks that goes by as bytes. Pure; the hot path of a stream."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from llm.wire.chat import usage_of
from llm.wire.meter import Meter
from registry.egress.sse import Framer, data_of
from registry.gate import Usage

_with_usage = re.compile(rb'"usage"\s*:\s*\{').search
_with_error = re.compile(rb'"error"\s*:\s*(?!null|\s)').search
_END = b"[DONE]"
_NULL = msgspec.Raw(b"null")


class _Chunk(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    error: msgspec.Raw = _NULL  # not `Raw | None`: that decodes null and nothing else


_UNREADABLE = msgspec.Raw(b"{}")
_chunk = msgspec.json.Decoder(_Chunk)


class UsageTap:
    """Passes a stream on, whole events only, and notes what it used.

    `withhold`: swallow the event that holds nothing but the usage; the caller did not ask for it. `finish` adds to
    that event what the hub says itself.
    """

    __slots__ = ("_finish", "_framer", "_framing", "_tail", "_withhold", "error", "meter", "usage")

    def __init__(self, *, withhold: bool, finish: Callable[[bytes, Usage], bytes]) -> None:
        self._framer = Framer()
        self._framing = False
        """An event is unfinished, or the provider ended the stream: each event has to be looked at."""
        self._withhold = withhold
        self._finish = finish
        self._tail = b""
        self.usage: Usage | None = None
        self.meter = Meter()
        self.error: msgspec.Raw | None = None
        """The error event with which the provider ended the stream; it is not passed on."""

    def feed(self, chunk: bytes) -> bytes:
        """Take what came and return what may go on, perhaps nothing.

        Raises:
            EventTooLarge: this is no event stream.
        """
        # plain searches spare most chunks the patterns; `in` takes twice their time
        if (
            not self._framing
            and chunk.endswith(b"\n\n")
            and (chunk.rfind(b'"usage"') < 0 or not _with_usage(chunk))
            and (chunk.rfind(b'"error"') < 0 or not _with_error(chunk))
        ):
            self.meter.take(chunk)
            self._tail = chunk
            return chunk
        passed = b"".join([self._passed(event) for event in self._framer.feed(chunk)])
        self._framing = bool(self._framer.rest) or self.error is not None
        if passed:
            self._tail = passed
        return passed

    def _passed(self, event: bytes) -> bytes:
        """What of an event goes on: the one with nothing but the usage has the hub's member, too."""
        if self.error is not None:
            return b""
        self.meter.take(event)
        with_usage = _with_usage(event) is not None
        with_error = _with_error(event) is not None
        if not with_usage and not with_error:
            return event
        data = data_of(event)
        try:
            chunk = _chunk.decode(data)
            usage = usage_of(data) if with_usage else None
        except ValueError:
            chunk, usage = _Chunk(error=_UNREADABLE if with_error else _NULL), None
        if bytes(chunk.error) != b"null":
            self.error = chunk.error
            return b""
        if usage is None:
            return event
        self.usage = usage
        if chunk.choices:
            return event
        return b"" if self._withhold else self._finish(event, usage)

    def ended(self) -> bool:
        """Whether the stream said that it was complete. Call it when no more bytes come."""
        return self.usage is not None or _END in self._tail[-64:] or _END in self._framer.rest
