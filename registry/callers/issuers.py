"""Issuers of tokens: where their keys are, which they are now, and who comes with a token.

Keys are fetched when a token needs them, again when one names a key that is not known, and every few minutes while they
are used. An issuer that cannot be reached is believed for a while by the keys that it had.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from registry.callers.accounts import Accounts
from registry.callers.keys import Keys
from registry.callers.tokens import Bearer, Issuer, TokenRefused, Unverified, algorithms_of, key_of, read, verified
from registry.egress.http import Egress, Outgoing
from registry.egress.request import parse
from registry.errors import HubError, Overloaded, Unauthenticated, UpstreamInvalid
from registry.gate import Gate, Permit
from registry.identity import HUB, Principal
from registry.judged import JsonObject
from registry.limits import Limit

if TYPE_CHECKING:
    from jwt import PyJWK

logger = logging.getLogger(__name__)

REFRESH_S = 300.0
"""How long a key that an issuer no longer shows may be believed while the issuer can be reached."""

STALE_AFTER_S = 3600.0
"""The same while it cannot."""

RETRY_S = 10.0
"""How often keys are fetched at most, whatever tokens name."""

WITHIN_S = 10.0
"""Metadata and keys together."""

MAX_BYTES = 256 * 1024
MAX_KEYS = 100

MCP = "/mcp"

T = TypeVar("T")
PublicKeys = dict[tuple[str | None, str], "PyJWK"]
"""By `kid` and algorithm."""


class _Metadata(msgspec.Struct, frozen=True):
    issuer: str
    jwks_uri: str


class _KeySet(msgspec.Struct, frozen=True):
    keys: list[JsonObject]


class _Callee(NamedTuple):
    """What the gate sees of an issuer."""

    grant_name: str
    kind: str = "server"
    limits: tuple[Limit, ...] = ()
    call_usd: float | None = None


class KeyRing:
    """The keys of one issuer."""

    def __init__(self, issuer: Issuer, *, egress: Egress, gate: Gate, clock: Callable[[], float]) -> None:
        self.issuer = issuer
        self._egress = egress
        self._gate = gate
        self._clock = clock
        self._keys: PublicKeys = {}
        self._shown: list[JsonObject] = []
        """The keys as the issuer showed them."""
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, said: Unverified) -> PyJWK:
        """The key that a token names.

        Raises:
            TokenRefused: the issuer has no such key, or the algorithm is not one of the file's.
            Overloaded: the issuer's keys cannot be had.
        """
        if said.algorithm not in self.issuer.algorithms:
            raise TokenRefused("its algorithm is not one of the issuer's in the file")
        if not self.is_known:
            await self.refresh()
        if not self.is_known:
            raise Overloaded(
                "Tokens cannot be verified at the moment: their issuer does not answer; try again shortly."
            )
        found = self._pick(said)
        if found is None:
            await self.refresh()  # it may have begun to use another key
            found = self._pick(said)
        if found is None:
            raise TokenRefused("its issuer has no such key")
        return found

    @property
    def is_known(self) -> bool:
        """Whether there are keys, not too old."""
        return self._fetched_at is not None and self._clock() - self._fetched_at <= STALE_AFTER_S

    @property
    def is_used(self) -> bool:
        """Whether keys were ever fetched."""
        return self._fetched_at is not None

    def _pick(self, said: Unverified) -> PyJWK | None:
        if said.kid is not None:
            return self._keys.get((said.kid, said.algorithm))
        fitting = [key for (_, algorithm), key in self._keys.items() if algorithm == said.algorithm]
        return fitting[0] if len(fitting) == 1 else None

    async def refresh(self) -> bool:
        """Fetch the keys unless that was done just now; whether they are others than before. Failures are logged."""
        before = self._shown
        if self._fetching is None:
            if self._tried_at is not None and self._clock() - self._tried_at < RETRY_S:
                return False
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        await asyncio.shield(self._fetching)  # whoever asked may leave; the others want it all the same
        return before != self._shown

    def _fetched(self, _task: asyncio.Task[None]) -> None:
        self._fetching = None
        self._tried_at = self._clock()

    async def _fetch(self) -> None:
        issuer = self.issuer
        try:
            async with asyncio.timeout(WITHIN_S):
                with self._gate.admit(HUB, _Callee(issuer.url)) as permit:
                    where = issuer.jwks_url or (await self._metadata(permit)).jwks_uri
                    shown = (await self._document(permit, where, _KeySet)).keys[:MAX_KEYS]
            if shown != self._shown:
                self._keys = _public_keys(shown, issuer)
                self._shown = shown
            self._fetched_at = self._clock()
        except TimeoutError:
            logger.warning(
                "keys of an issuer cannot be had", extra={"issuer": issuer.url, "reason": "no answer in time"}
            )
        except HubError as error:
            logger.warning("keys of an issuer cannot be had", extra={"issuer": issuer.url, "reason": str(error)})
        except Exception:  # keys that trip the hub must not end the refreshing of all
            logger.exception("keys of an issuer cannot be read", extra={"issuer": issuer.url})

    async def _metadata(self, permit: Permit) -> _Metadata:
        """RFC 8414 §3.1, then OpenID Connect Discovery §4, which puts its path behind the issuer's."""
        url = self.issuer.url
        parts = urlsplit(url)
        start, path = f"{parts.scheme}://{parts.netloc}/.well-known", parts.path.rstrip("/")
        places = (f"{url.rstrip('/')}/.well-known/openid-configuration", f"{start}/oauth-authorization-server{path}")
        for place in places:
            try:
                found = await self._document(permit, place, _Metadata)
            except UpstreamInvalid:
                continue  # a page for people, as some servers give for every path
            if found.issuer != url:
                raise UpstreamInvalid(url, "its metadata is another issuer's")
            return found
        raise UpstreamInvalid(url, "it shows no metadata; write its jwks_url into the file")

    async def _document(self, permit: Permit, url: str, kind: type[T]) -> T:
        entry = permit.entry_name
        try:
            outgoing = Outgoing(
                url=url,
                method="GET",
                headers=(("accept", "application/json"),),
                trusted=parse(url).key in self._own(),
                plain_inside_only=True,
            )
        except ValueError:
            raise UpstreamInvalid(entry, "its metadata holds an address that is not http or https") from None
        async with self._egress.send(permit, outgoing) as incoming:
            if incoming.status != 200:
                raise UpstreamInvalid(entry, f"it answers HTTP {incoming.status}")
            body = b""
            async for chunk in incoming.chunks():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise UpstreamInvalid(entry, "its answer is too large")
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UpstreamInvalid(entry, "its answer is not what it must be") from None

    def _own(self) -> set[tuple[str, str, int, str]]:
        """Origins that the operator wrote; every other goes through the address guard."""
        written = (self.issuer.url, self.issuer.jwks_url)
        return {parse(url).key for url in written if url is not None}

    async def aclose(self) -> None:
        """End a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])


def _public_keys(shown: list[JsonObject], issuer: Issuer) -> PublicKeys:
    found: PublicKeys = {}
    for jwk in shown:
        kid = jwk.get("kid")
        for algorithm in algorithms_of(jwk) & set(issuer.algorithms):
            key = key_of(jwk, algorithm)
            if key is not None:
                found.setdefault((kid if isinstance(kid, str) else None, algorithm), key)
    return found


class Issuers:
    """All issuers of the file. Finds principals of tokens, which `Keys` then remembers as those of keys."""

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        keys: Keys,
        accounts: Accounts,
        ring: Callable[[Issuer], KeyRing],
        public_url: str,
    ) -> None:
        self._keys = keys
        self._accounts = accounts
        self._own = f"{public_url.rstrip('/')}{MCP}"
        self._rings = {issuer.url: ring(issuer) for issuer in issuers}

    async def ready(self) -> None:
        """Have the database know the issuers of the file and no others."""
        await self._accounts.follow({url: ring.issuer for url, ring in self._rings.items()})
        self._keys.forget()

    def knows(self, secret: bytes) -> bool:
        """Whether a secret says that it is a token of one of these issuers."""
        if not self._rings:
            return False
        said = read(secret)
        return said is not None and said.issuer in self._rings

    async def find(self, secret_digest: str, token: bytes) -> Principal | None:
        """The principal of a token, remembered by the token's whole SHA-256 until the token's end; None: nobody.

        Raises:
            Overloaded: the hub cannot tell at the moment.
        """
        try:
            return await self._keys.look_up(secret_digest, lambda: self._principal(token))
        except TokenRefused as refusal:
            logger.info("a token was refused", extra={"reason": str(refusal)})
        except HubError:
            raise
        except Exception:  # fails closed: whatever a token trips, its bearer is nobody
            logger.exception("a token could not be read")
        raise Unauthenticated

    async def _principal(self, token: bytes) -> Principal:
        said = read(token)
        ring = self._rings.get(said.issuer) if said is not None else None
        if said is None or ring is None:
            raise TokenRefused("its issuer is not in the file")
        bearer = verified(token, ring.issuer, await ring.key(said), own=self._own)
        return _as_borne(await self._accounts.find(bearer), bearer)

    async def run(self) -> None:
        """Follow the keys of the issuers that are used, until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_S)
            await self.refresh()

    async def refresh(self) -> None:
        """Fetch the keys of those that are used once more; tokens are verified anew when they changed, or are too old."""
        for ring in self._rings.values():
            if ring.is_used and (await ring.refresh() or not ring.is_known):
                self._keys.forget()

    async def aclose(self) -> None:
        """End what is under way."""
        for ring in self._rings.values():
            await ring.aclose()


def _as_borne(principal: Principal, bearer: Bearer) -> Principal:
    """The principal while its token lasts, where the token is for."""
    ends = bearer.expires_at if principal.expires_at is None else min(principal.expires_at, bearer.expires_at)
    if bearer.paths is None:
        return replace(principal, expires_at=ends)
    return replace(principal, expires_at=ends, doors=frozenset({"mcp"}), paths=bearer.paths)
