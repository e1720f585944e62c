"""AWS's event stream encoding (`application/vnd.amazon.eventstream`, Smithy 2.0 specification, read 2026-11): read as it comes.

A message is its length, the length of its headers and a CRC of both; headers; a payload; a CRC of all before it.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator
from struct import Struct
from struct import error as StructError  # noqa: N812  # it is a class
from typing import Final, NamedTuple

from agents.bridges.way import Way
from registry.egress.http import Incoming
from registry.errors import UpstreamInvalid

MAX_BYTES = 24 * 1024 * 1024
"""Of one message: as much as AWS allows."""

_PRELUDE = Struct("!III")
_CRC = Struct("!I")
_SHORT = Struct("!H")
_STRING: Final = 7
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; 6 and 7, bytes and text, say their own."""


class Message(NamedTuple):
    """One message."""

    headers: dict[str, str]
    """Those that are text: AWS writes no other that tell what a message is."""
    payload: bytes


class Broken(Exception):
    """What came is not of this encoding."""


class Reader:
    """Messages of the bytes that come."""

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def is_within(self) -> bool:
        """Whether a message has begun that is not whole."""
        return bool(self._held)

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that are whole now; raises `Broken`."""
        self._held += chunk
        found: list[Message] = []
        begin = 0
        while len(self._held) - begin >= _PRELUDE.size:
            length, headers, crc = _PRELUDE.unpack_from(self._held, begin)
            if zlib.crc32(self._held[begin : begin + 8]) != crc:
                raise Broken("the checksum of a message's beginning is wrong")
            if length > MAX_BYTES or headers > length - _PRELUDE.size - _CRC.size:
                raise Broken("the lengths of a message are wrong, or too large")
            if len(self._held) - begin < length:
                break
            found.append(_message(bytes(self._held[begin : begin + length]), headers))
            begin += length
        del self._held[:begin]
        return found


async def messages_of(way: Way, incoming: Incoming) -> AsyncGenerator[Message]:
    """The messages of an answer, as they come; raises `UpstreamError` while they are read."""
    reader = Reader()
    try:
        async for chunk in incoming.chunks():
            for message in reader.feed(chunk):
                yield message
    except Broken as error:
        raise UpstreamInvalid(way.name, f"its stream is broken: {error}") from None
    if reader.is_within:
        raise UpstreamInvalid(way.name, "its answer was cut short")


def _message(data: bytes, headers: int) -> Message:
    """One message, whole."""
    end = len(data) - _CRC.size
    if zlib.crc32(data[:end]) != _CRC.unpack_from(data, end)[0]:
        raise Broken("the checksum of a message is wrong")
    begin = _PRELUDE.size
    return Message(_headers(data[begin : begin + headers]), data[begin + headers : end])


def _headers(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            name = data[at + 1 : at + 1 + data[at]].decode()
            at += 1 + data[at]
            kind, at = data[at], at + 1
            if kind in {6, _STRING}:
                (size,) = _SHORT.unpack_from(data, at)
                at += _SHORT.size
            else:
                size = _SIZES[kind]
            if at + size > len(data):
                raise Broken("a header is cut")
            if kind == _STRING:
                found[name] = data[at : at + size].decode()
            at += size
    except (IndexError, KeyError, ValueError, StructError) as error:
        raise Broken("a header cannot be read") from error
    return found
