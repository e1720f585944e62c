"""About how many tokens came of a stream whose provider did not count them, or not to its end. Pure."""

from __future__ import annotations

import re

BYTES_PER_TOKEN = 4
"""The usual rule of thumb, for estimates only."""

_text = re.compile(
    rb'"(?:arguments|content|delta|partial_json|reasoning|reasoning_content|refusal|text|thinking)":\s?"((?:[^"\\]|\\.)*)'
).findall


def texts_in(data: bytes) -> int:
    """Bytes of what a model says, in an answer or events of any format."""
    return sum(map(len, _text(data)))


class Meter:
    """One stream's. Providers put one token into an event or hundreds, so an event counts by how much longer it is than its form."""

    __slots__ = ("_events", "_form", "_short", "_size")

    def __init__(self) -> None:
        self._events = self._size = 0
        self._form: float | None = None
        """Bytes of an event beside its text, as in the first that had any."""
        self._short = 0.0
        """What is shorter than this is one event."""

    def take(self, data: bytes) -> None:
        """Count whole events."""
        size = len(data)
        self._size += size
        self._events += 1 if size < self._short else self._count(data, size)

    def _count(self, data: bytes, size: int) -> int:
        events = data.count(b"\n\n") or 1
        if self._form is None and (texts := _text(data)):
            self._form = (size - sum(map(len, texts))) / events
            self._short = 2 * self._form
            self._events, self._size = 0, size  # before them nothing was said
        return events

    @property
    def tokens(self) -> int:
        """One for each event at least."""
        said = 0 if self._form is None else self._size - self._events * self._form
        return max(self._events, int(said) // BYTES_PER_TOKEN)
