"""Host and Origin: which are ours."""

from __future__ import annotations

import pytest

from hub.exchange import Header
from hub.hosts import Hosts

HOSTS = Hosts("https://hub.example.com", bound_to="127.0.0.1", allowed_origins=["https://app.example"])


def serves(hosts: Hosts, *headers: Header) -> bool:
    """Whether a request with these headers is served."""
    return hosts.serve(dict(headers), headers)


@pytest.mark.parametrize(
    "host", [b"hub.example.com", b"HUB.example.com:443", b"localhost:4000", b"127.0.0.1", b"[::1]:4000"]
)
def test_own_and_loopback_hosts_are_served(host: bytes) -> None:
    assert serves(HOSTS, (b"host", host))


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"evil.example",
        b"localhost:4000/#@evil",
        b"hub.example.com.evil.example",
        b"0.0.0.0:4000",
        b"a@localhost",
        b"localhost:",
        b"localhost\n",
    ],
)
@pytest.mark.attack("2.1/5", "2.2/14", defence="hub.hosts:Hosts.serve")
def test_other_hosts_are_refused(host: bytes) -> None:
    assert not serves(HOSTS, (b"host", host))


@pytest.mark.attack("2.1/5", "2.2/4", defence="hub.hosts:Hosts.serve")
def test_two_or_no_host_headers_are_refused() -> None:
    assert not serves(HOSTS)
    assert not serves(HOSTS, (b"host", b"localhost"), (b"accept", b"*/*"), (b"host", b"localhost"))


def test_the_any_address_is_a_host_only_when_bound_to_it() -> None:
    assert serves(Hosts("http://127.0.0.1:4000", bound_to="0.0.0.0"), (b"host", b"0.0.0.0:4000"))


@pytest.mark.attack("2.1/5", "2.1/36", "2.2/14", defence="hub.hosts:Hosts.allow")
def test_own_and_allowed_origins_may_call_and_no_others() -> None:
    assert HOSTS.allow(b"https://hub.example.com")
    assert HOSTS.allow(b"https://app.example")
    assert not HOSTS.allow(b"https://app.example.evil")
    assert not HOSTS.allow(b"null")
