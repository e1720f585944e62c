"""Signing in at an issuer with a browser: authorization code with PKCE (OpenID Connect Core §3.1, RFC 7636, RFC 9700).

What is begun is a `Flow`, which only the browser that began it holds, sealed: so an answer that belongs to another
browser's, or to none, is nobody's. Knows no HTTP server and shows nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256
from urllib.parse import quote_plus, urlencode

import msgspec

from registry.callers.issuers import Issuers, KeyRing
from registry.callers.provider import Metadata
from registry.callers.tokens import Bearer, Issuer, SignIn, TokenRefused, bearer, read, verified_identity
from registry.entries import Headers
from registry.errors import InvalidRequest, NotFound, Overloaded, UpstreamError, UpstreamInvalid, UpstreamTimeout
from registry.judged import JsonObject

logger = logging.getLogger(__name__)

CALLBACK_PATH = "/ui/callback"

FLOW_S = 600.0
"""How long somebody may take at the issuer."""

WITHIN_S = 10.0
"""For a code to become claims."""

_FORM = "application/x-www-form-urlencoded"
_CODE = re.compile(r"[a-z_]{1,64}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in under way."""

    issuer: str
    state: str
    nonce: str
    verifier: str
    next: str
    """Where the browser goes when it is done: a path of the hub's."""
    expires_at: float


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """What the issuer sent the browser back with."""

    state: str = ""
    code: str | None = None
    iss: str | None = None
    error: str | None = None


class _Tokens(msgspec.Struct):
    id_token: str
    access_token: str = ""
    scope: str | None = None


class _Refusal(msgspec.Struct):
    error: str = ""


class SignIns:
    """Signs people in at the issuers that know the hub as a client."""

    def __init__(self, issuers: Issuers, *, public_url: str) -> None:
        self._rings = {url: ring for url, ring in issuers.rings.items() if ring.issuer.sign_in is not None}
        self._redirect_uri = f"{public_url.rstrip('/')}{CALLBACK_PATH}"

    @property
    def offered(self) -> tuple[str, ...]:
        """The issuers, in the order of the file."""
        return tuple(self._rings)

    async def begin(self, issuer: str, next_path: str) -> tuple[str, Flow]:
        """Begin a sign-in; returns where the browser goes, and what it has to come back with.

        Raises:
            NotFound: nobody signs in there.
            Overloaded: the issuer does not answer.
            UpstreamError: it cannot be used.
        """
        ring, sign_in, metadata = await self._known(issuer)
        endpoint = metadata.authorization_endpoint
        if endpoint is None or "#" in endpoint:
            raise UpstreamInvalid(issuer, "its metadata names no page where people sign in")
        await ring.provider.check_browsable(endpoint)
        flow = Flow(
            issuer=issuer,
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            next=next_path,
            expires_at=time.time() + FLOW_S,
        )
        asked = {
            "response_type": "code",
            "client_id": sign_in.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": _scope(sign_in),
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": urlsafe_b64encode(sha256(flow.verifier.encode()).digest()).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}", flow

    async def finish(self, flow: Flow | None, returned: Returned) -> Bearer:
        """Find out who signed in.

        Raises:
            InvalidRequest: the answer does not belong to what this browser began, or nobody signed in.
            TokenRefused: what the issuer says is not true, or not for this sign-in.
            Overloaded, UpstreamError: the issuer does not answer, or not as it must.
        """
        if flow is None or flow.expires_at < time.time() or not _same(flow.state, returned.state):
            raise InvalidRequest("This answer belongs to nothing that was begun in this browser. Sign in again.")
        ring, _, metadata = await self._known(flow.issuer)
        # RFC 9700 §4.4: with several issuers, one that does not say who it is might answer for another
        must_say = metadata.authorization_response_iss_parameter_supported is True or len(self._rings) > 1
        if returned.iss != flow.issuer and (returned.iss is not None or must_say):
            raise InvalidRequest("The answer did not come from the issuer that was asked. Sign in again.")
        if returned.error is not None or not returned.code:
            logger.info("somebody was not signed in", extra={"issuer": flow.issuer, "reason": _plain(returned.error)})
            raise InvalidRequest("The issuer did not sign you in.")
        try:
            async with asyncio.timeout(WITHIN_S):
                tokens = await self._tokens(ring, metadata, flow, returned.code)
                claims = await self._claims(ring, metadata, flow, tokens)
        except TimeoutError:
            raise UpstreamTimeout(flow.issuer, "it did not answer in time") from None
        return bearer(claims, ring.issuer)

    async def sign_out_at(self, issuer: str) -> str | None:
        """Where somebody signs out at the issuer too (OpenID Connect RP-Initiated Logout §2); None: it names no such page.

        The issuer asks the person there: which application sent them is all that it is told.
        """
        ring = self._rings.get(issuer)
        endpoint = ring.metadata.end_session_endpoint if ring is not None and ring.metadata is not None else None
        if ring is None or ring.issuer.sign_in is None or endpoint is None or "#" in endpoint:
            return None
        try:
            await ring.provider.check_browsable(endpoint)
        except UpstreamError:
            return None
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode({'client_id': ring.issuer.sign_in.client_id})}"

    async def _known(self, issuer: str) -> tuple[KeyRing, SignIn, Metadata]:
        ring = self._rings.get(issuer)
        if ring is None:
            raise NotFound("issuer", issuer)
        await ring.check_known()
        assert ring.issuer.sign_in is not None, "only such are here"
        if ring.metadata is None:
            raise Overloaded("Nobody can sign in at the moment: the issuer does not answer; try again shortly.")
        return ring, ring.issuer.sign_in, ring.metadata

    async def _tokens(self, ring: KeyRing, metadata: Metadata, flow: Flow, code: str) -> _Tokens:
        endpoint, sign_in = metadata.token_endpoint, ring.issuer.sign_in
        assert sign_in is not None, "only such are here"
        if endpoint is None:
            raise UpstreamInvalid(flow.issuer, "its metadata names no token endpoint")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": flow.verifier,
            "client_id": sign_in.client_id,
        }
        headers: Headers = (("content-type", _FORM),)
        supported = metadata.token_endpoint_auth_methods_supported or ("client_secret_basic",)
        if sign_in.client_secret is not None and "client_secret_basic" in supported:
            pair = f"{quote_plus(sign_in.client_id)}:{quote_plus(sign_in.client_secret)}".encode()
            headers = (*headers, ("authorization", f"Basic {b64encode(pair).decode()}"))
        elif sign_in.client_secret is not None:
            form["client_secret"] = sign_in.client_secret
        answer = await ring.provider.ask(endpoint, headers=headers, form=urlencode(form).encode())
        if answer.status == 200:
            return ring.provider.read(answer.body, _Tokens)
        reason = _refusal(answer.body)
        logger.warning("an issuer gave no tokens", extra={"issuer": flow.issuer, "reason": reason})
        if reason == "invalid_grant":
            raise InvalidRequest("The issuer takes its answer back: it was used before, or is too old. Sign in again.")
        raise UpstreamInvalid(flow.issuer, f"its token endpoint answers HTTP {answer.status} ({reason})")

    async def _claims(self, ring: KeyRing, metadata: Metadata, flow: Flow, tokens: _Tokens) -> JsonObject:
        """What the ID token says, and, where claims that the file names are not in it, UserInfo (Core §5.3)."""
        issuer, encoded = ring.issuer, tokens.id_token.encode()
        said = read(encoded)
        if said is None or said.issuer != issuer.url:
            raise TokenRefused("its ID token is another issuer's, or none")
        claims = verified_identity(encoded, issuer, await ring.key(said), nonce=flow.nonce)
        endpoint = metadata.userinfo_endpoint
        if endpoint is not None and _TOKEN.fullmatch(tokens.access_token) and _lacks(claims, issuer):
            more = await ring.provider.document(
                endpoint, JsonObject, headers=(("authorization", f"Bearer {tokens.access_token}"),)
            )
            if more.get("sub") != claims["sub"]:
                raise TokenRefused("its UserInfo is of somebody else")
            claims = {**more, **claims}
        granted = tokens.scope if tokens.scope is not None else _scope(issuer.sign_in)
        return {issuer.claims.scopes or "scope": granted, **claims}


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _scope(sign_in: SignIn | None) -> str:
    return " ".join(dict.fromkeys(("openid", *(sign_in.scopes if sign_in is not None else ()))))


def _lacks(claims: JsonObject, issuer: Issuer) -> bool:
    named = (issuer.claims.user, issuer.claims.team, issuer.claims.roles)
    return any(name not in claims and name.partition(".")[0] not in claims for name in named if name is not None)


def _refusal(body: bytes) -> str:
    try:
        return _plain(msgspec.json.decode(body, type=_Refusal).error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _plain(None)


def _plain(error: str | None) -> str:
    """An error code of OAuth's as it may stand in texts (RFC 6749 §5.2)."""
    return error if error is not None and _CODE.fullmatch(error) else "no reason that can be shown"
