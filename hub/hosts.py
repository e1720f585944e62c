"""Which Host and Origin headers are ours (surface.md 5): the defence against DNS rebinding and foreign pages. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from hub.exchange import Header

_AUTHORITY = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_LOOPBACK = (b"localhost", b"127.0.0.1", b"[::1]")

MAX_SEEN = 64
"""Spellings of own hosts that are remembered: with and without port, in any case."""


class Hosts:
    """Knows the hub's own host names and the origins that may call it from a browser."""

    def __init__(self, public_url: str, *, bound_to: str, allowed_origins: Iterable[str] = ()) -> None:
        parts = urlsplit(public_url)
        own = (parts.hostname or "").encode()
        self._hosts = frozenset({own, b"[%s]" % own, *_LOOPBACK, *([b"0.0.0.0"] if bound_to == "0.0.0.0" else [])})  # noqa: S104
        self._seen: set[bytes] = set()
        self._origins = frozenset(
            {f"{parts.scheme}://{parts.netloc}".encode(), *(origin.encode() for origin in allowed_origins)}
        )

    def serve(self, headers: Mapping[bytes, bytes], raw_headers: Sequence[Header]) -> bool:
        """Whether the request's one Host header names this hub. `headers` are the raw ones by their names."""
        host = headers.get(b"host")
        if host is None or (len(headers) < len(raw_headers) and [name for name, _ in raw_headers].count(b"host") > 1):
            return False
        return host in self._seen or self._is_own(host)

    def _is_own(self, host: bytes) -> bool:
        authority = _AUTHORITY.fullmatch(host)
        if authority is None or authority[1].lower() not in self._hosts:
            return False
        if len(self._seen) < MAX_SEEN:
            self._seen.add(host)
        return True

    def allow(self, origin: bytes) -> bool:
        """Whether a page of `origin` may call the hub."""
        return origin in self._origins
