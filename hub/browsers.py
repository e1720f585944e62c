"""Sessions of browsers: their cookies, and what guards them against other sites (docs/decisions/0035).

A cookie is sent whoever made the browser ask. So what it stands for is done only when the browser says that a page of the
hub's own asked, and when the request brings a token that only such a page knows.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from hub.exchange import Header
from registry.callers.sessions import Sessions
from registry.errors import CrossSiteRefused, Unauthenticated
from registry.identity import Principal
from registry.sealed.secrets import digest

TOKEN_HEADER = b"x-csrf-token"

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110 §9.2.1)."""


class Request(Protocol):
    """What of a request says who made the browser send it."""

    method: str
    headers: Mapping[bytes, bytes]


class Browsers:
    """Knows the cookie of sessions, and which requests with it are the hub's own pages'."""

    def __init__(self, sessions: Sessions, *, public_url: str) -> None:
        parts = urlsplit(public_url)
        self.sessions = sessions
        self._origin = f"{parts.scheme}://{parts.netloc}".encode()
        is_secure = parts.scheme == "https"
        self._start = "__Host-" if is_secure else ""
        self._members = f"; Path=/; HttpOnly; SameSite=Lax{'; Secure' if is_secure else ''}"

    def set_cookie(self, name: str, value: str, *, lasts_s: float) -> Header:
        """Have the browser keep a cookie."""
        return b"set-cookie", f"{self._start}{name}={value}{self._members}; Max-Age={lasts_s:.0f}".encode()

    def cookie(self, headers: Mapping[bytes, bytes], name: str) -> str | None:
        """What the browser has under this name; None: nothing."""
        return cookie_of(headers, f"{self._start}{name}")

    def secret(self, headers: Mapping[bytes, bytes]) -> bytes | None:
        """The secret of a request's session; None: it comes with none."""
        found = self.cookie(headers, SESSION)
        return None if found is None else found.encode("latin-1")

    async def principal(self, request: Request, secret: bytes) -> Principal:
        """Whose session a request of the API comes with.

        Raises:
            Unauthenticated: it is over.
            CrossSiteRefused: the request may be another site's doing.
        """
        self.check_site(request)
        if request.method not in SAFE:
            self.check_token(secret, request.headers.get(TOKEN_HEADER, b"").decode("latin-1"))
        found = await self.sessions.find(secret)
        if found is None:
            raise Unauthenticated
        return found.principal

    def check_site(self, request: Request) -> None:
        """Check that no other site made the browser send a request; raises `CrossSiteRefused`.

        One that may change something has to say so itself: by `Origin`, or where a browser leaves that out, by `Sec-Fetch-Site`.
        """
        origin, site = (request.headers.get(name) for name in (b"origin", b"sec-fetch-site"))
        is_own = origin == self._origin or (origin is None and (site == b"same-origin" or request.method in SAFE))
        if not is_own or site not in (None, b"same-origin", b"none"):
            raise CrossSiteRefused

    def check_token(self, secret: bytes, token: str) -> None:
        """Check the token that only pages of a session know; raises `CrossSiteRefused`."""
        if not hmac.compare_digest(token_of(secret).encode(), token.encode()):
            raise CrossSiteRefused


SESSION = "hubbub-session"
"""The name of the cookie."""


def token_of(secret: bytes) -> str:
    """The token of a session's pages: nobody finds the secret by it, nor it without the secret."""
    return digest(b"csrf " + secret)


def cookie_of(headers: Mapping[bytes, bytes], name: str) -> str | None:
    """A cookie of a request; None: it is not there, or twice, and then somebody else may have set one."""
    given = headers.get(b"cookie", b"").decode("latin-1")
    found = [value for part in given.split(";") for at, _, value in [part.strip().partition("=")] if at == name]
    return found[0] if len(found) == 1 and found[0] else None
