"""Requests to authorization servers and for metadata: small, soon over, and through the address guard.

A URL of an origin that the operator wrote is the operator's; every other came from a server or its metadata, and is
guarded. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec

from registry.egress.http import Egress, Incoming, OpenPermit, Outgoing
from registry.egress.request import parse
from registry.entries import Headers, Server
from registry.errors import UpstreamInvalid, UpstreamTimeout

MAX_BYTES = 64 * 1024
"""Metadata and tokens are a few KiB."""

WITHIN_S = 10.0

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Way:
    """How one server's authorization is reached."""

    egress: Egress
    permit: OpenPermit
    own: frozenset[str]
    """Origins that the operator wrote."""

    @property
    def entry(self) -> str:
        """The server's name, for errors."""
        return self.permit.entry_name


class Fetched(msgspec.Struct, frozen=True):
    """An answer."""

    status: int
    body: bytes
    challenge: str
    """Its `WWW-Authenticate`; empty: it has none."""


def origin(url: str) -> str:
    """Scheme, host and port of an http or https URL, as the way out reads it; raises ValueError for any other."""
    scheme, host, port, _ = parse(url).key
    return f"{scheme}://{host}:{port}"


def _origin(url: str, way: Way) -> str:
    try:
        return origin(url)
    except ValueError:
        raise UpstreamInvalid(way.entry, "its metadata holds an address that is not http or https") from None


def operators_origins(server: Server) -> frozenset[str]:
    """The origins that the operator wrote for a server; none for one that somebody else made."""
    auth = server.auth
    assert auth is not None, "only such servers have authorization"
    written = (server.url, auth.issuer, auth.token_url) if server.trusted else ()
    return frozenset(origin(url) for url in written if url is not None)


async def check_browsable(url: str, way: Way) -> None:
    """Check that a browser may be sent to a URL: over TLS, or plainly where the operator opened the network.

    Raises:
        UpstreamError: it may not.
    """
    if _origin(url, way) not in way.own:
        await way.egress.checked(parse(url), way.entry, plain_inside_only=True)


async def fetch(
    way: Way, url: str, *, method: str = "GET", headers: Headers = (), body: bytes | None = None
) -> Fetched:
    """Send one request and read its whole answer; no redirect is followed.

    Raises:
        UpstreamError: no answer, one that is too large, or an address that may not be reached.
    """
    outgoing = Outgoing(
        url=url,
        method=method,
        headers=(("accept", "application/json"), *headers),
        body=body,
        trusted=_origin(url, way) in way.own,
        plain_inside_only=True,
    )
    try:
        async with asyncio.timeout(WITHIN_S), way.egress.send(way.permit, outgoing) as incoming:
            challenge = incoming.header(b"www-authenticate") or ""
            return Fetched(incoming.status, await _read(incoming, way.entry), challenge)
    except TimeoutError:
        raise UpstreamTimeout(way.entry, "its authorization server did not answer in time") from None


async def post_form(way: Way, url: str, form: dict[str, str], *, headers: Headers = ()) -> Fetched:
    """Post a form, as token endpoints take it; raises as `fetch`."""
    sent = (("content-type", FORM), *headers)
    return await fetch(way, url, method="POST", headers=sent, body=urlencode(form).encode())


async def _read(incoming: Incoming, entry: str) -> bytes:
    body = b""
    async for chunk in incoming.chunks():
        body += chunk
        if len(body) > MAX_BYTES:
            raise UpstreamInvalid(entry, "its authorization server answers with more than it may")
    return body
