"""The address guard: where a URL that the operator did not write may lead. Decides on the address actually dialled."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REFUSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; some clouds keep their metadata service here
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform address: public by number, private by meaning
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_PUBLIC_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16"))
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_SIX_TO_FOUR = IPv6Network("2002::/16")


class HostRefused(Exception):
    """The host has no address, or one that may not be reached."""


def is_public(address: Address) -> bool:
    """Whether `address` is on the public internet in every reading of it.

    `ipaddress.is_global` is not enough: it calls NAT64, 6to4 and IPv4-compatible forms of private addresses global.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    inner = embedded(address)
    if inner is not None:
        return is_public(inner)
    return address in _PUBLIC_V6 and not any(address in network for network in _REFUSED_V6)


def embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64 or 6to4; None: it is its own."""
    number = int(address)
    if any(address in network for network in _NAT64):
        return IPv4Address(number & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address((number >> 80) & 0xFFFFFFFF)
    if number >> 32 in (0, 0xFFFF):
        return IPv4Address(number & 0xFFFFFFFF)
    return None


@dataclass(frozen=True, slots=True)
class Guard:
    """Which addresses guarded requests may dial. `allowed` are private networks that the operator opened."""

    allowed: tuple[Network, ...] = ()

    def permits(self, address: Address) -> bool:
        """Whether a guarded request may dial `address`."""
        return self.opens(address) or is_public(address)

    def opens(self, address: Address) -> bool:
        """Whether `address` is in a network that the operator opened."""
        return any(address.version == network.version and address in network for network in self.allowed)

    async def resolve(self, host: str, port: int, *, opened_only: bool = False) -> Address:
        """Resolve `host`, as the client's own URL parser spelt it, and return one address to pin the connection to.

        `opened_only` permits no public address either.

        Raises:
            HostRefused: no address, or any of them is refused: a name with one bad address is a rebinding name.
        """
        permits = self.opens if opened_only else self.permits
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except OSError:
            raise HostRefused from None
        addresses = [ip_address(str(info[4][0]).partition("%")[0]) for info in found]
        if not addresses or not all(permits(address) for address in addresses):
            raise HostRefused
        return addresses[0]
