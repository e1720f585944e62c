"""Uploads of files: to the provider that is to keep them, in pieces; the input of a batch judged line by line on its way."""

from __future__ import annotations

from collections.abc import AsyncIterator

from llm.platform import forms, multipart, operations, references
from llm.platform.batch_lines import BatchLines
from llm.platform.forms import File, Form, Part
from llm.platform.objects import Platform
from llm.platform.owned import Opened, OwnedIds
from llm.platform.passthrough import Visitor
from llm.providers.endpoints import Request
from registry import judged
from registry.errors import InvalidRequest

DECIDING = frozenset({"model", "purpose"})
"""Fields of an upload on which the hub decides."""


class Uploads:
    """Answers `POST /v1/files` and the parts of `/v1/uploads`. One for a process."""

    def __init__(self, platform: Platform, *, owned: OwnedIds) -> None:
        self._platform = platform
        self._owned = owned

    async def take(self, form: Form, model: str | None, visitor: Visitor) -> None:
        """Answer an upload; `model` is what the query says. Raises `HubError`.

        The deployment that keeps it is that of the model named, of the model that a batch's lines ask for, else the only one.
        """
        purpose = await form.until("purpose")
        if not purpose:
            raise InvalidRequest("purpose is missing", member="purpose")
        parts = form.parts()
        fields, file = await _until_file(parts)
        asked = model or form.value("model")
        lines = BatchLines(file.data) if purpose == "batch" else None
        if lines is not None:
            named = await lines.model()
            if asked not in (None, named):
                raise InvalidRequest(f"the batch's requests are for {named[:80]!r}", member="model")
            asked = named
        entry, place = self._platform.chosen("batches" if lines else "files", asked, visitor.principal)
        with self._platform.admit(entry, visitor) as permit:
            await permit.judge(None)
            data = file.data
            if lines is not None:
                data = lines.written(place.model, self._owned.at(place, visitor.principal))
            boundary = multipart.new_boundary()
            body = await forms.measured(_written(fields, File(file.head, data), parts, boundary))
            request = Request(path="files", body=body, media_type=multipart.media_type(boundary))
            like = self._owned.own(visitor.principal, entry, place, purpose=purpose)
            shown = await self._platform.asked(
                permit, Opened(like, entry, place), request, references.FILE, visitor, lines=lines
            )
            await visitor.sink.reply(200, judged.encode(shown))

    async def part(self, form: Form, path: str, visitor: Visitor) -> None:
        """Answer the upload of one part; `path` is as for `operations.find`. Raises `HubError`."""
        operation, ids = operations.find("POST", path)
        opened = self._owned.opened(*ids[0], visitor.principal)
        boundary = multipart.new_boundary()
        target = operations.target(operation, [opened.owned.name], b"", self._owned.at(opened.place, visitor.principal))
        with self._platform.admit(opened.entry, visitor) as permit:
            await permit.judge(None)
            body = await forms.measured(forms.written(form, boundary))
            request = Request(path=target, body=body, media_type=multipart.media_type(boundary))
            shown = await self._platform.asked(permit, opened, request, references.PART, visitor)
            await visitor.sink.reply(200, judged.encode(shown))


async def _until_file(parts: AsyncIterator[Part]) -> tuple[list[forms.Field], File]:
    """The fields in front of the file, and the file."""
    fields: list[forms.Field] = []
    async for part in parts:
        if isinstance(part, File):
            if part.head.name != "file":
                raise InvalidRequest("the file must be in the field file", member="file")
            return fields, part
        if part.head.name != "model":
            fields.append(part)
    raise InvalidRequest("file is missing", member="file")


async def _written(
    fields: list[forms.Field], file: File, rest: AsyncIterator[Part], boundary: bytes
) -> AsyncIterator[bytes]:
    for field in fields:
        yield multipart.opening(field.head, boundary) + field.value + b"\r\n"
    yield multipart.opening(file.head, boundary)
    async for piece in file.data:
        yield piece
    yield b"\r\n"
    async for part in rest:
        if isinstance(part, File):
            raise InvalidRequest("one file at a time", member="file")
        if part.head.name == "model":
            raise InvalidRequest("send model in front of the file, or in the query", member="model")
        yield multipart.opening(part.head, boundary) + part.value + b"\r\n"
    yield multipart.closing(boundary)
