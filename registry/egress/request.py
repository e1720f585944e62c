"""What goes over the wire in front of a body: URLs and headers, checked and turned to bytes. Pure.

One parser decides for the guard and for the dialler, so that they cannot read an address differently. What repeats
(the URLs and headers of entries) is prepared once.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address
from urllib.parse import quote

import msgspec

from registry.entries import Headers

_URL = re.compile(
    r"""(?P<scheme>https?)://
        (?:\[(?P<v6>[0-9a-f:.]+)\] | (?P<name>[^\[\]:/?\#@%]+))
        (?::(?P<port>[0-9]{1,5}))?
        (?P<target>[/?][^\#]*)?
        (?:\#.*)?""",
    re.IGNORECASE | re.VERBOSE,
)
_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f\\]")
_HOST_NAME = re.compile(r"[a-z0-9._-]{1,253}")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NOT_IN_A_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FRAMING = frozenset(
    {"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers that speak of the message or the connection: they are the way out's own (RFC 9110 §7.6.1)."""

Key = tuple[str, str, int, str]
"""What a connection leads to: scheme, host, port, and the checked address that it is pinned to (else empty)."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a URL leads."""

    scheme: str
    host: str
    """A name in lower case and ASCII, or an address without brackets."""
    port: int
    path: str
    """With its query."""
    authority: str
    """Host and port as they stand in a URL and in the Host header."""
    key: Key
    """Of its connections, unless they are pinned to an address."""
    post: bytes
    """The start line of a POST."""
    host_line: bytes


class Block(msgspec.Struct, frozen=True):
    """Header lines."""

    lines: bytes
    names_host: bool


def parse(url: str) -> Target:
    """Read an absolute http or https URL; a fragment is dropped. Long ones come from arguments and are not remembered.

    Raises:
        ValueError: it is not one, has a user in it, or characters that readers of URLs differ about.
    """
    return _remembered(url) if len(url) <= _SHORT else _parse(url)


def _parse(url: str) -> Target:
    found = _URL.fullmatch(url)
    if found is None or _NOT_IN_A_URL.search(url):
        raise ValueError("not an http URL")
    scheme = found["scheme"].lower()
    host = str(IPv6Address(found["v6"])) if found["v6"] else _ascii(found["name"])
    port = int(found["port"] or _DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise ValueError("not a port")
    target = quote(found["target"] or "/", safe=_PRINTABLE)
    path = target if target.startswith("/") else f"/{target}"
    authority = f"[{host}]" if found["v6"] else host
    if port != _DEFAULT_PORTS[scheme]:
        authority = f"{authority}:{port}"
    return Target(
        scheme=scheme,
        host=host,
        port=port,
        path=path,
        authority=authority,
        key=(scheme, host, port, ""),
        post=f"POST {path} HTTP/1.1\r\n".encode(),
        host_line=f"host: {authority}\r\n".encode(),
    )


_remembered = lru_cache(maxsize=4096)(_parse)
_SHORT = 500


def _ascii(name: str) -> str:
    # what looks like a number (0x7f.1, 2130706433) stays a name: the resolver reads it, and its reading is checked
    try:
        host = name.encode("idna").decode().lower()
    except UnicodeError:
        raise ValueError("not a host name") from None
    if not _HOST_NAME.fullmatch(host):
        raise ValueError("not a host name")
    return host


@lru_cache(maxsize=1024)
def lines(headers: Headers) -> Block:
    """Write header lines.

    Raises:
        ValueError: a name or value would not stay within its line, or the header is the way out's own.
    """
    written = []
    names = set()
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or _NOT_IN_A_VALUE.search(value) or name.lower() in _FRAMING:
            raise ValueError(f"the header {name!r} cannot be sent")
        names.add(name.lower())
        written.append(f"{name}: {value}\r\n")
    if "user-agent" not in names:
        written.append("user-agent: hubbub\r\n")
    return Block("".join(written).encode("latin-1"), "host" in names)


CHUNKED = -1
"""The length of a body that nobody knows before its end."""


def head(target: Target, method: str, *, headers: Headers, length: int | None, start: bytes = b"") -> bytes:
    """Write the head of a request, up to its empty line. `length` None: no body, or `CHUNKED`; `start` is another start line.

    Raises:
        ValueError: as `lines`; also for a method that is none.
    """
    block = lines(headers)
    if not start:
        start = target.post if method == "POST" else start_line(method, target.path)
    return b"".join(
        (
            start,
            b"" if block.names_host else target.host_line,
            block.lines,
            b"\r\n" if length is None else _framing(length),
        )
    )


def _framing(length: int) -> bytes:
    return b"transfer-encoding: chunked\r\n\r\n" if length == CHUNKED else b"content-length: %d\r\n\r\n" % length


def start_line(method: str, target: str) -> bytes:
    """Write a start line; raises ValueError for a method that is none."""
    if not _TOKEN.fullmatch(method):
        raise ValueError("not a method")
    return f"{method} {target} HTTP/1.1\r\n".encode()
