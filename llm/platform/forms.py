"""One form as it is received: its deciding fields are found wherever they stand, its files pass in pieces.

A file that stands in front of a field that must be known first waits on disk, never in memory.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import IO

import msgspec

from llm.platform import multipart
from llm.platform.multipart import End, Event, FormReader, Head
from registry.errors import InvalidRequest

MAX_FIELD_BYTES = 1024 * 1024
"""Plain fields of a form together; prompts stand in them."""

WHOLE_BYTES = 1024 * 1024
"""A form up to this size is sent with its length, which some services want."""

_READ_BYTES = 256 * 1024
_ENDED = End.FORM


class Field(msgspec.Struct, frozen=True):
    """A plain field."""

    head: Head
    value: bytes


class File(msgspec.Struct, frozen=True):
    """A file; its data is read once, before the part that follows it."""

    head: Head
    data: AsyncIterator[bytes]


class _Spooled(msgspec.Struct, frozen=True):
    head: Head
    file: IO[bytes]


Part = Field | File
Body = bytes | AsyncIterator[bytes]


class Form:
    """A form under way. Enter it for its length: what waits on disk goes with it.

    `once`: names of fields on which something is decided; each may stand once, in this spelling.
    """

    def __init__(self, boundary: bytes, pieces: AsyncIterator[bytes], *, once: frozenset[str]) -> None:
        self._reader = FormReader(boundary)
        self._pieces = pieces
        self._events: list[Event] = []
        self._once = once
        self._folded = {_fold(name): name for name in once}
        self._kept: list[Field | _Spooled] = []
        self._field_bytes = 0
        self._values: dict[str, str] = {}

    async def __aenter__(self) -> Form:
        return self

    async def __aexit__(self, *_: object) -> None:
        for part in self._kept:
            if isinstance(part, _Spooled):
                part.file.close()

    def value(self, name: str) -> str | None:
        """The value of a deciding field that has come; None: it did not yet."""
        return self._values.get(name)

    async def until(self, name: str) -> str | None:
        """Read on until a deciding field has come, and return it; None: the form ended without it."""
        while name not in self._values:
            part = await self._next()
            if part is None:
                return None
            if isinstance(part, File):
                file = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the form is left
                self._kept.append(_Spooled(part.head, file))
                async for piece in part.data:
                    await asyncio.to_thread(file.write, piece)
                await asyncio.to_thread(file.seek, 0)
            else:
                self._kept.append(part)
        return self._values[name]

    async def parts(self) -> AsyncIterator[Part]:
        """All parts from the first one on; raises `InvalidRequest` where the form turns out not to be one."""
        for kept in self._kept:
            yield kept if isinstance(kept, Field) else File(kept.head, _read(kept.file))
        while (part := await self._next()) is not None:
            yield part

    async def _next(self) -> Part | None:
        """The next part as it comes; None: the form is whole."""
        event = await self._event()
        if event is _ENDED:
            async for _ in self._pieces:  # an epilogue says nothing
                pass
            return None
        assert isinstance(event, Head), "a part begins with its head"
        if event.filename is not None:
            if _fold(event.name) in self._folded:
                raise InvalidRequest(f"{event.name} must be a field, not a file", member=event.name)
            return File(event, self._data())
        return await self._field(event)

    async def _field(self, head: Head) -> Field:
        value = bytearray()
        async for piece in self._data():
            self._field_bytes += len(piece)
            if self._field_bytes > MAX_FIELD_BYTES:
                raise InvalidRequest(f"the form's fields are larger than {MAX_FIELD_BYTES} bytes; send files as files")
            value += piece
        meant = self._folded.get(_fold(head.name))
        if meant is not None:
            if head.name != meant:
                raise InvalidRequest(f"{head.name[:80]!r} is not a field; write {meant!r}", member=head.name)
            if meant in self._values:
                raise InvalidRequest(f"{meant} stands twice", member=meant)
            try:
                self._values[meant] = value.decode()
            except UnicodeDecodeError:
                raise InvalidRequest(f"{meant} must be a text", member=meant) from None
        return Field(head, bytes(value))

    async def _data(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._event(), bytes):
            yield event

    async def _event(self) -> Event:
        while not self._events:
            piece = await anext(self._pieces, None)
            if piece is None:
                self._reader.finish()
                return _ENDED
            self._events = self._reader.feed(piece)[::-1]
        return self._events.pop()


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _READ_BYTES):
        yield piece


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").removesuffix("[]").casefold()


async def written(form: Form, boundary: bytes, *, without: str = "") -> AsyncIterator[bytes]:
    """The form anew, without one of its fields."""
    async for part in form.parts():
        if isinstance(part, File):
            yield multipart.opening(part.head, boundary)
            async for piece in part.data:
                yield piece
            yield b"\r\n"
        elif part.head.name != without:
            yield multipart.opening(part.head, boundary) + part.value + b"\r\n"
    yield multipart.closing(boundary)


async def measured(pieces: AsyncIterator[bytes]) -> Body:
    """A small body whole, so that its length can be said; a large one as it comes."""
    begun: list[bytes] = []
    size = 0
    async for piece in pieces:
        begun.append(piece)
        size += len(piece)
        if size > WHOLE_BYTES:
            return _chained(begun, pieces)
    return b"".join(begun)


def with_field(name: str, value: str, body: Body, boundary: bytes) -> Body:
    """A written form with one field more. What passes in pieces is the same form until the first of them is read."""
    field = multipart.opening(Head(name, None, None), boundary) + value.encode() + b"\r\n"
    return field + body if isinstance(body, bytes) else _chained([field], body)


async def _chained(begun: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while begun:
        yield begun.pop(0)
    async for piece in rest:
        yield piece
