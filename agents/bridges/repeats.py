"""Leaves out of a platform's JSON, as it comes, what it says once more: many end an answer that came in pieces by all of it. Pure."""

from __future__ import annotations

import json
import re
from enum import Enum, auto

LONG_BYTES = 32 * 1024
"""Shorter texts are never left out."""

KNOWN_CHARS = 4096
"""By so much of its beginning a text is known again: however it is escaped, it is shorter than `LONG_BYTES`."""

MAX_TEXTS = 16

ESCAPE_BYTES = len(rb"\u0000")

LEFT_OUT = "urn:hubbub:left-out"
"""What stands in the place of a text that was."""

_TEXT = re.compile(rb'(?:[^"\\\r\n]++|\\[^\r\n])*+')
"""Within a string of JSON: as much as is whole."""


class Said:
    """How the texts began that came in pieces, by their names."""

    def __init__(self) -> None:
        self._began: dict[str, str] = {}

    def add(self, name: str, text: str) -> None:
        """Note one more piece."""
        began = self._began.get(name, "")
        if len(began) < KNOWN_CHARS and (began or len(self._began) < MAX_TEXTS):
            self._began[name] = (began + text)[:KNOWN_CHARS]

    def has(self, text: str) -> bool:
        """Whether a long text begins as one of them."""
        return text[:KNOWN_CHARS] in self._began.values()


class _Is(Enum):
    """What becomes of a string."""

    HELD = auto()
    """It is too short to be judged."""
    GIVEN = auto()
    """It is given as it comes."""
    LEFT_OUT = auto()


class Repeats:
    """One stream of JSON, be it in events or in lines."""

    def __init__(self, said: Said) -> None:
        self._said = said
        self._text: bytearray | None = None
        """What is held of the string that has begun; None: outside of strings."""
        self._is = _Is.HELD
        self._held = b""
        """Half an escape."""

    def feed(self, part: bytes) -> bytes:
        """Take what comes next, and give what is to be read of it. A short string is given when it is whole."""
        part, self._held = self._held + part, b""
        given, at = bytearray(), 0
        while at < len(part):
            at = self._outside(part, at, given) if self._text is None else self._inside(part, at, given, self._text)
        return bytes(given)

    def _outside(self, part: bytes, at: int, given: bytearray) -> int:
        end = part.find(b'"', at)
        given += part[at:] if end < 0 else part[at : end + 1]
        if end < 0:
            return len(part)
        self._text, self._is = bytearray(), _Is.HELD
        return end + 1

    def _inside(self, part: bytes, at: int, given: bytearray, text: bytearray) -> int:
        found = _TEXT.match(part, at)
        end = found.end() if found else at
        if self._is is not _Is.LEFT_OUT:
            text += part[at:end]
        if self._is is _Is.HELD and len(text) > LONG_BYTES:
            self._is = _Is.GIVEN
            if self._said.has(_read(text)):
                self._is, text[:] = _Is.LEFT_OUT, LEFT_OUT.encode()
        ends = end < len(part) and part[end:] != b"\\"
        if ends or self._is is _Is.GIVEN:
            given += text
            text.clear()
        if not ends:
            self._held = part[end:]
            return len(part)
        self._text = None
        if part[end : end + 1] != b'"':  # a line has ended within a string, which is no JSON
            return end
        given += b'"'
        return end + 1


def _read(text: bytearray) -> str:
    """What a string says that has only begun; empty: it is none."""
    for end in range(len(text), len(text) - ESCAPE_BYTES, -1):  # it may have been cut within an escape, or a letter
        try:
            return str(json.loads(b'"' + text[:end] + b'"'))
        except ValueError:
            pass
    return ""
