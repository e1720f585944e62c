"""Takes the hub's credentials and an entry's address out of what its upstream says of a failure. Pure.

Upstreams, and proxies in front of them, quote what they were sent; their error goes on to a caller who must not see it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from registry.entries import Agent, Server

MIN_SECRET = 6
"""Shorter header values are switches and version numbers."""


def _urls(entry: Agent | Server) -> tuple[str, ...]:
    return (entry.url or "", *(entry.urls if isinstance(entry, Agent) else ()))


def discreet(entry: Agent | Server, said: bytes, *shown: str) -> bytes:
    """Return JSON that an upstream said, without the entry's credentials and address, and what else it was shown."""
    own = (*entry.headers, *(entry.env if isinstance(entry, Server) else ()))
    for value in (*(value for _, value in own), *shown, *(urlsplit(url).netloc for url in _urls(entry))):
        secret = value.rpartition(" ")[2].encode()  # without its scheme, such as Bearer
        if len(secret) >= MIN_SECRET and b'"' not in secret:
            said = said.replace(secret, b"***")
    return said
