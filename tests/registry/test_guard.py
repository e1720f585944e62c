"""The address guard: which addresses are public, and that a refused one is never dialled however it is written."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network

import pytest

from registry.egress.guard import Guard, is_public
from registry.egress.http import Deadlines, Egress, Outgoing
from registry.egress.request import parse
from registry.errors import AddressRefused, UpstreamUnavailable
from tests.peers.http_peer import OK, Peer, always, listening
from tests.recording import Unlimited

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",  # Alibaba's metadata
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",  # Azure's
    "169.254.169.254",  # everybody else's
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",  # Oracle's
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",  # compatible
    "::ffff:127.0.0.1",  # mapped
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",  # NAT64
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",  # 6to4
    "2002:a9fe:a9fe::1",
    "2001::1",  # Teredo
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",  # Amazon's metadata
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["1.1.1.1", "172.32.0.1", "100.63.255.255", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]

LOOPBACK = [
    "127.0.0.1",
    "localhost",
    "LOCALHOST",
    "127.1",
    "2130706433",  # decimal
    "0x7f000001",  # hexadecimal
    "0x7f.1",
    "0177.0.0.1",  # octal
    "017700000001",
    "0",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "\uff11\uff12\uff17.0.0.1",  # IDNA maps full-width digits and dots
    "127\u30020\u30020\u30021",
]
"""Ways to write a loopback address."""


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with listening(always(OK)) as peer:
        yield peer


class Permit(Unlimited):
    entry_name = "x"

    def use(self) -> None:
        pass


async def ask(egress: Egress, url: str) -> bytes:
    try:
        async with egress.send(Permit(), Outgoing(url=url, body=b"{}", trusted=False)) as incoming:
            return await incoming.read()
    finally:
        await egress.aclose()


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name have these addresses, for whoever asks the loop; dialling does not ask."""

    async def getaddrinfo(_host: str, port: int, **_options: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("address", PRIVATE)
@pytest.mark.attack("2.1/1", "2.1/4", "2.2/9", defence="registry.egress.guard:is_public")
def test_an_address_that_is_not_public_in_any_reading_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not Guard().permits(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_permitted(address: str) -> None:
    assert Guard().permits(ip_address(address))


@pytest.mark.attack("2.1/33", defence="registry.egress.guard:Guard.opens")
def test_a_network_that_the_operator_opened_is_permitted_and_its_neighbour_is_not() -> None:
    guard = Guard((ip_network("10.20.0.0/16"),))
    assert guard.permits(ip_address("10.20.1.1"))
    assert not guard.permits(ip_address("10.21.1.1"))


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.attack("2.1/4", defence="registry.egress.guard:is_public")
async def test_no_way_of_writing_loopback_is_dialled(peer: Peer, host: str) -> None:
    with pytest.raises((AddressRefused, UpstreamUnavailable)):
        await ask(Egress(), f"http://{host}:{peer.port}/")
    assert peer.accepted == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://user@{peer}/",
        "http://1.1.1.1@{peer}/",
        "http://1.1.1.1:80@{peer}/",
        "http://{peer}\\@1.1.1.1/",
        "http://1.1.1.1\\@{peer}/",
        "http://{peer}%2f@1.1.1.1/",
        "http://127.0.0.1%00.example/",
        "http:/{peer}/",
        "http:{peer}",
        "//{peer}/",
        "ftp://{peer}/",
        "file:///etc/passwd",
        "http:///x",
        "http://{peer} /",
        " http://{peer}/",
        "http://{peer}/\r\nx: y",
        "http://{peer}/a\tb",
        "http://[::1",
        "http://[127.0.0.1]/",
        "http://[fe80::1%25lo]/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:8o/",
    ],
)
@pytest.mark.attack("2.1/1")
async def test_a_url_that_readers_differ_about_is_refused_before_anything_is_dialled(peer: Peer, url: str) -> None:
    with pytest.raises(UpstreamUnavailable):
        await ask(Egress(), url.format(peer=f"127.0.0.1:{peer.port}"))
    assert peer.accepted == 0


@pytest.mark.attack("2.1/3")
async def test_a_name_with_one_bad_address_among_good_ones_is_refused(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, "1.1.1.1", "127.0.0.1")
    with pytest.raises(AddressRefused):
        await ask(Egress(), f"http://rebinding.example:{peer.port}/")
    assert peer.accepted == 0


@pytest.mark.attack("2.1/3", "2.2/29")
async def test_the_checked_address_is_the_one_dialled_and_the_name_stays_in_host(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, "127.0.0.1")
    egress = Egress(guard=Guard((ip_network("127.0.0.0/8"),)))
    assert await ask(egress, f"http://no-such-name.example:{peer.port}/") == b"ok"  # only the loop's resolver knows it
    assert peer.requests[0].headers["host"] == f"no-such-name.example:{peer.port}"


@pytest.mark.attack("2.1/3")
async def test_a_connection_to_a_checked_address_serves_only_requests_that_were_checked_to_lead_there(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    egress = Egress(guard=Guard((ip_network("127.0.0.0/8"),)))
    outgoing = Outgoing(url=f"http://name.example:{peer.port}/", body=b"{}", trusted=False)
    resolving(monkeypatch, "127.0.0.1")
    for _ in range(2):
        async with egress.send(Permit(), outgoing) as incoming:
            await incoming.read()
    assert peer.accepted == 1
    resolving(monkeypatch, "10.0.0.1")  # rebound: the idle connection must not be used either
    with pytest.raises(AddressRefused):
        await ask(egress, outgoing.url)
    assert len(peer.requests) == 2


async def test_a_guarded_request_does_not_use_the_proxy(peer: Peer) -> None:
    async with listening(always(OK)) as proxy:
        egress = Egress(Deadlines(), guard=Guard((ip_network("127.0.0.0/8"),)), proxy=proxy.url)
        assert await ask(egress, peer.url) == b"ok"
        assert (proxy.accepted, peer.accepted) == (0, 1)


def test_a_name_is_read_the_same_for_guard_and_dialler() -> None:
    target = parse("HTTPS://BÜCHER.example/Käse?q=ü#part")
    assert (target.host, target.port) == ("xn--bcher-kva.example", 443)
    assert target.path == "/K%C3%A4se?q=%C3%BC"
    assert target.authority == "xn--bcher-kva.example"
    assert parse("http://[::1]:8080?x").host == "::1"
    assert parse("http://[::1]:8080?x").authority == "[::1]:8080"
    assert parse("http://[::1]:8080?x").path == "/?x"
