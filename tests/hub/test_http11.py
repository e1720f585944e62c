"""The HTTP/1.1 server, byte by byte over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hub import http11, http_exchange
from hub.exchange import ClientGone
from hub.http11 import Serve
from hub.http_exchange import HttpExchange
from registry.errors import BodyStalled, HubError
from tests.conftest import served_exchanges


@asynccontextmanager
async def talk(serve: Serve) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """One connection to a server of `serve`."""
    async with served_exchanges(serve) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        try:
            async with asyncio.timeout(20):
                yield reader, writer
        finally:
            writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Read one whole answer: status line, headers, body."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head[:-4].split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    if b"content-length" in headers:
        return status, headers, await reader.readexactly(int(headers[b"content-length"]))
    body = b""
    while headers.get(b"transfer-encoding") == b"chunked":
        size = int(await reader.readuntil(b"\r\n"), 16)
        body += (await reader.readexactly(size + 2))[:-2]
        if size == 0:
            break
    return status, headers, body


async def answers_for_ever(reader: asyncio.StreamReader) -> None:
    """Read answers until there are no more."""
    while True:
        await answer(reader)


async def echo(exchange: HttpExchange) -> None:
    """Answer with what was asked."""
    try:
        body = await exchange.body()
    except HubError as error:
        await exchange.reply(413, error.text.encode())
        return
    await exchange.reply(200, exchange.path.encode() + b"|" + exchange.query + b"|" + body)


async def test_requests_of_one_connection_are_answered_in_their_order() -> None:
    async with talk(echo) as (reader, writer):
        writer.write(b"".join(b"GET /%d?q HTTP/1.1\r\nhost: x\r\n\r\n" % n for n in range(20)))
        bodies = [(await answer(reader))[2] for _ in range(20)]
    assert bodies == [b"/%d|q|" % n for n in range(20)]


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_a_request_may_come_in_pieces_of_any_size(size: int) -> None:
    request = b"POST /a%20b?x=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
    async with talk(echo) as (reader, writer):
        for start in range(0, len(request), size):
            writer.write(request[start : start + size])
            await writer.drain()
        assert (await answer(reader))[2] == b"/a b|x=1|hello"


async def test_a_chunked_body_is_read_whole() -> None:
    async with talk(echo) as (reader, writer):
        writer.write(
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        assert (await answer(reader))[2] == b"/||abcde"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
    ids=repr,
)
@pytest.mark.attack("2.1/22", "2.2/13")
async def test_what_is_not_http_ends_the_connection(request_bytes: bytes) -> None:
    async with talk(echo) as (reader, writer):
        writer.write(request_bytes)
        try:
            answered = await reader.read()
        except ConnectionResetError:
            return
    assert answered == b"" or answered.startswith(b"HTTP/1.1 4")
    assert answered.count(b"HTTP/1.1") <= 1, "nothing after the broken request is served"


_POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
_CHUNKED = _POST + b"transfer-encoding: chunked\r\n\r\n"
_NEXT = b"ab\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize("line", ["-2", "+2", "0x2", "2 ", "", "0_2", "1" + "0" * 16, "2\n", "2;", "2;a\nb"], ids=repr)
@pytest.mark.attack("2.1/22", "2.2/13")
async def test_a_bad_chunk_size_is_answered_400_and_nothing_behind_it_is_served(line: str) -> None:
    async with talk(echo) as (reader, writer):
        writer.write(_CHUNKED + line.encode() + (b"" if line.endswith("\n") else b"\r\n") + _NEXT)
        answered = await reader.read()
    assert answered.startswith(b"HTTP/1.1 400 ")
    assert answered.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "coding",
    [
        b"transfer-encoding: xchunked",
        b"transfer-encoding: chunked, chunked",
        b"transfer-encoding: identity, chunked",
        b"transfer-encoding: gzip, chunked",
        b"transfer-encoding: ,chunked",
        b"transfer-encoding: identity\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked\r\ncontent-length: 12",
        b"content-length: 12\r\ntransfer-encoding: chunked",
    ],
    ids=repr,
)
@pytest.mark.attack("2.1/22", "2.2/13")
async def test_a_body_that_may_be_framed_in_two_ways_is_answered_400_and_nothing_behind_it_is_served(
    coding: bytes,
) -> None:
    async with talk(echo) as (reader, writer):
        writer.write(_POST + coding + b"\r\n\r\n2\r\n" + _NEXT)
        answered = await reader.read()
    assert answered.startswith(b"HTTP/1.1 400 ")
    assert answered.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("start", "more"),
    [(b"0\r\n", b"x-padding: " + b"x" * 8192 + b"\r\n"), (b"1;a=", b"x" * 8192), (b"", b"0" * 8192)],
    ids=["trailers", "extension", "zeros"],
)
@pytest.mark.attack("2.1/24", defence="hub.http11:Connection._check_framing")
async def test_what_frames_a_body_has_an_end(start: bytes, more: bytes) -> None:
    async with talk(echo) as (reader, writer):
        writer.write(_CHUNKED + start)
        try:
            for _ in range(64):
                writer.write(more)
                await writer.drain()
            writer.write_eof()
            status = await reader.readline()
        except ConnectionError:
            return  # closed while we were still sending
    assert b" 431 " in status


async def test_a_body_in_chunks_of_one_byte_is_read_whole() -> None:
    async with talk(echo) as (reader, writer):
        writer.write(_CHUNKED)
        for _ in range(50):
            writer.write(b"0001;a=b\r\nx\r\n" * 1000)
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        assert (await answer(reader))[2] == b"/||" + b"x" * 50_000


@pytest.mark.attack("2.1/24")
async def test_a_head_without_end_is_refused() -> None:
    async with talk(echo) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n")
        try:
            for _ in range(64):
                writer.write(b"x-padding: " + b"x" * 8192 + b"\r\n")
                await writer.drain()
            status = await reader.readline()
        except ConnectionError:
            return  # closed while we were still sending
    assert b" 431 " in status


@pytest.mark.attack("2.1/30")
async def test_a_head_that_never_ends_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http11, "HEAD_S", 0.05)
    async with talk(echo) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n")
        assert await reader.read() == b""


async def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http11, "HEAD_S", 0.05)
    monkeypatch.setattr(http11, "IDLE_S", 0.05)
    async with talk(echo) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await answer(reader)
        assert await reader.read() == b""


async def test_a_body_that_stops_coming_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_exchange, "BODY_STALL_S", 0.05)
    async with talk(echo) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf")
        assert b"did not arrive in time" in (await answer(reader))[2]


async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    async with talk(echo) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await answer(reader))[2] == b"/||hi"


async def test_an_offer_of_another_protocol_is_ignored() -> None:
    """Java's client offers h2c with its first request."""
    async with talk(echo) as (reader, writer):
        writer.write(
            b"POST / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nhi"
        )
        writer.write(b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await answer(reader))[2] == b"/||hi"
        assert (await answer(reader))[2] == b"/next||"


async def test_answers_without_a_body_have_none() -> None:
    async def serve(exchange: HttpExchange) -> None:
        await exchange.reply(204 if exchange.path == "/none" else 200, b"body")

    async with talk(serve) as (reader, writer):
        writer.write(b"HEAD /head HTTP/1.1\r\nhost: x\r\n\r\nGET /none HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        none = await reader.readuntil(b"\r\n\r\n")
    assert b"content-length: 4" in head
    assert b"content-length" not in none


async def test_a_client_of_http_1_0_reads_a_stream_to_the_end_of_the_connection() -> None:
    async def serve(exchange: HttpExchange) -> None:
        await exchange.start(200)
        await exchange.write(b"data: 1\n\n")
        exchange.finish()

    async with talk(serve) as (reader, writer):
        writer.write(b"GET / HTTP/1.0\r\nhost: x\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"data: 1\n\n"


async def test_silence_between_events_is_broken_by_a_comment_and_never_within_one() -> None:
    commented = asyncio.Event()

    async def serve(exchange: HttpExchange) -> None:
        await exchange.start(200)
        await exchange.write(b"data: 1\n\n")
        await commented.wait()
        exchange.finish()

    limits = http_exchange.Limits(keep_alive_s=0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.conftest.Limits", lambda: limits)
        async with talk(serve) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await reader.readuntil(b": keep-alive\n\n\r\n")
            commented.set()
            assert (await reader.readuntil(b"0\r\n\r\n")).endswith(b"0\r\n\r\n")


async def test_a_door_that_waits_for_its_client_hears_that_it_left() -> None:
    began, left = asyncio.Event(), asyncio.Event()

    async def serve(exchange: HttpExchange) -> None:
        try:
            with exchange.until_gone():
                began.set()
                await asyncio.Event().wait()
        except ClientGone:
            left.set()

    async with talk(serve) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await began.wait()
        writer.close()
        await left.wait()


async def test_an_answer_that_nobody_reads_any_more_ends_the_door() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def serve(exchange: HttpExchange) -> None:
        began.set()
        await exchange.until_left()
        try:
            await exchange.reply(200, b"nobody reads this")
        except ClientGone:
            ended.set()

    async with talk(serve) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await began.wait()
        writer.transport.abort()
        await ended.wait()


async def test_a_client_that_does_not_read_stops_the_door() -> None:
    written = 0
    left = asyncio.Event()

    async def serve(exchange: HttpExchange) -> None:
        nonlocal written
        await exchange.start(200)
        try:
            while True:
                await exchange.write(b"x" * 65536)
                written += 65536
        except ClientGone:
            left.set()

    async with talk(serve) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readexactly(1 << 20)
        before = -1
        while before != written:  # until nothing more can be written
            before = written
            for _ in range(1000):
                await asyncio.sleep(0)
        assert written < 64 << 20
        writer.transport.abort()
        await left.wait()


async def test_a_body_in_pieces_is_read_no_faster_than_it_is_taken() -> None:
    took: asyncio.Queue[int] = asyncio.Queue()
    go_on = asyncio.Event()

    async def serve(exchange: HttpExchange) -> None:
        size = 0
        async for piece in exchange.pieces():
            size += len(piece)
            took.put_nowait(size)
            await go_on.wait()
        await exchange.reply(200, b"%d" % size)

    async with talk(serve) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 64000000\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.transport.set_write_buffer_limits(high=0)
        sending = asyncio.create_task(_send(writer, 64))
        assert await took.get() < 4_000_000
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not sending.done(), "the client waits, for nobody takes what it sends"
        go_on.set()
        await sending
        assert (await answer(reader))[2] == b"64000000"
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await answer(reader))[2] == b"0", "and the connection goes on"


async def _send(writer: asyncio.StreamWriter, megabytes: int) -> None:
    for _ in range(megabytes):
        writer.write(bytes(1_000_000))
        await writer.drain()


async def test_a_client_that_leaves_or_stops_within_its_pieces_ends_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: asyncio.Queue[type[BaseException]] = asyncio.Queue()
    monkeypatch.setattr(http_exchange, "BODY_STALL_S", 0.05)

    async def serve(exchange: HttpExchange) -> None:
        try:
            async for _ in exchange.pieces():
                pass
        except (ClientGone, BodyStalled) as error:
            ended.put_nowait(type(error))
            exchange.abort()

    for leaves in (True, False):
        async with talk(serve) as (_, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\nabc")
            if leaves:
                writer.close()
            assert await ended.get() is (ClientGone if leaves else BodyStalled)


async def test_the_rest_of_a_body_that_was_refused_is_read_so_that_the_answer_arrives() -> None:
    limits = http_exchange.Limits(body_bytes=1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.conftest.Limits", lambda: limits)
        async with talk(echo) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n\r\n")
            for _ in range(50):
                writer.write(b"x" * 100_000)
                await writer.drain()
            status, _, _ = await answer(reader)
            assert b" 413 " in status
            assert await reader.read() == b"", "and the connection is closed"


@pytest.mark.attack("2.1/22")
async def test_a_header_cannot_be_broken_by_its_value() -> None:
    refused = asyncio.Event()

    async def serve(exchange: HttpExchange) -> None:
        try:
            await exchange.reply(200, b"", headers=[(b"x-a", b"1\r\nset-cookie: b")])
        except ValueError:
            refused.set()
            exchange.abort()

    async with talk(serve) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await refused.wait()
        with pytest.raises(asyncio.IncompleteReadError):
            await answer(reader)


async def test_a_large_answer_in_parts_arrives_whole() -> None:
    async def serve(exchange: HttpExchange) -> None:
        await exchange.reply(200, (b"a" * 300_000, b"b", b"c" * 300_000))

    async with talk(serve) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await answer(reader))[2] == b"a" * 300_000 + b"b" + b"c" * 300_000


async def test_a_trailer_is_no_header() -> None:
    seen: list[bytes] = []

    async def serve(exchange: HttpExchange) -> None:
        body = await exchange.body()
        seen.extend(name for name, _ in exchange.raw_headers)
        await exchange.reply(200, body)

    async with talk(serve) as (reader, writer):
        writer.write(
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            b"1\r\na\r\n0\r\nmcp-session-id: stolen\r\nauthorization: Bearer x\r\n\r\n"
            b"GET / HTTP/1.1\r\nhost: x\r\nx-next: 1\r\n\r\n"
        )
        assert (await answer(reader))[2] == b"a"
        await answer(reader)
    assert seen == [b"host", b"transfer-encoding", b"host", b"x-next"]


async def test_answers_do_not_pile_up_for_a_client_that_does_not_read_them() -> None:
    count, size = 50, 256 * 1024
    unread: list[int] = []

    async def serve(exchange: HttpExchange) -> None:
        unread.append(exchange.line.transport.get_write_buffer_size())
        await exchange.reply(200, b"x" * size)

    async with talk(serve) as (reader, writer):
        for _ in range(count):  # one by one: a pipeline has a bound of its own
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            for _ in range(20):
                await asyncio.sleep(0)
        for _ in range(count):
            assert len((await answer(reader))[2]) == size
    assert max(unread) < 2 * size


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_client_that_never_takes_its_answer_is_cut(monkeypatch: pytest.MonkeyPatch, version: bytes) -> None:
    monkeypatch.setattr(http11, "HEAD_S", 0.05)
    monkeypatch.setattr(http11, "IDLE_S", 0.05)

    async def serve(exchange: HttpExchange) -> None:
        await exchange.reply(200, b"x" * (64 << 20))

    async with talk(serve) as (reader, writer):
        writer.write(b"GET / HTTP/%b\r\nhost: x\r\n\r\n" % version)
        await reader.readexactly(1000)
        writer.transport.pause_reading()
        cut = False
        while not cut:  # the kernel says so only to who writes
            await asyncio.sleep(0.05)
            writer.write(b" ")
            cut = writer.transport.is_closing()


async def test_a_pipeline_of_upgrades_is_refused_once() -> None:
    async with talk(echo) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n" * 3000)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await answers_for_ever(reader)
