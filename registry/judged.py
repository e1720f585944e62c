"""Read a hostile JSON body so that what was judged is what is sent (architecture.md 3.1). Pure.

A body is read one object at a time, its members left as raw bytes. Every object that the hub looks into is written
anew from what it read; everything else goes on as it came. A deciding member that stands twice, or under another
spelling that an SDK would also accept (`task_id`, `TaskId` for `taskId`), is refused.
"""

from __future__ import annotations

import json
import re
from array import array
from functools import lru_cache
from itertools import accumulate
from math import isfinite
from typing import Any

import msgspec

from registry.errors import InvalidRequest, ParseFailed

JsonObject = dict[str, Any]
"""Decoded protocol JSON, where raw JSON is the point."""

RawObject = dict[str, msgspec.Raw]
"""One JSON object with its members still encoded."""

MAX_DEPTH = 128
"""Deeper bodies are refused: parsers behind the hub recurse, and no protocol nests this far."""

MAX_VALUES = 500_000
"""More are refused: each costs every caller time in the one event loop, and memory, wherever it is looked at."""

_LARGE = 256 * 1024
"""Smaller bodies cannot hold many values."""

_object = msgspec.json.Decoder(RawObject)
_array = msgspec.json.Decoder(list[msgspec.Raw])
encode = msgspec.json.encode
BACKSLASH = ord("\\")
"""A byte by its number is found in a tenth of the time that finding a text takes."""
_SHORT = 40
"""Names up to this length are remembered; longer ones come from nobody but attackers, and would fill the memory."""
_STRING = re.compile(rb'"[^"]*"?')
_NAME_ENDS = re.compile(rb'"[ \t\r\n]*:')
"""Matches behind the name of each member, and perhaps in texts: never less often than there are members."""
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'{}[]"'))
_STEPS = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")
"""Each bracket as the signed byte by which it changes the depth."""


def decode(raw: bytes | msgspec.Raw) -> Any:
    """Decode any JSON value.

    Raises:
        ParseFailed: it is not JSON.
    """
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ParseFailed(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"nested deeper than {MAX_DEPTH}"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return "malformed" if isinstance(error, msgspec.ValidationError) else str(error).removeprefix("JSON is ").lower()


def read_object(raw: bytes | msgspec.Raw, what: str = "the body") -> RawObject:
    """Read one object, members raw.

    Raises:
        ParseFailed: not JSON.
        InvalidRequest: JSON, but not an object.
    """
    try:
        return _object.decode(raw)
    except msgspec.ValidationError:
        raise InvalidRequest(f"{what} must be an object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ParseFailed(_reason(error)) from None


def read_array(raw: msgspec.Raw, what: str) -> list[msgspec.Raw]:
    """Read one array, items raw; raises `InvalidRequest` for anything else."""
    try:
        return _array.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest(f"{what} must be an array", member=what) from None


def read_string(owner: RawObject, member: str) -> str | None:
    """The string at `member`, None when absent or null; raises `InvalidRequest` for another type."""
    raw = owner.get(member)
    if raw is None:
        return None
    value = decode(raw)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{member} must be a string", member=member)
    return value


def body(data: bytes, deciding: frozenset[str]) -> RawObject:
    """Read a request body whose `deciding` members, wherever they stand in it, must stand once.

    Raises:
        ParseFailed: as `check_size`, or not JSON.
        InvalidRequest: not an object, or a deciding member stands twice in one object.
    """
    check_size(data)
    top = read_object(data)
    _check_duplicates(data, deciding)
    return top


def unambiguous(data: bytes | msgspec.Raw) -> JsonObject:
    """Decode a body, or a part of one, that must be an object of which every reader sees the same.

    No member stands twice, and no number is beyond all that a `float` can be: some readers refuse it, others know larger ones.

    Raises:
        ParseFailed: not JSON, or such a number.
        InvalidRequest: not an object, or it holds one in which a member stands twice.
    """

    def pairs(members: list[tuple[str, Any]]) -> JsonObject:
        found = dict(members)
        if len(found) < len(members):
            twice = next(name for at, (name, _) in enumerate(members) if name in (one for one, _ in members[:at]))
            raise InvalidRequest(f"{twice[:80]} stands twice", member=twice)
        return found

    data = bytes(data)
    found = plain(data)
    if found is msgspec.UNSET:
        try:
            found = json.loads(data, object_pairs_hook=pairs, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError):
            raise ParseFailed("malformed") from None
    if not isinstance(found, dict):
        raise InvalidRequest("the body must be an object")
    return found


def plain(data: bytes) -> Any:
    """Decode JSON in which plainly no member stands twice, ten times as fast; `msgspec.UNSET`: it has to be read more closely, or is none."""
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.UNSET
    is_plain = encode(found) == data or len(_NAME_ENDS.findall(data)) == _members(found)  # the hub's own has none twice
    return found if is_plain else msgspec.UNSET


def _members(value: Any) -> int:
    """How many members all objects in a value have."""
    count, left = 0, [value]
    while left:
        one = left.pop()
        kind = type(one)
        if kind is dict:
            count += len(one)
            left += one.values()
        elif kind is list:
            left += one
    return count


def _finite(number: str) -> float:
    found = float(number)
    if not isfinite(found):
        raise ValueError(number)
    return found


def check_size(data: bytes) -> None:
    """Refuse what no parser should be given.

    Raises:
        ParseFailed: not UTF-8, deeper than `MAX_DEPTH`, or of more than `MAX_VALUES`.
    """
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            raise ParseFailed("not UTF-8") from None
    if len(data) > _LARGE:
        _check_values(data)
    if _openings(data) > MAX_DEPTH:
        _check_depth(data)


def _openings(data: bytes) -> int:
    """How many brackets open, at most one of each kind more than `MAX_DEPTH`. To leave bytes out takes a fraction of the time that counting them does."""
    most = MAX_DEPTH + 1
    return 2 * len(data) - len(data.replace(b"{", b"", most)) - len(data.replace(b"[", b"", most))


def _check_values(data: bytes) -> None:
    """Refuse too many values. Commas and brackets bound their number, unless they stand in texts."""
    if _count(data) <= MAX_VALUES:
        return
    data = _without_escapes(data)
    if data.count(b'"') > 4 * MAX_VALUES or _count(_STRING.sub(b"", data)) > MAX_VALUES:
        raise ParseFailed(f"more than {MAX_VALUES} values")


def _count(data: bytes) -> int:
    return data.count(b",") + data.count(b"{") + data.count(b"[")


def _without_escapes(data: bytes) -> bytes:
    """Leave out what could hide where a string ends; of valid JSON, all quotes that are left begin or end one."""
    return data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data


def _check_depth(data: bytes) -> None:
    """Refuse what is nested too deeply."""
    if nesting(data)[0] > MAX_DEPTH:
        raise ParseFailed(f"nested deeper than {MAX_DEPTH}")


def nesting(data: bytes) -> tuple[int, int]:
    """How deep objects and arrays stand in one another in JSON, and how many there are. It may be all brackets, so no byte is looked at in Python."""
    steps = array("b", _STRING.sub(b"", _without_escapes(data).translate(None, _NOT_STRUCTURE)).translate(_STEPS))
    return max(accumulate(steps), default=0), steps.count(1)


def _check_duplicates(data: bytes, deciding: frozenset[str]) -> None:
    r"""Refuse a deciding member that stands twice in one object.

    A member can only stand twice if its quoted name occurs twice, or once escaped (`"mod\u0065l"`). Few bodies do
    either; only they are read again, by the slow parser that sees pairs.
    """
    if data.find(b"\\") < 0 or data.find(b"\\u") < 0:  # a single byte is found ten times as fast
        for name in _quoted(deciding):
            if data.count(name) > 1:
                break
        else:
            return

    def pairs(members: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in members:
            if name in seen and name in deciding:
                raise InvalidRequest(f"{name} stands twice", member=name)
            seen.add(name)

    try:
        json.loads(data, object_pairs_hook=pairs, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise ParseFailed("malformed") from None


def is_plain(data: bytes, deciding: frozenset[str]) -> bool:
    """Whether every reader of the body sees the same deciding members, so that its bytes say what was judged.

    Each stands at most once in it, at any depth, under no other spelling and without an escape.
    """
    if BACKSLASH in data and b"\\u" in data:
        return False
    if not data.isascii():  # other scripts have letters that fold to ours
        return False
    found = _any_spelling(deciding).findall(data)
    return len(found) == len(set(found)) and _in_quotes(deciding).issuperset(found)


@lru_cache(maxsize=64)
def _any_spelling(deciding: frozenset[str]) -> re.Pattern[bytes]:
    """Finds the names of members however `_fold` lets them be spelt; texts that say the same are none."""
    begin = re.escape("".join(sorted({name[0] for name in deciding})))
    names = "|".join("[_-]*".join(name) for name in sorted(deciding))
    return re.compile(f'"(?=[{begin}_-])[_-]*(?:{names})[_-]*"(?=[ \\t\\r\\n]*:)'.encode(), re.IGNORECASE)


@lru_cache(maxsize=64)
def _in_quotes(deciding: frozenset[str]) -> frozenset[bytes]:
    return frozenset(_quoted(deciding))


@lru_cache(maxsize=64)
def _quoted(deciding: frozenset[str]) -> tuple[bytes, ...]:
    """The quoted names; in what is JSON, the second quote of one is never the first of another."""
    return tuple(f'"{name}"'.encode() for name in sorted(deciding))


def check_spelling(found: RawObject, deciding: frozenset[str]) -> None:
    """Refuse members of `found` that an SDK might take for a deciding one.

    Raises:
        InvalidRequest: names the member and the spelling to use.
    """
    if deciding.issuperset(found):
        return
    for name in found:
        if name not in deciding:
            meant = _meant(name, deciding) if len(name) <= _SHORT else _folded(deciding).get(_fold(name))
            if meant is not None:
                raise InvalidRequest(f"{name[:80]!r} is not a member; write {meant!r}", member=name)


@lru_cache(maxsize=4096)
def _meant(name: str, deciding: frozenset[str]) -> str | None:
    return _folded(deciding).get(_fold(name))


@lru_cache(maxsize=4096)
def _fold_short(name: str) -> str:
    return _fold(name)


def fold(name: str) -> str:
    """What all spellings of a name have in common that an SDK may take for one: `task_id`, `TaskId`, `taskId`."""
    return _fold_short(name) if len(name) <= _SHORT else _fold(name)


def misspelt(value: Any, names: frozenset[str], free: frozenset[str] = frozenset()) -> tuple[str, str] | None:
    """A member at any depth that is one of `names` in another spelling, and that one; None: there is none.

    What stands in members that are called as in `free` is not looked at.
    """
    folded, left = _folded(names), [value]
    while left:
        one = left.pop()
        if type(one) is list:
            left += one
        elif type(one) is dict:
            for name, item in one.items():
                if name not in names:
                    meant = folded.get(fold(name))
                    if meant is not None:
                        return name, meant
                if name not in free:
                    left.append(item)
    return None


def spellings(names: frozenset[str]) -> re.Pattern[bytes] | None:
    """Finds, in JSON that the hub wrote and that is ASCII, some member at any depth that is one of `names` in any spelling, if there is one.

    None: there are no names, or such that it cannot be found so.
    """
    folded = frozenset(map(_fold, names))
    return _any_spelling(folded) if folded and all(one.isascii() and one.isalnum() for one in folded) else None


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()


@lru_cache(maxsize=64)
def _folded(deciding: frozenset[str]) -> dict[str, str]:
    return {_fold(name): name for name in deciding}
