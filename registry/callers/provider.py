"""HTTP to one issuer: its metadata, its keys, its tokens. Soon over, bounded, and through the address guard.

An address whose origin the operator wrote is the operator's; every other came from the issuer's metadata, and is guarded.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from registry.callers.tokens import Issuer
from registry.egress.http import Egress, Outgoing
from registry.egress.request import Key, Target, parse
from registry.entries import Headers
from registry.errors import UpstreamInvalid
from registry.gate import Gate
from registry.identity import HUB
from registry.limits import Limit

MAX_BYTES = 256 * 1024

T = TypeVar("T")


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub reads of an issuer's metadata (OpenID Connect Discovery §3, RFC 8414 §2)."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    authorization_response_iss_parameter_supported: bool | None = None


class Answer(NamedTuple):
    """What an issuer answered."""

    status: int
    body: bytes


class _Callee(NamedTuple):
    """What the gate sees of an issuer."""

    grant_name: str
    kind: str = "server"
    limits: tuple[Limit, ...] = ()
    call_usd: float | None = None


class Provider:
    """Asks one issuer."""

    def __init__(self, issuer: Issuer, *, egress: Egress, gate: Gate) -> None:
        self._url = issuer.url
        self._own: set[Key] = {parse(url).key for url in (issuer.url, issuer.jwks_url) if url is not None}
        self._egress = egress
        self._gate = gate

    async def metadata(self) -> Metadata:
        """RFC 8414 §3.1, then OpenID Connect Discovery §4, which puts its path behind the issuer's; raises `UpstreamError`."""
        url = self._url
        parts = urlsplit(url)
        start, path = f"{parts.scheme}://{parts.netloc}/.well-known", parts.path.rstrip("/")
        places = (f"{url.rstrip('/')}/.well-known/openid-configuration", f"{start}/oauth-authorization-server{path}")
        for place in places:
            try:
                found = await self.document(place, Metadata)
            except UpstreamInvalid:
                continue  # a page for people, as some servers give for every path
            if found.issuer != url:
                raise UpstreamInvalid(url, "its metadata is another issuer's")
            return found
        raise UpstreamInvalid(url, "it shows no metadata; write its jwks_url into the file")

    async def document(self, url: str, kind: type[T], *, headers: Headers = ()) -> T:
        """Read a document; raises `UpstreamError`."""
        answer = await self.ask(url, headers=headers)
        if answer.status != 200:
            raise UpstreamInvalid(self._url, f"it answers HTTP {answer.status}")
        return self.read(answer.body, kind)

    async def ask(self, url: str, *, headers: Headers = (), form: bytes | None = None) -> Answer:
        """Send one request, a POST with `form`, and read its whole answer; no redirect is followed; raises `UpstreamError`."""
        outgoing = Outgoing(
            url=url,
            method="GET" if form is None else "POST",
            headers=(("accept", "application/json"), *headers),
            body=form,
            trusted=self._target(url).key in self._own,
            plain_inside_only=True,
        )
        with self._gate.admit(HUB, _Callee(self._url)) as permit:
            async with self._egress.send(permit, outgoing) as incoming:
                body = b""
                async for chunk in incoming.chunks():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise UpstreamInvalid(self._url, "its answer is too large")
                return Answer(incoming.status, body)

    def read(self, body: bytes, kind: type[T]) -> T:
        """Read an answer's body; raises `UpstreamInvalid`."""
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UpstreamInvalid(self._url, "its answer is not what it must be") from None

    async def check_browsable(self, url: str) -> None:
        """Check that a browser may be sent to a URL: over TLS, or plainly where the operator opened the network.

        Raises:
            UpstreamError: it may not.
        """
        target = self._target(url)
        if target.key not in self._own:
            await self._egress.checked(target, self._url, plain_inside_only=True)

    def _target(self, url: str) -> Target:
        try:
            return parse(url)
        except ValueError:
            raise UpstreamInvalid(self._url, "its metadata holds an address that is not http or https") from None
