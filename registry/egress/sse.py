"""Server-sent events framing that survives any chunk boundary (WHATWG HTML, "Server-sent events"). Pure."""

from __future__ import annotations

import re

_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r|\r\n\n|\n\r\n")
_LINE = re.compile(rb"\r\n|\n|\r")
_LF, _CR = b"\n\r"  # numbers: `in` looks for a byte as a number in a seventh of the time

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""An event larger than this is not an event but an attack or a broken upstream; a file part of an agent fits."""


class EventTooLarge(ValueError):
    """An event grew over its bound without ending."""


class Framer:
    """Cut a byte stream into whole events. The events, joined with `rest`, are the stream, byte for byte."""

    __slots__ = ("_held", "_most")

    def __init__(self, most: int = MAX_EVENT_BYTES) -> None:
        """`most`: bytes of one event."""
        self._held = bytearray()
        self._most = most

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next chunk and return the events it completes, each with its blank line.

        Raises:
            EventTooLarge: the unfinished event is over the bound.
        """
        held = self._held
        if not held and (found := _lone_lines(chunk)):
            lines, blank = found
            return [line + blank for line in lines]
        scan_from = max(0, len(held) - 3)  # a blank line may have begun in the last three bytes
        held += chunk
        events: list[bytes] = []
        start = 0
        for match in _BLANK_LINE.finditer(held, scan_from):
            events.append(bytes(held[start : match.end()]))
            start = match.end()
        del held[:start]
        if len(held) > self._most:
            raise EventTooLarge
        return events

    def data(self, chunk: bytes) -> list[bytes]:
        """As `feed`, but return the events' data, without those that have none."""
        if not self._held and (found := _lone_lines(chunk)):
            found_data = [line[6:] if line.startswith(b"data: ") else data_of(line) for line in found[0]]
            return found_data if all(found_data) else list(filter(None, found_data))
        return [data for data in map(data_of, self.feed(chunk)) if data]

    @property
    def rest(self) -> bytes:
        """What has come of the event that is not finished."""
        return bytes(self._held)


def _lone_lines(chunk: bytes) -> tuple[list[bytes], bytes] | None:
    """Cut what nearly all upstreams send, whole events of a line each; and say how their lines end. None: it is something else.

    To search for bytes takes a tenth of the time that a pattern takes.
    """
    blank = b"\r\n\r\n" if chunk.endswith(b"\r\n\r\n") else b"\n\n"
    *lines, rest = chunk.split(blank)
    if rest or any(_LF in line or _CR in line for line in lines):
        return None
    return lines, blank


def data_of(event: bytes) -> bytes:
    """The event's data: its `data:` lines joined by line feeds; empty for a comment."""
    if event.startswith(b"data: "):
        only = event.rstrip(b"\r\n")
        if _LF not in only and _CR not in only:
            return only[6:]
    lines = [
        line[6:] if line.startswith(b"data: ") else line[5:] for line in _LINE.split(event) if line.startswith(b"data:")
    ]
    return lines[0] if len(lines) == 1 else b"\n".join(lines)


def field_of(event: bytes, name: bytes) -> str:
    """Another field of the event, such as `event` or `id`: its last value; empty when absent."""
    found = b""
    for line in _LINE.split(event):
        field, _, value = line.partition(b":")
        if field == name:
            found = value.removeprefix(b" ")
    return found.decode("utf-8", "replace")
