"""One connection as a state machine, without a socket: every framing, cut at every place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.corked import Cork
from registry.egress.http1 import MAX_UNREAD_BYTES, Connection, Failed, Failure

BODIES = st.binary(max_size=200)
INTERIM = st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n"])


class Wire(asyncio.Transport):
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = self.paused = False

    def write(self, data: object) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@st.composite
def framed(draw: st.DrawFn) -> tuple[bytes, bytes, bool]:
    """A response, its body, and whether its end can be told without the connection's."""
    body, interim = draw(BODIES), draw(INTERIM)
    head = interim + b"HTTP/1.1 200 OK\r\nX-Empty:\r\n"
    kind = draw(st.sampled_from(["length", "chunked", "close"]))
    if kind == "length":
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, body, True
    if kind == "close":
        return head + b"\r\n" + body, body, False
    raw, rest = head + b"Transfer-Encoding: chunked\r\n\r\n", body
    while rest:
        size = draw(st.integers(1, len(rest)))
        raw += b"%x%b\r\n%b\r\n" % (size, draw(st.sampled_from([b"", b";a=b"])), rest[:size])
        rest = rest[size:]
    return raw + b"0\r\n" + draw(st.sampled_from([b"", b"x-trailer: 1\r\n"])) + b"\r\n", body, True


def pieces(raw: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({cut % len(raw) for cut in cuts} - {0})
    for begin, end in zip([0, *places], [*places, len(raw)], strict=True):
        yield raw[begin:end]


async def exchange(came: list[bytes], *, read_ahead: bool, ends: bool) -> bytes:
    connection = Connection(asyncio.get_running_loop(), Cork(), idle_s=60)
    connection.connection_made(Wire())
    sending = asyncio.create_task(connection.send(b"", b"", first_byte_s=60, read_ahead=read_ahead))
    await asyncio.sleep(0)
    body = b""
    for piece in came:
        connection.data_received(piece)
        if sending.done():
            body += connection.take()
        await asyncio.sleep(0)
    if ends:
        connection.eof_received()
        connection.connection_lost(None)
    try:
        await sending
        while more := await connection.more():
            body += more
    finally:
        connection.connection_lost(None)
    assert (connection.status, connection.headers[0]) == (200, (b"x-empty", b""))
    return body


@given(framed(), st.lists(st.integers(1, 10000), max_size=8), st.booleans())
@settings(deadline=None, max_examples=300)
def test_every_framing_is_read_wherever_it_is_cut(
    response: tuple[bytes, bytes, bool], cuts: list[int], read_ahead: bool
) -> None:
    raw, body, ends_itself = response
    came = list(pieces(raw, cuts))
    assert asyncio.run(exchange(came, read_ahead=read_ahead, ends=not ends_itself)) == body


@given(framed())
@settings(deadline=None, max_examples=100)
def test_every_framing_is_read_byte_by_byte(response: tuple[bytes, bytes, bool]) -> None:
    raw, body, ends_itself = response
    came = list(pieces(raw, list(range(len(raw)))))
    assert asyncio.run(exchange(came, read_ahead=False, ends=not ends_itself)) == body


@given(framed(), st.integers(0, 10000))
@settings(deadline=None, max_examples=200)
def test_no_response_that_was_cut_passes_for_a_whole_one(response: tuple[bytes, bytes, bool], place: int) -> None:
    raw, _, ends_itself = response
    cut = raw[: place % len(raw)]
    if not ends_itself and raw.index(b"X-Empty:\r\n") + 12 <= len(cut):
        return  # nobody can tell
    with pytest.raises(Failed) as failed:
        asyncio.run(exchange([cut] if cut else [], read_ahead=False, ends=True))
    assert failed.value.failure is (Failure.CUT if cut else Failure.LOST)


@given(st.binary(min_size=1, max_size=100))
@settings(deadline=None)
@pytest.mark.attack("2.2/13")
def test_bytes_that_are_not_http_never_raise_anything_but_a_failure(raw: bytes) -> None:
    with pytest.raises(Failed):
        asyncio.run(exchange([raw], read_ahead=False, ends=True))


async def answering(raw: bytes) -> tuple[Connection, Wire]:
    connection, wire = Connection(asyncio.get_running_loop(), Cork(), idle_s=60), Wire()
    connection.connection_made(wire)
    sending = asyncio.create_task(connection.send(b"", b"", first_byte_s=60))
    await asyncio.sleep(0)
    connection.data_received(raw)
    await sending
    return connection, wire


async def test_unread_body_pauses_the_upstream_until_it_is_taken() -> None:
    piece = bytes(MAX_UNREAD_BYTES)
    connection, wire = await answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (4 * len(piece)) + piece + b"x"
    )
    assert wire.paused
    assert not connection.is_reusable
    assert await connection.more() == piece + b"x"
    assert not wire.paused
    connection.connection_lost(None)


async def test_an_upstream_that_is_held_is_read_when_it_may_go_on() -> None:
    connection, wire = await answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
    assert connection.take() == b"ab"
    connection.hold()
    more = asyncio.create_task(connection.more())
    await asyncio.sleep(0)
    assert wire.paused
    connection.go_on()
    assert not wire.paused
    connection.data_received(b"2\r\ncd\r\n")
    assert await more == b"cd"
    connection.data_received(b"2\r\nef\r\n0\r\n\r\n")
    connection.hold()  # nothing is left to wait for
    assert not wire.paused
    connection.connection_lost(None)


async def test_a_deadline_that_rings_after_something_came_rings_again_later() -> None:
    connection, wire = await answering(b"HTTP/1.1 200 OK\r\n\r\nx")
    connection._ring()
    assert not wire.closed
    connection._due = 0
    connection._ring()
    assert wire.closed
    assert await connection.more() == b"x"
    with pytest.raises(Failed, match="STALLED"):
        await connection.more()
    connection.connection_lost(None)


async def test_a_complete_answer_stays_complete_whatever_happens_to_its_connection() -> None:
    connection, wire = await answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert connection.is_reusable
    connection.data_received(b"x")
    assert wire.closed
    assert not connection.is_reusable
    connection.connection_lost(ConnectionResetError())
    assert (await connection.more(), await connection.more()) == (b"ok", b"")
