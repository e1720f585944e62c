"""Forms (multipart/form-data, RFC 7578) read piece by piece as they come, and written anew. Pure; holds no file.

What goes on is never the bytes that came but what was read of them, between the hub's own boundaries: the reader behind
the hub sees the fields that the hub saw.
"""

from __future__ import annotations

import re
import secrets
from enum import Enum, auto
from urllib.parse import unquote

import msgspec

from registry.errors import InvalidRequest

MAX_HEAD_BYTES = 16 * 1024
"""Headers of one part."""

MAX_PARTS = 1000

_BOUNDARY = re.compile(
    r'multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"\\]{1,70})"|([^\s";,]{1,70}))\s*(?:;.*)?', re.IGNORECASE
)
_PARAMETER = re.compile(r';\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s";]+))\s*')
_ESCAPED = re.compile(r'\\(["\\])')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MEDIA_TYPE = re.compile(r"[!-~][ -~]{0,199}")
_IDENTITY = frozenset({"binary", "8bit", "7bit"})
_UNSAFE = str.maketrans({'"': "%22", "\\": "_"})


class Head(msgspec.Struct, frozen=True):
    """The beginning of a part."""

    name: str
    filename: str | None
    """None: a plain field."""
    media_type: str | None


class End(Enum):
    """What else may come of a form."""

    PART = auto()
    FORM = auto()


Event = Head | bytes | End


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a Content-Type names.

    Raises:
        InvalidRequest: it is not one of a form.
    """
    found = _BOUNDARY.fullmatch(content_type.decode("latin-1").strip())
    if found is None:
        raise InvalidRequest("the Content-Type must be multipart/form-data with a boundary")
    return (found[1] or found[2]).encode("latin-1")


def is_form(content_type: bytes) -> bool:
    """Whether a Content-Type says that the body is a form."""
    return content_type.lstrip()[:19].lower() == b"multipart/form-data"


class _State(Enum):
    PREAMBLE = auto()
    DELIMITER = auto()
    HEAD = auto()
    DATA = auto()
    EPILOGUE = auto()


class FormReader:
    """Takes a form's bytes, cut anywhere, and tells what they begin, hold and end."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._held = bytearray(b"\r\n")  # so that the first delimiter is like all others
        self._state = _State.PREAMBLE
        self._parts = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes and return what they tell.

        Raises:
            InvalidRequest: this is no form.
        """
        self._held += chunk
        events: list[Event] = []
        while self._step(events):
            pass
        return events

    def finish(self) -> None:
        """Say that no more comes; raises `InvalidRequest` if the form is not whole."""
        if self._state is not _State.EPILOGUE:
            raise InvalidRequest("the form ends within a part")

    def _step(self, events: list[Event]) -> bool:
        """Read on by one thing; False: more bytes are needed."""
        if self._state in (_State.PREAMBLE, _State.DATA):
            return self._data(events)
        if self._state is _State.DELIMITER:
            return self._after_delimiter(events)
        if self._state is _State.HEAD:
            return self._head(events)
        self._held.clear()
        return False

    def _data(self, events: list[Event]) -> bool:
        end = self._held.find(self._delimiter)
        safe = len(self._held) - len(self._delimiter) + 1 if end < 0 else end
        if safe > 0 and self._state is _State.DATA:
            events.append(bytes(self._held[:safe]))
        if end < 0:
            del self._held[: max(safe, 0)]
            return False
        del self._held[: end + len(self._delimiter)]
        if self._state is _State.DATA:
            events.append(End.PART)
        self._state = _State.DELIMITER
        return True

    def _after_delimiter(self, events: list[Event]) -> bool:
        if len(self._held) < 2:
            return False
        follows = bytes(self._held[:2])
        if follows == b"--":
            events.append(End.FORM)
            self._state = _State.EPILOGUE
            return True
        if follows != b"\r\n":
            raise InvalidRequest("the form's boundary stands within it")
        del self._held[:2]
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidRequest(f"the form has more than {MAX_PARTS} parts")
        self._state = _State.HEAD
        return True

    def _head(self, events: list[Event]) -> bool:
        end = self._held.find(b"\r\n\r\n")
        if end > MAX_HEAD_BYTES or (end < 0 and len(self._held) > MAX_HEAD_BYTES):
            raise InvalidRequest("the headers of a part are too large")
        if end < 0:
            return False
        events.append(_read_head(bytes(self._held[:end])))
        del self._held[: end + 4]
        self._state = _State.DATA
        return True


def _read_head(raw: bytes) -> Head:
    headers: dict[str, str] = {}
    try:
        lines = raw.decode().split("\r\n")
    except UnicodeDecodeError:
        raise InvalidRequest("the headers of a part are not UTF-8") from None
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or _CONTROL.search(line) or name.lower() in headers:
            raise InvalidRequest("a part has a header that stands twice or is none")
        headers[name.lower()] = value.strip()
    if headers.get("content-transfer-encoding", "binary").lower() not in _IDENTITY:
        raise InvalidRequest("the parts of a form are sent as they are, without Content-Transfer-Encoding")
    disposition = headers.get("content-disposition", "")
    parameters = _parameters(disposition)
    if "name" not in parameters:
        raise InvalidRequest("a part of the form has no name")
    media_type = headers.get("content-type")
    if media_type is not None and not _MEDIA_TYPE.fullmatch(media_type):
        raise InvalidRequest("the Content-Type of a part is none")
    return Head(parameters["name"], _filename(parameters), media_type)


def _parameters(disposition: str) -> dict[str, str]:
    kind, _, _ = disposition.partition(";")
    rest = disposition[len(kind) :]
    found = {}
    if kind.strip().lower() != "form-data":
        raise InvalidRequest("a part of the form is not form-data")
    while rest:
        match = _PARAMETER.match(rest)
        if match is None or match[1].lower() in found:
            raise InvalidRequest("the Content-Disposition of a part cannot be read")
        value = match[3] if match[2] is None else _ESCAPED.sub(r"\1", match[2])
        found[match[1].lower()] = value
        rest = rest[match.end() :]
    return found


def _filename(parameters: dict[str, str]) -> str | None:
    extended = parameters.get("filename*")
    if extended is None:
        return parameters.get("filename")
    charset, _, rest = extended.partition("'")
    if charset.lower() != "utf-8":
        raise InvalidRequest("the filename* of a part is not UTF-8")
    name = unquote(rest.partition("'")[2], errors="replace")
    return _CONTROL.sub("_", name)


def new_boundary() -> bytes:
    """A boundary that nobody could have put into a file."""
    return b"hubbub-" + secrets.token_hex(16).encode()


def media_type(boundary: bytes) -> str:
    """The Content-Type of a form with this boundary."""
    return f"multipart/form-data; boundary={boundary.decode()}"


def opening(head: Head, boundary: bytes) -> bytes:
    """The bytes in front of a part's data."""
    lines = [f'--{boundary.decode()}\r\ncontent-disposition: form-data; name="{head.name.translate(_UNSAFE)}"']
    if head.filename is not None:
        lines.append(f'; filename="{head.filename.translate(_UNSAFE)}"')
    if head.media_type is not None:
        lines.append(f"\r\ncontent-type: {head.media_type}")
    lines.append("\r\n\r\n")
    return "".join(lines).encode()


def closing(boundary: bytes) -> bytes:
    """The bytes behind the last part."""
    return b"--" + boundary + b"--\r\n"
