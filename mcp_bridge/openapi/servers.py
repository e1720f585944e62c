"""Where the operations of a document are called: its `servers`, as far as the operator lets it say. Pure."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

from mcp_bridge.openapi.pointers import Bad
from registry.declared.source import Path

EXPRESSION = re.compile(r"\{([^{}]+)\}")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}|\{[^{}/?#]+\})+")


def addresses(servers: Any) -> list[str]:
    """The addresses that `servers` names, their variables filled in; they may be relative."""
    return [_filled(one) for one in servers if isinstance(one, dict)] if isinstance(servers, list) else []


def _filled(server: dict[str, Any]) -> str:
    url, variables = server.get("url"), server.get("variables")

    def default(name: str) -> str:
        found: Any = variables.get(name) if isinstance(variables, dict) else None
        return str(found.get("default", "")) if isinstance(found, dict) else ""

    return EXPRESSION.sub(lambda match: default(match[1]), url) if isinstance(url, str) else ""


class Servers:
    """Where a document's operations are called. `configured` is what the operator wrote.

    `source` is the address that the document came from; None: a file, whose every word is the operator's.
    """

    def __init__(self, servers: Any, *, configured: str | None, source: str | None) -> None:
        """Read the document's own `servers`.

        Raises:
            ValueError: nobody says where, or the document names another origin than its own.
        """
        self._addresses = addresses(servers)
        self._source = source
        self.base = configured if configured is not None else self._first()

    def own_path(self, servers: Any, at: Path) -> str | None:
        """The path of the server that an operation names for itself; None: it is called where all are.

        Raises:
            Bad: none that it names is on the origin where all are called.
        """
        named = addresses(servers)
        if named == self._addresses:
            return None
        source = self._source
        onto = source if source is not None and origin(source) == origin(self.base) else self.base
        for address in named:
            try:
                parts = urlsplit(urljoin(onto, address))
                if origin(parts.geturl()) != origin(self.base):
                    continue
            except ValueError:  # it is no address
                continue
            if parts.query or parts.fragment or "@" in parts.netloc:
                raise Bad(at, "has a server of its own whose address is more than host and path")
            check_path(parts.path or "/", at)
            return parts.path.rstrip("/")
        called = urlsplit(self.base)
        raise Bad(
            at, f"has servers of its own, and none is at {called.scheme}://{called.hostname}, where the hub calls"
        )

    def _first(self) -> str:
        first = next(iter(self._addresses), "")
        if not first and self._source is None:
            raise ValueError("it names no server; write url beside openapi")
        url = urljoin(self._source or "", first or "/")
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("its server is no http address; write url beside openapi")
        if self._source is not None and origin(url) != origin(self._source):
            raise ValueError("its server is on another origin than the document; write url beside openapi")
        return url


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def check_path(path: str, at: Path) -> None:
    """Refuse a path whose segments servers could read in different ways; raises `Bad`."""
    segments = path.split("/")
    if segments[0]:
        raise Bad(at, "a path begins with /")
    for position, segment in enumerate(segments[1:], 2):
        if not segment and position == len(segments):
            continue  # a slash at the end
        dots = re.sub(r"%2e", ".", segment, flags=re.IGNORECASE)
        if not _SEGMENT.fullmatch(segment) or dots in {".", ".."} or re.search(r"%(2f|5c)", segment, re.IGNORECASE):
            raise Bad(at, f"{segment[:80]!r} is no segment of a path that can be called")
