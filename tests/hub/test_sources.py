"""Where a request comes from, with and without proxies in front."""

from ipaddress import ip_address

import pytest

from hub.sources import DIRECT, Sources

PROXIES = Sources(["10.0.0.0/8", "fd00::/8"])


def said(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", value.encode()) for value in values]


@pytest.mark.parametrize(
    ("peer", "headers", "found"),
    [
        ("192.0.2.1", said(), "192.0.2.1"),
        ("192.0.2.1", said("198.51.100.7"), "192.0.2.1"),  # not a proxy of ours: whatever it says is its own
        ("10.0.0.1", said(), "10.0.0.1"),
        ("10.0.0.1", said("198.51.100.7"), "198.51.100.7"),
        ("10.0.0.1", said("203.0.113.9, 198.51.100.7"), "198.51.100.7"),  # the left one was written by the client
        ("10.0.0.1", said("203.0.113.9, 198.51.100.7, 10.2.2.2"), "198.51.100.7"),
        ("10.0.0.1", said("203.0.113.9", "198.51.100.7"), "198.51.100.7"),  # in two lines, as one
        ("10.0.0.1", said("10.9.9.9, 10.2.2.2"), "10.9.9.9"),
        ("10.0.0.1", said("198.51.100.7:4711"), "198.51.100.7"),
        ("fd00::1", said("[2001:db8::7]:4711"), "2001:db8::7"),
        ("10.0.0.1", said("2001:db8::7"), "2001:db8::7"),
        ("::ffff:10.0.0.1", said("::ffff:198.51.100.7"), "198.51.100.7"),
        ("10.0.0.1", said("198.51.100.7, unknown"), None),
        ("10.0.0.1", said("198.51.100.7,"), None),
        ("10.0.0.1", said("198.51.100.7, 010.0.0.1"), None),
        (None, said("198.51.100.7"), None),
        ("", said("198.51.100.7"), None),
    ],
)
def test_the_source_is_the_right_most_address_that_is_not_trusted(
    peer: str | None, headers: list[tuple[bytes, bytes]], found: str | None
) -> None:
    assert PROXIES.find(peer, headers) == (None if found is None else ip_address(found))


@pytest.mark.attack("2.2/26", defence="hub.sources:Sources._is_trusted")
def test_without_trusted_proxies_the_header_says_nothing() -> None:
    assert DIRECT.find("10.0.0.1", said("198.51.100.7")) == ip_address("10.0.0.1")


def test_a_flood_of_addresses_is_looked_at_for_so_long_only() -> None:
    assert PROXIES.find("10.0.0.1", said(", ".join(["198.51.100.7", *["10.0.0.2"] * 200]))) is None
