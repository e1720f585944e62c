"""The first look of guards: one search over JSON as it is written, which says whether any of them can find anything. Pure.

It may say yes where there is nothing, and never no where there is something: what is written otherwise than it is read is
nothing that this can clear. Sizes are estimated, and never too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from registry.judged import BACKSLASH, nesting

_ESCAPES = ((b'\\"', b'"'), (b"\\n", b"\n"), (b"\\t", b"\t"), (b"\\r", b"\r"), (b"\\/", b"/"))
_UNLIKE = r"(?:^|[:,\[])\s*-?(?:[0-9.]+[eE]|[0-9]{12,}\.|[0-9]{8,}\.[0-9]{5})"
"""Numbers that readers may write otherwise than they stood: guards look at large ones as texts."""
_NOWHERE = (-1, -1)
"""Where RE2 says that a pattern matches that does not."""
MAX_PROGRAM = 50_000
"""RE2's instructions: `secrets` and `pii` have 6000 together, larger ones than this its automaton gives up, and takes long without."""


class Sizes(NamedTuple):
    """How much of each there may be; None: however much."""

    size_bytes: int | None
    items: int | None
    depth: int | None

    def fit(self, data: bytes) -> bool:
        """Whether JSON surely has no more, and what texts in it say that are JSON, as an item of a list of one."""
        opened = data.count(b"{") + data.count(b"[")
        if self.size_bytes is not None and len(data) + 2 > self.size_bytes:
            return False
        if self.items is not None and data.count(b",") + opened + 1 > self.items:
            return False
        if self.depth is None or opened < self.depth:
            return True
        deep, outside = nesting(data)
        return deep + opened - outside < self.depth


class FirstLook:
    """What any of several guards may find."""

    def __init__(self, hints: tuple[str, ...], sizes: Sequence[Sizes] = ()) -> None:
        """`hints` match wherever a guard finds something in a text, a name or a large number, with the name of its member before it.

        Raises:
            re2.error: they cannot be one pattern.
        """
        self._any: Any = None
        self._sizes = sizes
        if not hints and not sizes:
            return
        import re2  # type: ignore[import-untyped]  # noqa: PLC0415  # as in guard_kinds

        options = re2.Options()
        options.never_capture = True
        options.log_errors = False
        self._any = re2.compile("|".join(f"(?:{hint})" for hint in (*hints, _UNLIKE)), options)
        # what its wrapper's `search` calls, which makes a generator for each, and costs half as much again
        self._match, self._anywhere = self._any._regexp.Match, re2._Anchor.UNANCHORED  # noqa: SLF001

    @property
    def is_small(self) -> bool:
        """Whether it is one search for which RE2's memory is enough."""
        return self._any is None or self._any.programsize <= MAX_PROGRAM

    def clears(self, data: bytes) -> bool:
        """Whether guards surely find nothing in JSON, read by whomever: not even in members that stand twice."""
        if self._any is None:
            return True
        if not data.isascii() and not _is_utf8(data):
            return False
        texts = _verbatim(data) if BACKSLASH in data else data
        if texts is None or self._match(self._anywhere, texts, 0, len(texts))[0] != _NOWHERE:
            return False
        return not self._sizes or all(one.fit(data) for one in self._sizes)


@lru_cache(maxsize=64)
def look_for(hints: tuple[str, ...], sizes: tuple[Sizes, ...]) -> FirstLook | None:
    """The first look for these; each takes megabytes. None: there is none for so many."""
    if not hints and not sizes:
        return FirstLook(())
    import re2  # noqa: PLC0415  # as in guard_kinds

    try:
        found = FirstLook(hints, sizes)
    except re2.error:
        return None
    return found if found.is_small else None


def _is_utf8(data: bytes) -> bool:
    """Some readers guess another encoding of what is not."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _verbatim(data: bytes) -> bytes | None:
    """JSON with its texts as they are read; None: it has escapes that stand for other things."""
    for escape, meant in _ESCAPES:
        data = data.replace(escape, meant)
    return None if BACKSLASH in data else data  # of an escaped backslash one is always left
