"""Protobuf messages and canonical JSON objects, both ways, for any message of A2A. Knows no operation; does no I/O.

Walks the messages by tables made from their descriptors. protobuf's own JSON functions take 2 to 6 times as long, turn
every integer in metadata and data into a float, and refuse a whole message for one timestamp without a zone. What protobuf
cannot say is lost all the same: members that the messages do not have, integers beyond 2^53 in metadata and data, and
names of states younger than the messages.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode, urlsafe_b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from registry.judged import MAX_VALUES, JsonObject

MAX_DEPTH = 30
"""Levels of objects and arrays in metadata and data. Each is three messages deep, and readers of protobuf stop at 100."""

EXACT = 2**53
"""Beyond it a double, which is protobuf's only number in metadata and data, no longer holds every integer."""

_LARGE = 256 * 1024
"""Smaller messages cannot hold many values."""


_ALWAYS: Final[dict[str, tuple[tuple[str, type], ...]]] = {
    "ListTasksResponse": (("tasks", list), ("nextPageToken", str), ("pageSize", int), ("totalSize", int)),
    "ListTaskPushNotificationConfigsResponse": (("configs", list), ("nextPageToken", str)),
    "Message": (("parts", list),),
    "Artifact": (("parts", list),),
}
"""Members that JSON always has, where protobuf leaves out what is empty or zero (A2A 1.0 §3.1.4, §5.7)."""


def decode(kind: type[Message], data: bytes) -> JsonObject:
    """Read a message; raises ValueError when the bytes are none of this kind, or hold too many values."""
    try:
        message = kind.FromString(data)
    except DecodeError:
        raise ValueError("cannot be read as protobuf") from None
    if len(data) > _LARGE:
        _check_values(message)
    return _read(_shape(kind.DESCRIPTOR), message)


def encode(kind: type[Message], found: JsonObject) -> bytes:
    """Write a message; raises ValueError for a member of a wrong type, or one nested too deeply."""
    message = kind()
    try:
        _write(_shape(kind.DESCRIPTOR), message, found)
        return message.SerializeToString()
    except (TypeError, EncodeError, OverflowError, AttributeError):
        raise ValueError("has a member that protobuf cannot hold") from None


# --- tables: how each field of a message is read and written ---

Read = Callable[[Any], Any]
"""From a field's value to JSON."""

Write = Callable[[Any, str, Any], None]
"""Puts a JSON value into the field of a message; the second argument is the field's name."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)


class _Field(NamedTuple):
    name: str
    """As protobuf has it."""
    member: str
    """As JSON has it."""
    read: Read
    write: Write
    holds_null: bool
    """Null is a value of it, and not its absence."""


class _Shape(NamedTuple):
    """How messages of one kind are read and written."""

    by_descriptor: dict[FieldDescriptor, _Field]
    by_member: dict[str, _Field]
    always: tuple[tuple[str, type], ...]


@cache
def _shape(of: object) -> _Shape:
    descriptor: Descriptor = of  # type: ignore[assignment]  # the stubs name the descriptors of two implementations
    fields = {field: _field(field) for field in descriptor.fields}
    by_member = {field.member: field for field in fields.values()}
    return _Shape(fields, by_member, _ALWAYS.get(descriptor.name, ()))


def _field(field: FieldDescriptor) -> _Field:
    kind = field.message_type
    read, write = _one(field)
    holds_null = kind is not None and kind.full_name == "google.protobuf.Value"
    if kind is not None and kind.GetOptions().map_entry:
        of_values = kind.fields_by_name["value"].message_type
        read, write = _map(None if of_values is None else _shape(of_values))
    elif field.is_repeated:
        read, write = _repeated(None if kind is None else _shape(kind), read)
    return _Field(field.name, field.json_name, read, write, holds_null)


def _one(field: FieldDescriptor) -> tuple[Read, Write]:
    """How a field is read and written that stands once."""
    if field.enum_type is not None:
        return _enum(field.enum_type)
    if field.message_type is None:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return (lambda value: b64encode(value).decode()), _write_bytes
        return _same, setattr
    own = _WELL_KNOWN.get(field.message_type.full_name)
    if own is not None:
        return own
    if field.message_type.GetOptions().map_entry:
        return _same, setattr
    shape = _shape(field.message_type)
    return partial(_read, shape), partial(_write_one, shape)


def _same(value: Any) -> Any:
    return value


def _repeated(shape: _Shape | None, read: Read) -> tuple[Read, Write]:
    if shape is None:
        return list, _extend
    return lambda values: [read(value) for value in values], partial(_write_many, shape)


def _map(shape: _Shape | None) -> tuple[Read, Write]:
    if shape is None:
        return dict, lambda message, name, found: getattr(message, name).update(_object(found))
    return (
        lambda values: {name: _read(shape, value) for name, value in values.items()},
        partial(_write_map, shape),
    )


# --- messages ---


def _read(shape: _Shape, message: Message) -> JsonObject:
    found: JsonObject = {}
    by_descriptor = shape.by_descriptor
    for descriptor, value in message.ListFields():
        _, member, read, _, _ = by_descriptor[descriptor]
        said = read(value)
        if said is not _ABSENT:
            found[member] = said
    for member, kind in shape.always:
        if member not in found:
            found[member] = kind()
    return found


_ABSENT: Final = object()
"""What a value is read as that JSON has no word for."""


def _write(shape: _Shape, message: Message, found: JsonObject) -> None:
    by_member = shape.by_member
    for member, value in _object(found).items():
        field = by_member.get(member)
        if field is not None and (value is not None or field.holds_null):
            field.write(message, field.name, value)


def _write_one(shape: _Shape, message: Message, name: str, found: Any) -> None:
    inner = getattr(message, name)
    inner.SetInParent()  # an empty object is not an absent one
    _write(shape, inner, found)


def _write_many(shape: _Shape, message: Message, name: str, found: Any) -> None:
    inner = getattr(message, name)
    for one in _array(found):
        _write(shape, inner.add(), one)


def _write_map(shape: _Shape, message: Message, name: str, found: Any) -> None:
    inner = getattr(message, name)
    for key, one in _object(found).items():
        _write(shape, inner[key], one)


def _extend(message: Message, name: str, found: Any) -> None:
    getattr(message, name).extend(_array(found))


def _object(found: Any) -> JsonObject:
    if not isinstance(found, dict):
        raise TypeError
    return found


def _array(found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise TypeError
    return found


def _write_bytes(message: Message, name: str, found: Any) -> None:
    text = found.encode("ascii")
    padded = text + b"=" * (-len(text) % 4)  # ProtoJSON readers take both alphabets, with and without padding
    decode = urlsafe_b64decode if b"-" in text or b"_" in text else b64decode
    try:
        setattr(message, name, decode(padded))
    except NotBase64:
        raise TypeError from None


def _enum(enum: EnumDescriptor) -> tuple[Read, Write]:
    """Names both ways; a number without a name becomes `TASK_STATE_42`, and 42 again."""
    names = {value.number: value.name for value in enum.values}
    numbers = {value.name: value.number for value in enum.values}
    prefix = names[0].removesuffix("UNSPECIFIED")

    def read(number: int) -> str:
        return names.get(number) or f"{prefix}{number}"

    def write(message: Message, name: str, found: Any) -> None:
        number = numbers.get(found)
        if number is None:
            rest = found.removeprefix(prefix)
            if not rest.isdecimal():
                return  # younger than the messages: protobuf has no number for it
            number = int(rest)
        setattr(message, name, number)

    return read, write


def _read_timestamp(moment: Timestamp) -> Any:
    nanos = moment.nanos
    try:
        text = (_EPOCH + timedelta(seconds=moment.seconds)).isoformat()[:19]
    except OverflowError:  # outside the years 1 to 9999
        return _ABSENT
    if not 0 < nanos < 1_000_000_000:
        return f"{text}Z"
    fraction = f"{nanos:09d}"  # in three, six or nine digits, as protobuf's JSON has it
    return f"{text}.{fraction[:3] if not nanos % 1_000_000 else fraction[:6] if not nanos % 1000 else fraction}Z"


def _write_timestamp(message: Message, name: str, found: Any) -> None:
    """Write an RFC 3339 timestamp. One without a zone is taken as UTC; what is none is left out.

    protobuf's own reader takes ten times as long, and there is one in nearly every answer.
    """
    parts = _STAMP.fullmatch(found) if isinstance(found, str) else None
    if parts is None:
        return
    text, fraction, zone = parts.groups()
    try:
        moment = datetime.fromisoformat(text + (zone or "Z").upper())
    except ValueError:
        return
    inner: Timestamp = getattr(message, name)
    inner.seconds = (moment - _EPOCH) // _SECOND
    inner.nanos = int((fraction or "0").ljust(9, "0"))
    inner.SetInParent()


# --- JSON values inside protobuf: metadata and data ---


def _read_struct(struct: Struct) -> JsonObject:
    return {name: _read_value(value) for name, value in struct.fields.items()}


def _read_value(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and -EXACT <= number <= EXACT else number
    if kind == "struct_value":
        return _read_struct(value.struct_value)
    if kind == "list_value":
        return [_read_value(one) for one in value.list_value.values]
    return value.bool_value if kind == "bool_value" else None


def _write_struct(message: Message, name: str, found: Any) -> None:
    struct = getattr(message, name)
    struct.SetInParent()
    _fill_struct(struct, _object(found), MAX_DEPTH)


def _fill_struct(struct: Struct, found: JsonObject, left: int) -> None:
    if not left:
        raise ValueError("is nested deeper than protobuf allows")
    fields = struct.fields
    for name, value in found.items():
        _fill_value(fields[name], value, left - 1)


def _write_value(message: Message, name: str, found: Any) -> None:
    _fill_value(getattr(message, name), found, MAX_DEPTH)


def _fill_value(value: Value, found: Any, left: int) -> None:
    match found:
        case str():
            value.string_value = found
        case bool():
            value.bool_value = found
        case int() | float():
            value.number_value = float(found)
        case None:
            value.null_value = 0  # type: ignore[assignment] # the only member of its enum
        case dict():
            value.struct_value.SetInParent()
            _fill_struct(value.struct_value, found, left)
        case list():
            value.list_value.SetInParent()
            _fill_list(value.list_value, found, left)
        case _:
            raise TypeError


def _fill_list(target: ListValue, found: list[Any], left: int) -> None:
    if not left:
        raise ValueError("is nested deeper than protobuf allows")
    for one in found:
        _fill_value(target.values.add(), one, left - 1)


_WELL_KNOWN: Final[dict[str, tuple[Read, Write]]] = {
    "google.protobuf.Struct": (_read_struct, _write_struct),
    "google.protobuf.Value": (_read_value, _write_value),
    "google.protobuf.Timestamp": (_read_timestamp, _write_timestamp),
}


def _check_values(message: Message) -> None:
    """Refuse what would keep everybody waiting while it is read: as `judged.check_size` does for JSON."""
    left = MAX_VALUES
    waiting: list[Any] = [message]
    while waiting:
        for _, value in waiting.pop().ListFields():
            if isinstance(value, str | bytes | int | float):
                left -= 1
                continue
            inner = [value] if isinstance(value, Message) else _items(value)
            left -= len(inner)
            if left < 0:
                raise ValueError(f"holds more than {MAX_VALUES} values")
            waiting += [one for one in inner if isinstance(one, Message)]


def _items(value: Any) -> list[Any]:
    """What a repeated field or a map holds, if that is not too much."""
    if len(value) > MAX_VALUES:
        raise ValueError(f"holds more than {MAX_VALUES} values")
    items: Iterable[Any] = value.values() if hasattr(value, "values") else value
    return list(items)
