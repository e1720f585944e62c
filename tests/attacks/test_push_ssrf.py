"""Push notifications as a way to make the hub call what it should not, say what it should not, or wait for ever.

The list: a2a-python#786/#1164/#1169, a2a-go#373, a2a-js#584/#645, GHSA-q78c-5jjq-57g8.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from agents import push_delivery
from registry.egress.guard import Guard
from registry.errors import InvalidParams, NotFound
from registry.ledger.push import MAX_A_TASK
from tests.peers.authority import Authority
from tests.peers.http_peer import OK, Peer, always, listening, read_request
from tests.peers.webhook import AGENT, Pushing, pushing, webhook


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Pushing]:
    """A hub whose operator opened no network."""
    async with pushing(tmp_path, guard=Guard()) as opened:
        yield opened


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Pushing]:
    """A hub whose operator opened loopback."""
    async with pushing(tmp_path) as opened:
        yield opened


async def owner_of_a_task(hub: Pushing) -> str:
    owner = await hub.principal("rita")
    await hub.task(owner)
    return owner


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Let every name have these addresses, one after the other, then the last: a rebinding name."""
    left = list(answers)

    async def getaddrinfo(_host: str, port: int, **_options: object) -> list[tuple[object, ...]]:
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fd00:ec2::254]",
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",  # decimal
        "2852039166",  # the metadata address, decimal
        "0x7f000001",
        "0177.0.0.1",  # octal
        "0",
        "10.0.0.1",
        "100.64.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "\uff11\uff12\uff17.0.0.1",
    ],
)
@pytest.mark.attack("2.1/1", "2.1/4", "2.1/39", "2.2/32", defence="registry.egress.guard:is_public")
async def test_no_address_of_an_inner_network_becomes_a_receiver(closed: Pushing, scheme: str, host: str) -> None:
    rita = await owner_of_a_task(closed)
    with pytest.raises(InvalidParams) as refused:
        await closed.create(rita, f"{scheme}://{host}:8080/latest/meta-data")
    assert refused.value.text == "url must lead to a public address, with https"
    assert await closed.count("push_configs") == 0


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        7,
        ["https://x.example/"],
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "//127.0.0.1/",
        "http://user@127.0.0.1/",
        "http://user:password@127.0.0.1/",
        "http://1.1.1.1@127.0.0.1/",
        "http://127.0.0.1\\@1.1.1.1/",
        "http://127.0.0.1/\r\nx: y",
        "http://127.0.0.1/ HTTP/1.1",
        "http://127.0.0.1:0/",
        "http://[fe80::1%25lo]/",
        "http://127.0.0.1/" + "a" * 2048,
    ],
)
async def test_no_url_that_readers_differ_about_becomes_a_receiver(hub: Pushing, url: Any) -> None:
    rita = await owner_of_a_task(hub)
    with pytest.raises(InvalidParams) as refused:
        await hub.create(rita, url)
    assert refused.value.member == "url"


async def test_a_public_receiver_without_tls_is_refused(closed: Pushing, monkeypatch: pytest.MonkeyPatch) -> None:
    rita = await owner_of_a_task(closed)
    resolving(monkeypatch, "1.1.1.1")
    with pytest.raises(InvalidParams):
        await closed.create(rita, "http://hooks.example/")
    assert (await closed.create(rita, "https://hooks.example/"))["url"] == "https://hooks.example/"


@pytest.mark.parametrize("inner", ["127.0.0.1", "169.254.169.254", "10.0.0.1"])
@pytest.mark.attack("2.1/3", "2.2/29", defence="registry.egress.guard:Guard.resolve")
async def test_a_name_that_leads_inside_after_it_was_checked_is_not_dialled(
    closed: Pushing, monkeypatch: pytest.MonkeyPatch, inner: str
) -> None:
    rita = await owner_of_a_task(closed)
    resolving(monkeypatch, "1.1.1.1", inner)
    async with listening(always(OK)) as peer, closed.running():
        await closed.create(rita, f"https://rebinding.example:{peer.port}/")
        await closed.notify("WORKING")
        await closed.settled()
        assert peer.accepted == 0
        closed.clock.now += 86_400
        await closed.later(0)
        while not (dead := await closed.dead()):
            await closed.settled()
        assert "not public" in dead[0].reason


async def test_an_opened_name_that_leads_outside_later_is_not_sent_to_without_tls(
    hub: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    rita = await owner_of_a_task(hub)
    resolving(monkeypatch, "127.0.0.1", "1.1.1.1")
    await hub.create(rita, "http://rebinding.example:9/")
    await hub.notify("WORKING")
    [head] = await hub.outbox.heads(hub.clock.now)
    due = await hub.outbox.take(head.config, hub.clock.now)
    assert due is not None
    answer = await hub.courier._attempt(due)
    assert (answer.status, "not public" in answer.reason) == (None, True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.attack("2.1/2", "2.2/30", "2.2/35", defence="registry.egress.http:Call.__aenter__")
async def test_a_redirect_is_a_failure_and_is_not_followed(hub: Pushing, status: int) -> None:
    rita = await owner_of_a_task(hub)
    async with webhook() as inner, webhook((status, {"location": inner.url})) as hook, hub.running():
        await hub.create(rita, hook.url)
        await hub.notify("WORKING")
        await hook.wait(1)
        await hub.settled()
        assert inner.came == []
        await hub.later(1.3)
        assert len(await hook.wait(2)) == 2
        assert inner.came == []


async def test_a_receiver_is_sent_to_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        pushing(tmp_path, tls=authority.client()) as hub,
        listening(always(OK), tls=authority.server()) as peer,
        hub.running(),
    ):
        rita = await owner_of_a_task(hub)
        await hub.create(rita, f"https://localhost:{peer.port}/hook")
        await hub.notify("WORKING", "COMPLETED")
        while await hub.count("push_outbox"):
            await peer.asked.wait()
            await hub.settled()
        assert [request.start for request in peer.requests] == ["POST /hook HTTP/1.1"] * 2
        states = [json.loads(request.body)["statusUpdate"]["status"]["state"] for request in peer.requests]
        assert states == ["TASK_STATE_WORKING", "TASK_STATE_COMPLETED"]
        assert peer.accepted == 1


@pytest.mark.parametrize("wrong", ["another name", "expired", "unknown authority"])
async def test_a_receiver_with_a_wrong_certificate_is_told_nothing(tmp_path: Path, wrong: str) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path)
    tls = {
        "another name": lambda: authority.server(x509.DNSName("hooks.example")),
        "expired": lambda: authority.server(days=-1),
        "unknown authority": lambda: stranger.server(),
    }[wrong]()
    async with (
        pushing(tmp_path, tls=authority.client()) as hub,
        listening(always(OK), tls=tls) as peer,
        hub.running(),
    ):
        rita = await owner_of_a_task(hub)
        await hub.create(rita, f"https://localhost:{peer.port}/hook", token="secret")
        await hub.notify("WORKING")
        await hub.settled()
        assert await hub.count("push_outbox WHERE attempts = 1 AND reason IS NULL") == 1
        hub.clock.now += 86_400
        await hub.later(0)
        while not (dead := await hub.dead()):
            await hub.settled()
        assert dead[0].reason == "not delivered within a day: its certificate is not trusted"
        assert peer.requests == []


def endless(head: bytes, chunk: bytes) -> Callable[[Peer, Any, Any], Awaitable[None]]:
    async def answer(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.requests.append(await read_request(reader))
        peer.asked.set()
        writer.write(head)
        try:
            while True:
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            peer.left.set()

    return answer


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
@pytest.mark.attack("2.1/30")
async def test_an_endless_answer_is_read_to_its_bound_and_left(hub: Pushing, head: bytes) -> None:
    rita = await owner_of_a_task(hub)
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    async with listening(endless(head, chunk)) as peer, hub.running(), asyncio.timeout(20):
        await hub.create(rita, peer.url)
        await hub.notify("WORKING")
        await peer.left.wait()
        await hub.settled()
        assert await hub.count("push_outbox") == 0  # it had said 200
        assert len(peer.requests) == 1


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"])
async def test_a_receiver_that_does_not_end_its_answer_holds_an_attempt_for_its_deadline_only(
    hub: Pushing, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(push_delivery, "DEADLINE_S", 0.2)
    rita = await owner_of_a_task(hub)

    async def answer(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.requests.append(await read_request(reader))
        writer.write(said)
        await reader.read()
        peer.left.set()

    async with listening(answer) as peer, hub.running(), asyncio.timeout(20):
        await hub.create(rita, peer.url)
        await hub.notify("WORKING")
        await peer.left.wait()
        await hub.settled()
        assert await hub.count("push_outbox WHERE attempts = 1") == 1


@pytest.mark.parametrize(
    "members",
    [
        {"token": "a\r\nx: y"},
        {"token": "a\nb"},
        {"token": "a\0b"},
        {"token": " a"},
        {"token": "\u20ac"},
        {"token": 7},
        {"token": "a" * 5000},
        {"authentication": {"scheme": "Bearer\r\nx: y", "credentials": "a"}},
        {"authentication": {"scheme": "Bearer x", "credentials": "a"}},
        {"authentication": {"scheme": ["Bearer"], "credentials": "a"}},
        {"authentication": {"scheme": "Bearer", "credentials": "a\r\nx: y"}},
        {"authentication": {"scheme": "Bearer", "credentials": {"a": 1}}},
        {"authentication": {"credentials": "a"}},
        {"authentication": "Bearer a"},
        {"id": 7},
        {"id": "a" * 5000},
    ],
)
@pytest.mark.attack("2.1/22")
async def test_nothing_that_would_leave_its_header_is_stored(hub: Pushing, members: dict[str, Any]) -> None:
    rita = await owner_of_a_task(hub)
    with pytest.raises(InvalidParams) as refused:
        await hub.create(rita, "http://127.0.0.1:9/", **members)
    assert "x: y" not in refused.value.text
    assert await hub.count("push_configs") == 0


@pytest.mark.attack("2.1/39")
async def test_a_hundred_receivers_of_one_task_are_too_many(hub: Pushing) -> None:
    rita = await owner_of_a_task(hub)
    refused = 0
    for number in range(100):
        try:
            await hub.create(rita, "http://127.0.0.1:9/", id=str(number))
        except InvalidParams:
            refused += 1
    assert refused == 100 - MAX_A_TASK
    await hub.create(rita, "http://127.0.0.1:9/other", id="0")  # one of them may still be changed
    await hub.notify("WORKING")
    assert await hub.count("push_outbox") == MAX_A_TASK


@pytest.mark.attack("2.2/35")
async def test_what_is_somebody_elses_is_answered_like_what_is_not_there(hub: Pushing) -> None:
    rita = await owner_of_a_task(hub)
    await hub.create(rita, "http://127.0.0.1:9/", id="c")
    otto = await hub.principal("otto")
    operations: dict[str, Callable[[str], Awaitable[Any]]] = {
        "create": lambda task: hub.create(otto, "http://127.0.0.1:9/", task),
        "get": lambda task: hub.push.get(otto, AGENT, task, "c"),
        "list": lambda task: hub.push.list(otto, AGENT, task),
        "delete": lambda task: hub.push.delete(otto, AGENT, task, "c"),
    }
    for name, operation in operations.items():
        texts = []
        for task in ("t1", "absent"):
            with pytest.raises(NotFound) as refused:
                await operation(task)
            texts.append((refused.value.kind, refused.value.text.replace(task, "…")))
        assert texts[0] == texts[1], name
    assert len(hub.configs.of_task(AGENT.name, "t1")) == 1


async def test_a_task_of_another_agent_is_not_there(hub: Pushing) -> None:
    rita = await owner_of_a_task(hub)
    other = type(AGENT)(name="other", url=AGENT.url)
    with pytest.raises(NotFound):
        await hub.push.create(rita, other, "t1", {"url": "http://127.0.0.1:9/"}, version="1.0")
