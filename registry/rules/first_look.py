"""The first look of guards: one search over JSON as it is written, which says whether any of them can find anything. Pure.

It may say yes where there is nothing, and never no where there is something: what is written otherwise than it is read is
nothing that this can clear. Guards that must see values, such as sizes, take no part.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

_ESCAPES = ((b'\\"', b'"'), (b"\\n", b"\n"), (b"\\t", b"\t"), (b"\\r", b"\r"), (b"\\/", b"/"))
_UNLIKE = r"(?:^|[:,\[])\s*-?(?:[0-9.]+[eE]|[0-9]{12,}\.|[0-9]{8,}\.[0-9]{5})"
"""Numbers that readers may write otherwise than they stood: guards look at large ones as texts."""
_any_json = msgspec.json.Decoder(msgspec.Raw)


class FirstLook:
    """What any of several guards may find."""

    def __init__(self, hints: tuple[str, ...]) -> None:
        """`hints` match wherever a guard finds something in a text, a name or a large number, with the name of its member before it."""
        self._any: Any = None
        if not hints:
            return
        import re2  # type: ignore[import-untyped]  # noqa: PLC0415  # as in guard_kinds

        options = re2.Options()
        options.never_capture = True
        self._any = re2.compile("|".join(f"(?:{hint})" for hint in (*hints, _UNLIKE)), options)

    def clears(self, data: bytes) -> bool:
        """Whether guards surely find nothing in JSON of whoever wrote it, read by whomever: not even in members that stand twice."""
        return self._any is None or (_is_json(data) and self.clears_own(data))

    def clears_own(self, data: bytes) -> bool:
        """Likewise of JSON that the hub wrote."""
        if self._any is None:
            return True
        texts = _verbatim(data)
        return texts is not None and self._any.search(texts) is None


@lru_cache(maxsize=64)
def look_for(hints: tuple[str, ...]) -> FirstLook:
    """The first look for these; each takes megabytes."""
    return FirstLook(hints)


def _is_json(data: bytes) -> bool:
    """Whether it is what all readers take for JSON; some guess an encoding of what is not UTF-8."""
    try:
        _any_json.decode(data)
        return data.isascii() or bool(data.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _verbatim(data: bytes) -> bytes | None:
    """JSON with its texts as they are read; None: it has escapes that stand for other things."""
    if b"\\" not in data:
        return data
    for escape, meant in _ESCAPES:
        data = data.replace(escape, meant)
    return None if b"\\" in data else data  # of an escaped backslash one is always left
