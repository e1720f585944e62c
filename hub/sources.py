"""Where a request comes from: the address of the peer, or what a trusted proxy says of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from hub.exchange import Header

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
"""As some proxies write addresses."""

MAX_HOPS = 100
"""Addresses of one request that are looked at, each proxy adds one; what is left of them cannot be told."""


class Sources:
    """Knows which peers are proxies whose `X-Forwarded-For` counts."""

    def __init__(self, trusted_proxies: Iterable[str] = ()) -> None:
        self._trusted = tuple(map(ip_network, trusted_proxies))

    def find(self, peer: str | None, headers: Sequence[Header]) -> Address | None:
        """The right-most address that is no trusted proxy's, beginning with the peer; None: it cannot be told.

        What stands left of it was written by somebody who is not trusted.
        """
        address = _address(peer)
        if address is None or not self._is_trusted(address):
            return address
        forwarded = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
        for text in reversed(forwarded.rsplit(",", MAX_HOPS) if forwarded else ()):
            address = _address(text.strip())
            if address is None or not self._is_trusted(address):
                return address
        return address

    def is_within(self, networks: Iterable[Network], peer: str | None, headers: Sequence[Header]) -> bool:
        """Whether a request comes from one of some networks."""
        address = self.find(peer, headers)
        return address is not None and any(address in network for network in networks)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


DIRECT = Sources()
"""Without proxies."""


def _address(text: str | None) -> Address | None:
    if text is None:
        return None
    found = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((found[1] or found[2]) if found else text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
