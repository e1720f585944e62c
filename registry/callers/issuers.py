"""Issuers of tokens: where their keys are, which they are now, and who comes with a token.

Keys are fetched when a token needs them, again when one names a key that is not known, and every few minutes while they
are used. An issuer that cannot be reached is believed for a while by the keys that it had.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from registry.callers.accounts import Accounts
from registry.callers.keys import Keys
from registry.callers.provider import Metadata, Provider
from registry.callers.tokens import Bearer, Issuer, TokenRefused, Unverified, algorithms_of, key_of, read, verified
from registry.egress.http import Egress
from registry.errors import HubError, Overloaded, Unauthenticated
from registry.gate import Gate
from registry.identity import Principal
from registry.judged import JsonObject

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

MAX_KEYS = 100

MCP = "/mcp"

PublicKeys = dict[tuple[str | None, str], "PyJWK"]
"""By `kid` and algorithm."""


class _KeySet(msgspec.Struct, frozen=True):
    keys: list[JsonObject]


class KeyRing:
    """The keys of one issuer, and what its metadata says where that is asked."""

    def __init__(self, issuer: Issuer, *, egress: Egress, gate: Gate, clock: Callable[[], float]) -> None:
        self.issuer = issuer
        self.provider = Provider(issuer, egress=egress, gate=gate)
        self.metadata: Metadata | None = None
        """As old as the keys."""
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
        await self.check_known()
        found = self._pick(said)
        if found is None:
            await self.refresh()  # it may have begun to use another key
            found = self._pick(said)
        if found is None:
            raise TokenRefused("its issuer has no such key")
        return found

    async def check_known(self) -> None:
        """Have keys that are not too old; raises `Overloaded` when they cannot be had."""
        if not self.is_known:
            await self.refresh()
        if not self.is_known:
            raise Overloaded(
                "Tokens cannot be verified at the moment: their issuer does not answer; try again shortly."
            )

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
                if issuer.jwks_url is None or issuer.sign_in is not None:
                    self.metadata = await self.provider.metadata()
                where = issuer.jwks_url or (self.metadata.jwks_uri if self.metadata is not None else "")
                shown = (await self.provider.document(where, _KeySet)).keys[:MAX_KEYS]
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
        self.rings: Mapping[str, KeyRing] = {issuer.url: ring(issuer) for issuer in issuers}

    async def ready(self) -> None:
        """Have the database know the issuers of the file and no others."""
        await self._accounts.follow({url: ring.issuer for url, ring in self.rings.items()})
        self._keys.forget()

    def knows(self, secret: bytes) -> bool:
        """Whether a secret says that it is a token of one of these issuers."""
        if not self.rings:
            return False
        said = read(secret)
        return said is not None and said.issuer in self.rings

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
        ring = self.rings.get(said.issuer) if said is not None else None
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
        for ring in self.rings.values():
            if ring.is_used and (await ring.refresh() or not ring.is_known):
                self._keys.forget()

    async def aclose(self) -> None:
        """End what is under way."""
        for ring in self.rings.values():
            await ring.aclose()


def _as_borne(principal: Principal, bearer: Bearer) -> Principal:
    """The principal while its token lasts, where the token is for."""
    ends = bearer.expires_at if principal.expires_at is None else min(principal.expires_at, bearer.expires_at)
    if bearer.paths is None:
        return structs.replace(principal, expires_at=ends)
    return structs.replace(principal, expires_at=ends, doors=frozenset({"mcp"}), paths=bearer.paths)
