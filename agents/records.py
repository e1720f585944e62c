"""JSON objects of a known type, read by table: which member becomes which, and how. Pure; knows no protocol.

A reader takes a decoded JSON value and returns what to write, or None for "leave the member out". Values whose shape is
their owner's affair (metadata, data) are handed on as they are: shared, never copied and never changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from registry.judged import JsonObject

Reader = Callable[[Any], Any]

Field = tuple[str, type | None, Reader]
"""The name it is written by, the type of which a value that is not empty is written as it is, and the reader of others."""

Table = Mapping[str, Field]
"""Members as they come. What is not in it is dropped."""

Default = tuple[str, Callable[[], Any]]
"""A member that must be written, and what makes it when it did not come."""

MAX_COUNT: Final = 2**31 - 1
"""Counts are int32 in both versions' protocol buffers."""

_INNER_CAPITAL: Final = re.compile(r"(?<!^)([A-Z])")
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([+-]\d\d):?(\d\d))?", re.ASCII)
_COUNT: Final = re.compile(r"\d{1,10}", re.ASCII)
_NANOSECONDS: Final = 9


class Untranslatable(ValueError):
    """A value whose shape cannot be understood; its text says what, in a few words without the value."""


def spelled(**members: Reader | tuple[str, Reader]) -> dict[str, Field]:
    """Make a table of members that keep their name, or take the given one; each may come in snake_case too (ProtoJSON)."""
    table: dict[str, Field] = {}
    for name, entry in members.items():
        target, read = entry if isinstance(entry, tuple) else (name, entry)
        table[name] = table[_INNER_CAPITAL.sub(r"_\1", name).lower()] = (target, _AS_IT_IS.get(read), read)
    return table


def record(what: str, table: Table, *, kind: str | None = None, defaults: tuple[Default, ...] = ()) -> Reader:
    """Make the reader of one type of object, written with `kind` if it has one.

    `defaults` make the members that must be written and did not come. A null member is an absent one (ProtoJSON).
    The reader raises Untranslatable when the value is no object or says one member in two spellings.
    """
    find = table.get
    begin = {} if kind is None else {"kind": kind}

    def read(value: Any) -> JsonObject:
        if type(value) is not dict:
            raise Untranslatable(f"{what} is not an object")
        made: JsonObject = {**begin}
        for name, item in value.items():
            field = find(name)
            if field is None or item is None:
                continue
            target, as_it_is, convert = field
            converted = item if type(item) is as_it_is and item else convert(item)
            if converted is not None:
                if target in made:
                    raise Untranslatable(f"{what} has {target} in two spellings")
                made[target] = converted
        for name, make in defaults:
            if name not in made:
                made[name] = make()
        return made

    return read


def needed(what: str) -> Callable[[], Any]:
    """Make the default of a member that nothing can stand in for."""

    def refuse() -> Any:
        raise Untranslatable(f"{what} is missing")

    return refuse


def each(what: str, read: Reader) -> Reader:
    """Make the reader of a list of things."""

    def read_all(value: Any) -> list[Any]:
        if type(value) is not list:
            raise Untranslatable(f"{what} should be a list")
        return [read(item) for item in value]

    return read_all


def text(value: Any) -> str:
    """Read a string, also an empty one."""
    if type(value) is not str:
        raise Untranslatable("a string was expected")
    return value


def word(value: Any) -> str | None:
    """Read a string of which the empty one says nothing: ids, names, media types."""
    return text(value) or None


def texts(value: Any) -> list[str] | None:
    """Read a list of strings; an empty one says nothing."""
    if type(value) is not list:
        raise Untranslatable("a list of strings was expected")
    return [text(item) for item in value] or None


def flag(value: Any) -> bool:
    """Read a boolean, also as a query spells it."""
    if type(value) is bool:
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise Untranslatable("true or false was expected")


def count(value: Any) -> int:
    """Read a number of things, also as a query or ProtoJSON may spell it ("5", 5.0)."""
    if (type(value) is str and _COUNT.fullmatch(value)) or (type(value) is float and value.is_integer()):
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise Untranslatable("a count was expected")
    return value


def struct(value: Any) -> JsonObject | None:
    """Read metadata: any object, as it is. An empty one says nothing; `[]` is what PHP makes of that."""
    if type(value) is not dict and value != []:
        raise Untranslatable("metadata is not an object")
    return value or None


_AS_IT_IS: Final[dict[Reader, type]] = {text: str, word: str, flag: bool, struct: dict}
"""Readers that return what they read when it has the right type and is not empty: then they need not be called."""


def moment(value: Any) -> str | None:
    """Read a timestamp and write it as RFC 3339 wants it: with an offset, UTC where it names none.

    One that cannot be read is left out: a strict reader would refuse the whole message for it.
    """
    found = _MOMENT.fullmatch(value) if type(value) is str else None
    if found is None:
        return None
    date, time, fraction, hours, minutes = found.groups()
    offset = f"{hours}:{minutes}" if hours else "Z"
    try:
        at = datetime.fromisoformat(f"{date}T{time}{offset}")
        if hours:
            at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return f"{date}T{time}{'.' + fraction[:_NANOSECONDS] if fraction else ''}{offset}"
