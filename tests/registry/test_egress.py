"""The way out: framing at every boundary, ends of every wait, reuse, TLS, the proxy; against raw peers."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from cryptography import x509

from registry.egress.http import Deadlines, Egress, Outgoing
from registry.egress.http1 import MAX_HEAD_BYTES
from registry.egress.pool import IdleConnections
from registry.errors import UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable
from tests.peers.authority import LOCALHOST, Authority
from tests.peers.http_peer import OK, Peer, always, forward, listening, never, read_request
from tests.recording import Unlimited

HEAD = b"HTTP/1.1 200 OK\r\n"


class Permit(Unlimited):
    entry_name = "x"

    def __init__(self) -> None:
        self.used = 0

    def use(self) -> None:
        self.used += 1


@asynccontextmanager
async def way_out(deadlines: Deadlines | None = None, **options: object) -> AsyncIterator[Egress]:
    egress = Egress(deadlines, **options)
    try:
        async with asyncio.timeout(30):
            yield egress
    finally:
        await egress.aclose()


async def ask(egress: Egress, url: str, **members: object) -> bytes:
    async with egress.send(Permit(), Outgoing(url=url, **({"body": b"{}"} | members))) as incoming:
        return await incoming.read()


# -- what is sent


async def test_a_request_holds_what_was_given_and_what_http_needs_and_nothing_else() -> None:
    async with listening(always(OK)) as peer, way_out() as egress:
        permit = Permit()
        outgoing = Outgoing(url=f"{peer.url}a?b=c#d", headers=(("X-One", "1"), ("x-raw", "gr\xf6\xdfe")), body=b"hi")
        async with egress.send(permit, outgoing) as incoming:
            assert (incoming.status, incoming.media_type) == (200, "text/plain")
            assert incoming.headers == [("content-type", "text/plain"), ("content-length", "2")]
            assert incoming.header(b"x-absent") is None
            assert await incoming.read() == b"ok"
        sent = peer.requests[0]
        assert (sent.start, sent.body, permit.used) == ("POST /a?b=c HTTP/1.1", b"hi", 1)
        assert sent.headers == {
            "host": f"127.0.0.1:{peer.port}",
            "x-one": "1",
            "x-raw": "gr\xf6\xdfe",
            "user-agent": "hubbub",
            "content-length": "2",
        }


async def test_a_get_has_no_body_and_an_empty_post_says_so() -> None:
    async with listening(always(OK)) as peer, way_out() as egress:
        await ask(egress, peer.url, method="GET", body=None)
        await ask(egress, peer.url, body=None)
        assert "content-length" not in peer.requests[0].headers
        assert peer.requests[1].headers["content-length"] == "0"


async def test_a_configured_host_header_takes_the_place_of_the_hubs() -> None:
    async with listening(always(OK)) as peer, way_out() as egress:
        await ask(egress, peer.url, headers=(("Host", "inner.example"),))
        assert peer.requests[0].head.lower().count(b"host:") == 1
        assert peer.requests[0].headers["host"] == "inner.example"


@pytest.mark.parametrize(
    "header",
    [
        ("x", "a\r\nevil: 1"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("x", "\u20ac"),
        ("x\r\nevil", "1"),
        ("x: y", "1"),
        ("", "1"),
        ("x y", "1"),
        ("gr\xf6\xdfe", "1"),
        ("Transfer-Encoding", "chunked"),
        ("content-length", "0"),
        ("connection", "close"),
        ("upgrade", "h2c"),
    ],
)
@pytest.mark.attack("2.1/22", defence="registry.egress.request:_NOT_IN_A_VALUE")
async def test_a_header_that_would_leave_its_line_or_move_the_body_is_refused_before_dialling(
    header: tuple[str, str],
) -> None:
    async with listening(always(OK)) as peer, way_out() as egress:
        with pytest.raises(UpstreamUnavailable, match="cannot be sent"):
            await ask(egress, peer.url, headers=(header,))
        with pytest.raises(UpstreamUnavailable):
            await ask(egress, peer.url, method="GET / HTTP/1.1\r\nx: y\r\n\r\nPOST")
        assert peer.accepted == 0


async def test_a_large_body_arrives_whole() -> None:
    body = bytes(range(256)) * 16384
    async with listening(always(OK)) as peer, way_out() as egress:
        assert await ask(egress, peer.url, body=body) == b"ok"
        assert await ask(egress, peer.url) == b"ok"
        assert peer.requests[0].body == body
        assert peer.accepted == 1


async def pieces(*given: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece
    if then is not None:
        raise then


async def test_a_body_that_comes_in_pieces_is_sent_chunked() -> None:
    async def read(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.requests.append(await read_request(reader))
        peer.requests[-1].body = await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.write(OK)
        await read(peer, reader, writer)

    async with listening(read) as peer, way_out() as egress:
        for _ in range(2):
            assert await ask(egress, peer.url, body=pieces(b"abc", b"", b"x" * 300)) == b"ok"
        assert peer.accepted == 1, "the connection was used again"
        for request in peer.requests:
            assert request.headers["transfer-encoding"] == "chunked"
            assert "content-length" not in request.headers
            assert request.body == b"3\r\nabc\r\n12c\r\n" + b"x" * 300 + b"\r\n0\r\n\r\n"


async def test_a_body_that_breaks_off_ends_its_request() -> None:
    async def read(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = await reader.read(1 << 20)
        while more := await reader.read(1 << 20):
            got += more
        assert b"\r\n0\r\n" not in got, "nobody may take it for whole"
        peer.left.set()

    async with listening(read) as peer, way_out() as egress:
        with pytest.raises(ValueError, match="broke"):
            await ask(egress, peer.url, body=pieces(b"abc", then=ValueError("broke")))
        await peer.left.wait()


async def test_an_answer_before_all_pieces_were_taken_stands() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    async with listening(always(OK, close=True)) as peer, way_out() as egress:
        assert await ask(egress, peer.url, body=endless()) == b"ok"


@pytest.mark.attack("2.1/2", "2.2/30")
async def test_a_redirect_is_an_answer_like_any_other() -> None:
    async with listening(always(OK)) as other:
        raw = b"HTTP/1.1 302 Found\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % other.url.encode()
        async with listening(always(raw)) as peer, way_out() as egress:
            async with egress.send(Permit(), Outgoing(url=peer.url, body=b"")) as incoming:
                assert incoming.status == 302
            assert other.accepted == 0


# -- what comes back


async def test_answers_without_a_body_end_with_their_head() -> None:
    for raw in (b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 304 Same\r\ncontent-length: 9\r\n\r\n"):
        async with listening(always(raw)) as peer, way_out() as egress:
            assert await ask(egress, peer.url) == await ask(egress, peer.url) == b""
            assert peer.accepted == 1
    async with listening(always(HEAD + b"content-length: 9\r\n\r\n")) as peer, way_out() as egress:
        assert await ask(egress, peer.url, method="HEAD", body=None) == b""


async def test_interim_answers_are_read_over() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    async with (
        listening(always(interim + OK)) as peer,
        way_out() as egress,
        egress.send(Permit(), Outgoing(url=peer.url, body=b"")) as incoming,
    ):
        assert (incoming.status, incoming.header(b"link"), await incoming.read()) == (200, None, b"ok")


async def test_a_body_without_a_length_ends_with_its_connection_which_is_not_used_again() -> None:
    async with listening(always(HEAD + b"\r\nall of it", close=True)) as peer, way_out() as egress:
        assert [await ask(egress, peer.url) for _ in range(2)] == [b"all of it"] * 2
        assert peer.accepted == 2


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"content-length: 9\r\n\r\nhalf",
        HEAD + b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n4\r\nha",
        HEAD + b"content-le",
    ],
)
async def test_an_answer_that_ends_early_is_called_cut_short(raw: bytes) -> None:
    async with listening(always(raw, close=True)) as peer, way_out() as egress:
        with pytest.raises(UpstreamInvalid, match="cut short"):
            await ask(egress, peer.url)


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage\r\n\r\n",
        b"\0" * 100,
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok",
        HEAD + b"content-length: -1\r\n\r\nok",
        HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"a b: c\r\n\r\n",
        HEAD + b"x: 1\r\n y: folded\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_called_so_and_its_connection_is_not_used_again(raw: bytes) -> None:
    async with listening(never(raw)) as peer, way_out() as egress:
        with pytest.raises(UpstreamInvalid, match="not HTTP"):
            await ask(egress, peer.url)
        await peer.left.wait()


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"x: " + b"y" * 2 * MAX_HEAD_BYTES,
        HEAD + b"x: y\r\n" * MAX_HEAD_BYTES,
        HEAD + b"x: " + b"y" * (MAX_HEAD_BYTES + 1) + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 102 Wait\r\n\r\n" * 5000,
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx: " + b"y" * 2 * MAX_HEAD_BYTES,
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;" + b"y" * 2 * MAX_HEAD_BYTES,
    ],
)
@pytest.mark.attack("2.1/30")
async def test_an_endless_head_ends(raw: bytes) -> None:
    async with listening(never(raw)) as peer, way_out() as egress:
        with pytest.raises(UpstreamInvalid, match="not HTTP"):
            await ask(egress, peer.url)
        await peer.left.wait()


@pytest.mark.parametrize(
    "framing", [b"content-length: 5\r\n\r\n12345", b"transfer-encoding: chunked\r\n\r\n5\r\n12345\r\n"]
)
@pytest.mark.attack("2.1/30", defence="registry.egress.http:Incoming.read")
async def test_an_answer_larger_than_the_bound_is_refused_and_left(framing: bytes) -> None:
    async with listening(never(HEAD + framing)) as peer, way_out(max_answer_bytes=4) as egress:
        with pytest.raises(UpstreamInvalid, match="too large"):
            await ask(egress, peer.url)


async def test_an_answer_before_the_whole_request_was_taken_stands_and_ends_the_connection() -> None:
    async def refuse(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await peer.left.wait()

    async with listening(refuse) as peer, way_out() as egress:
        for _ in range(2):
            async with egress.send(Permit(), Outgoing(url=peer.url, body=bytes(32 * 1024 * 1024))) as incoming:
                assert incoming.status == 413
        assert peer.accepted == 2
        peer.left.set()


# -- leaving


async def test_a_caller_who_is_cancelled_before_the_first_byte_ends_the_request() -> None:
    async with listening(never()) as peer, way_out() as egress:
        call = asyncio.create_task(ask(egress, peer.url))
        await peer.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await peer.left.wait()


async def test_leaving_a_stream_ends_it() -> None:
    async with listening(never(HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n")) as peer, way_out() as egress:
        async with egress.send(Permit(), Outgoing(url=peer.url, body=b"")) as incoming:
            assert await anext(incoming.chunks()) == b"ok"
        await peer.left.wait()


async def test_leaving_an_unread_answer_that_is_not_complete_ends_it() -> None:
    async with listening(never(HEAD + b"content-length: 9\r\n\r\nhalf")) as peer, way_out() as egress:
        call = asyncio.create_task(ask(egress, peer.url))
        await peer.asked.wait()
        call.cancel()
        await peer.left.wait()


async def test_a_complete_answer_that_nobody_read_leaves_its_connection_usable() -> None:
    async with listening(always(OK)) as peer, way_out() as egress:
        for _ in range(3):
            async with egress.send(Permit(), Outgoing(url=peer.url, body=b"")) as incoming:
                assert incoming.status == 200
        assert await ask(egress, peer.url) == b"ok"
        assert peer.accepted == 1


# -- deadlines


async def test_no_first_byte_in_time_is_a_timeout_and_ends_the_request() -> None:
    async with listening(never()) as peer, way_out(Deadlines(first_byte_s=60)) as egress:
        with pytest.raises(UpstreamTimeout, match="in time"):
            await ask(egress, peer.url, first_byte_s=0.05)
        await peer.left.wait()


async def test_interim_answers_do_not_move_the_first_byte_deadline() -> None:
    async with (
        listening(never(b"HTTP/1.1 102 Processing\r\n\r\n")) as peer,
        way_out(Deadlines(first_byte_s=0.1)) as egress,
    ):
        with pytest.raises(UpstreamTimeout, match="in time"):
            await ask(egress, peer.url)


async def test_the_deadline_of_a_later_request_on_a_connection_may_be_shorter() -> None:
    async def once(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await never()(peer, reader, writer)

    async with listening(once) as peer, way_out(Deadlines(first_byte_s=600)) as egress:
        assert await ask(egress, peer.url) == b"ok"
        with pytest.raises(UpstreamTimeout):
            await ask(egress, peer.url, first_byte_s=0.05)
        assert peer.accepted == 1


@pytest.mark.parametrize("read_ahead", [False, True])
@pytest.mark.parametrize(
    "framing", [b"content-length: 9\r\n\r\nhalf", b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
)
@pytest.mark.attack("2.1/30")
async def test_a_body_that_stops_is_a_timeout_and_what_came_is_given_first(framing: bytes, read_ahead: bool) -> None:
    async with listening(never(HEAD + framing)) as peer, way_out(Deadlines(stream_idle_s=0.05)) as egress:
        outgoing = Outgoing(url=peer.url, body=b"", may_stream=not read_ahead)
        async with egress.send(Permit(), outgoing) as incoming:
            chunks = incoming.chunks()
            assert await anext(chunks) == b"half"
            with pytest.raises(UpstreamTimeout, match="stopped"):
                await anext(chunks)
        await peer.left.wait()


async def test_sending_to_an_upstream_that_does_not_read_ends() -> None:
    async def deaf(peer: Peer, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await peer.left.wait()

    async with listening(deaf) as peer, way_out(Deadlines(stream_idle_s=0.1)) as egress:
        with pytest.raises(UpstreamTimeout):
            await ask(egress, peer.url, body=bytes(64 * 1024 * 1024))
        peer.left.set()


async def test_a_handshake_that_does_not_end_is_a_timeout() -> None:
    async with listening(never()) as peer, way_out(Deadlines(connect_s=0.1)) as egress:
        with pytest.raises(UpstreamTimeout, match="reached in time"):
            await ask(egress, f"https://127.0.0.1:{peer.port}/")
        while not peer.accepted:  # it may not have come to it yet
            await asyncio.sleep(0)


async def test_nobody_there_is_unavailable() -> None:
    async with listening(never()) as peer:
        url = peer.url
    async with way_out() as egress:
        with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
            await ask(egress, url)


# -- back-pressure


async def test_a_slow_reader_slows_the_upstream_and_outlives_the_idle_deadline() -> None:
    piece, pieces = bytes(256 * 1024), 256
    sent = 0
    blocked = asyncio.Event()

    async def pour(_peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % (len(piece) * pieces))
        for _ in range(pieces):
            writer.write(piece)
            drain = asyncio.ensure_future(writer.drain())
            if not (await asyncio.wait([drain], timeout=0.7))[0]:
                blocked.set()
            await drain
            sent += len(piece)

    async with (
        listening(pour) as peer,
        way_out(Deadlines(stream_idle_s=0.3)) as egress,
        egress.send(Permit(), Outgoing(url=peer.url, body=b"")) as incoming,
    ):
        await blocked.wait()  # longer than the idle deadline: it was we who did not read
        assert sent < len(piece) * pieces
        assert sum([len(chunk) async for chunk in incoming.chunks()]) == len(piece) * pieces


# -- reuse


async def test_connections_are_used_again_the_youngest_first() -> None:
    async with listening(always(OK)) as peer, way_out() as egress:
        for _ in range(5):
            assert await ask(egress, peer.url) == b"ok"
        assert peer.accepted == 1
        await asyncio.gather(*(ask(egress, peer.url) for _ in range(8)))
        many = peer.accepted
        assert many <= 8
        await asyncio.gather(*(ask(egress, peer.url) for _ in range(many)))
        assert peer.accepted == many


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        OK + b"HTTP",
    ],
)
async def test_a_connection_with_more_to_say_or_nothing_more_is_not_used_again(raw: bytes) -> None:
    async with listening(always(raw)) as peer, way_out() as egress:
        assert [await ask(egress, peer.url) for _ in range(3)] == [b"ok"] * 3
        assert peer.accepted == 3


async def test_an_idle_connection_on_which_something_comes_is_closed() -> None:
    say = asyncio.Event()

    async def late(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await say.wait()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 4\r\n\r\nevil")
        await reader.read()
        peer.left.set()

    async with listening(late) as peer, way_out() as egress:
        assert await ask(egress, peer.url) == b"ok"
        say.set()
        await peer.left.wait()
        assert await ask(egress, peer.url) == b"ok"
        assert peer.accepted == 2


async def test_a_connection_that_the_server_closed_is_not_used() -> None:
    async with listening(always(OK, close=True)) as peer, way_out() as egress:
        assert await ask(egress, peer.url) == b"ok"
        idle = next(iter(egress.idle._idle.values()), [])
        while idle and not idle[0][1].is_closing:
            await asyncio.sleep(0)
        assert await ask(egress, peer.url) == b"ok"
        assert peer.accepted == 2


def once_then_close() -> Callable[..., object]:
    """Answer the first request of a connection; read the second and close."""

    async def answer(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.requests.append(await read_request(reader))
        writer.write(OK)
        peer.requests.append(await read_request(reader))

    return answer


async def test_a_post_that_met_a_connection_being_closed_is_not_sent_twice() -> None:
    async with listening(once_then_close()) as peer, way_out() as egress:
        assert await ask(egress, peer.url) == b"ok"
        with pytest.raises(UpstreamUnavailable, match="failed before it answered"):
            await ask(egress, peer.url)
        assert (peer.accepted, len(peer.requests)) == (1, 2)


async def test_a_get_that_met_a_connection_being_closed_is_sent_again_once() -> None:
    async with listening(once_then_close()) as peer, way_out() as egress:
        assert await ask(egress, peer.url) == b"ok"
        assert await ask(egress, peer.url, method="GET", body=None) == b"ok"
        assert (peer.accepted, len(peer.requests)) == (2, 3)
    async with listening(always(b"", close=True)) as peer, way_out() as egress:
        with pytest.raises(UpstreamUnavailable):
            await ask(egress, peer.url, method="GET", body=None)
        assert peer.accepted == 1


async def test_idle_connections_are_closed_in_time_also_when_nothing_is_asked() -> None:
    async with listening(never(OK)) as peer, way_out() as egress:
        egress.idle = IdleConnections(idle_s=0.05)
        assert await ask(egress, peer.url) == b"ok"
        await peer.left.wait()


async def test_idle_connections_are_bounded() -> None:
    async with listening(never(OK)) as peer, way_out() as egress:
        egress.idle = IdleConnections(most=1)
        calls = [egress.send(Permit(), Outgoing(url=peer.url, body=b"")) for _ in range(2)]
        for call in calls:
            await call.__aenter__()
        for call in calls:
            await call.__aexit__(None, None, None)
        await peer.left.wait()
        assert [len(idle) for idle in egress.idle._idle.values()] == [1]


async def test_a_server_that_says_how_long_it_waits_is_left_before() -> None:
    raw = HEAD + b"keep-alive: timeout=5, max=100\r\ncontent-length: 0\r\n\r\n"
    async with listening(always(raw)) as peer, way_out() as egress:
        await ask(egress, peer.url)
        ((_, connection),) = next(iter(egress.idle._idle.values()))
        assert connection.keep_s == 4


async def test_a_server_that_does_not_say_how_long_it_waits_is_left_before_uvicorn_closes() -> None:
    """Agents are polled every 5 s at last: just when it does."""
    async with listening(always(OK)) as peer, way_out() as egress:
        assert await ask(egress, peer.url) == b"ok"
        ((_, connection),) = next(iter(egress.idle._idle.values()))
        assert connection.keep_s < uvicorn.Config(None).timeout_keep_alive


async def test_closing_the_way_out_closes_what_is_idle() -> None:
    async with listening(never(OK)) as peer:
        async with way_out() as egress:
            assert await ask(egress, peer.url) == b"ok"
        await peer.left.wait()


# -- TLS and the proxy


async def test_https_is_spoken_with_a_trusted_certificate_and_its_connection_used_again(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = authority.server(LOCALHOST)
    async with listening(always(OK), tls=tls) as peer, way_out(tls=authority.client()) as egress:
        for _ in range(3):
            assert await ask(egress, f"https://localhost:{peer.port}/", body=bytes(1024 * 1024)) == b"ok"
        assert peer.accepted == 1


async def test_a_certificate_of_an_unknown_authority_or_another_name_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with listening(always(OK), tls=authority.server(LOCALHOST)) as peer:
        async with way_out() as egress:
            with pytest.raises(UpstreamUnavailable, match="certificate is not trusted"):
                await ask(egress, f"https://localhost:{peer.port}/")
        async with way_out(tls=authority.client()) as egress:
            with pytest.raises(UpstreamUnavailable, match="certificate is not trusted"):
                await ask(egress, f"https://127.0.0.1:{peer.port}/")
        assert peer.requests == []


async def test_leaving_ends_an_https_request_before_its_first_byte(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = authority.server(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    async with listening(never(), tls=tls) as peer, way_out(tls=authority.client()) as egress:
        call = asyncio.create_task(ask(egress, f"https://127.0.0.1:{peer.port}/"))
        await peer.asked.wait()
        call.cancel()
        await peer.left.wait()


async def test_https_goes_through_a_tunnel_of_the_proxy(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        listening(always(OK), tls=authority.server(LOCALHOST)) as peer,
        listening(forward) as proxy,
        way_out(proxy=f"http://me:p%40ss@127.0.0.1:{proxy.port}", tls=authority.client()) as egress,
    ):
        for _ in range(2):
            assert await ask(egress, f"https://localhost:{peer.port}/x") == b"ok"
        assert [request.start for request in proxy.requests] == [f"CONNECT localhost:{peer.port} HTTP/1.1"]
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
        assert "proxy-authorization" not in peer.requests[0].headers
        assert peer.requests[0].start == "POST /x HTTP/1.1"


async def test_plain_http_goes_to_the_proxy_in_absolute_form() -> None:
    async with listening(forward) as proxy, way_out(proxy=proxy.url) as egress:
        for _ in range(2):
            assert await ask(egress, "http://no-such-name.example/x?y") == b"ok"
        assert proxy.requests[0].start == "POST http://no-such-name.example/x?y HTTP/1.1"
        assert proxy.requests[0].headers["host"] == "no-such-name.example"
        assert proxy.accepted == 1


async def test_what_is_direct_goes_beside_the_proxy() -> None:
    async with listening(forward) as proxy, listening(forward) as peer, way_out(proxy=proxy.url) as egress:
        assert await ask(egress, f"{peer.url}x", is_direct=True) == b"ok"
        assert (proxy.requests, peer.requests[0].start) == ([], "POST /x HTTP/1.1")


@pytest.mark.parametrize("raw", [b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n", b"garbage\r\n\r\n"])
async def test_a_proxy_that_refuses_makes_the_upstream_unavailable(raw: bytes) -> None:
    async with listening(always(raw)) as proxy, way_out(proxy=proxy.url) as egress:
        with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
            await ask(egress, "https://no-such-name.example/")


def test_only_an_http_proxy_is_taken() -> None:
    with pytest.raises(ValueError, match="proxy"):
        Egress(proxy="socks5://127.0.0.1:1")
