"""Forms, read however they are cut, and written so that another reader (python-multipart) sees what the hub saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser

from llm.platform import multipart
from llm.platform.forms import File, Form, with_field, written
from llm.platform.multipart import Head
from registry.errors import HubError

names = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20).filter(
    lambda name: name.casefold().strip("_-") not in ("model", "model[]")
)
parts = st.lists(
    st.tuples(
        names, st.none() | names, st.binary(max_size=200) | st.sampled_from([b"\r\n", b"--", b"\r\n--", b"-" * 90])
    ),
    max_size=5,
)


def form(given_parts: list[tuple[str, str | None, bytes]], boundary: bytes = b"b-o-u-n-d") -> bytes:
    made = [
        multipart.opening(Head(name, filename, None), boundary) + data + b"\r\n" for name, filename, data in given_parts
    ]
    return b"".join(made) + multipart.closing(boundary)


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def passed(data: bytes, size: int, *, spooled: bool) -> bytes:
    async with Form(b"b-o-u-n-d", pieces(data, size), once=frozenset({"model"})) as under_way:
        if spooled:
            await under_way.until("model")
        body = b"".join([piece async for piece in written(under_way, b"other", without="model")])
        whole = with_field("model", "up", body, b"other")
        assert isinstance(whole, bytes)
        return whole


async def seen(data: bytes) -> list[tuple[str, str | None, bytes]]:
    """What another reader sees in a form."""
    headers = Headers({"content-type": multipart.media_type(b"other")})
    read = await MultiPartParser(headers, pieces(data, 1000)).parse()
    found = []
    for name, value in read.multi_items():
        if isinstance(value, UploadFile):
            found.append((name, value.filename, await value.read()))
        else:
            found.append((name, None, value.encode()))
    await read.close()
    return found


def as_written(text: str | None) -> str | None:
    return None if text is None else text.replace('"', "%22").replace("\\", "_")


@given(parts, st.integers(1, 300), st.integers(0, 5), st.booleans())
def test_another_reader_sees_what_the_hub_saw(
    given_parts: list[tuple[str, str | None, bytes]], size: int, where: int, spooled: bool
) -> None:
    texts = [(name, file, data if file else data.hex().encode()) for name, file, data in given_parts]
    with_model = [*texts[:where], ("model", None, b"m"), *texts[where:]]
    out = asyncio.run(passed(form(with_model), size, spooled=spooled))
    expected = [(as_written(name), as_written(file), data) for name, file, data in texts]
    assert asyncio.run(seen(out)) == [("model", None, b"up"), *expected]


@given(parts, st.integers(1, 50), st.data())
@pytest.mark.attack("2.1/25")
def test_a_form_that_was_cut_never_passes_for_a_whole_one(
    given_parts: list[tuple[str, str | None, bytes]], size: int, data: st.DataObject
) -> None:
    whole = form([*given_parts, ("model", None, b"m")])
    cut = data.draw(st.integers(0, len(whole) - 5))
    with pytest.raises(HubError):
        asyncio.run(passed(whole[:cut], size, spooled=False))


@given(st.binary(max_size=400), st.integers(1, 50))
def test_garbage_is_refused_and_nothing_else(data: bytes, size: int) -> None:
    for garbage in (data, b"--b-o-u-n-d\r\n" + data, form([("a", None, data)])[: len(data) + 60]):
        with pytest.raises(HubError):
            asyncio.run(passed(garbage, size, spooled=True))


@pytest.mark.parametrize(
    ("disposition", "head"),
    [
        ('form-data; name="a"', Head("a", None, None)),
        ("Form-Data;name=a ; filename=b.txt", Head("a", "b.txt", None)),
        ('form-data; name="a"; filename="q\\"u\\\\o"', Head("a", 'q"u\\o', None)),
        ("form-data; name=\"a\"; filename*=UTF-8''b%C3%A4r%0A", Head("a", "bär_", None)),
    ],
)
def test_names_are_read_as_clients_write_them(disposition: str, head: Head) -> None:
    reader = multipart.FormReader(b"b")
    raw = f"--b\r\ncontent-disposition: {disposition}\r\n\r\nx\r\n--b--\r\n".encode()
    assert reader.feed(raw)[0] == head


async def test_a_file_waits_on_disk_until_the_model_came() -> None:
    data = form([("file", "x", b"a" * 300_000), ("model", None, b"m")])
    async with Form(b"b-o-u-n-d", pieces(data, 1000), once=frozenset({"model"})) as under_way:
        assert await under_way.until("model") == "m"
        (file, *_) = [
            (part.head, b"".join([piece async for piece in part.data]))
            async for part in under_way.parts()
            if isinstance(part, File)
        ]
    assert file == (Head("file", "x", None), b"a" * 300_000)
