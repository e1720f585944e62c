"""Tokens that issuers signed (RFC 7519): which issuer one names, whether it is true, and what it says. Pure: keys are given.

A token says nothing about how it is to be verified: algorithms are those of the file, keys those of the issuer that it
names, by `kid` alone; `jku`, `x5u` and `jwk` of its header are not looked at.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from registry.judged import JsonObject
from registry.limits import UNBOUND, Bounds

if TYPE_CHECKING:
    from jwt import PyJWK

# jwt is imported where it is used: it costs 60 ms, and most hubs start without tokens

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""All of them asymmetric: with a shared secret, whoever verifies could also sign."""

LEEWAY_S = 30
"""How far the clocks of an issuer and the hub may differ."""

MAX_USER_CHARS = 255
"""OIDC Core §2: no `sub` is longer."""

MIN_RSA_BITS = 2048

_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""Of access tokens; those for other purposes (logout, DPoP proofs) say so in `typ` and are refused (RFC 8725 §3.11)."""

_ID_TYPES = frozenset({"jwt"})
"""Of ID tokens."""

_CURVES: dict[object, frozenset[str]] = {
    "P-256": frozenset({"ES256"}),
    "P-384": frozenset({"ES384"}),
    "P-521": frozenset({"ES512"}),
    "Ed25519": frozenset({"EdDSA"}),
}
_OF_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})


class TokenRefused(Exception):
    """A token stands for nobody. Its text is for the operator's log, and holds nothing of the token."""


class Claims(NamedTuple):
    """Where a token says what: names of claims, or paths with dots into them. None: it is not asked."""

    user: str = "sub"
    team: str | None = None
    roles: str | None = None
    scopes: str | None = "scope"


USUAL = Claims()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """The hub as a client of an issuer's, at which people sign in with a browser (OpenID Connect Core §3.1)."""

    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    """None: a public client, which PKCE alone protects."""
    scopes: tuple[str, ...] = ()
    """What to ask for beside `openid`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who may sign tokens for the hub, and what they give."""

    url: str
    """What `iss` must be, to the letter."""
    audience: tuple[str, ...] = ()
    """What `aud` may be; tokens for the hub's own MCP addresses are taken at those without."""
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256")
    jwks_url: str | None = None
    """Where its keys are; None: as its metadata says."""
    claims: Claims = USUAL
    create_users: bool = False
    allow: tuple[str, ...] | None = None
    """Grants of all who come from it."""
    scopes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Grants that a scope adds."""
    roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Grants that a role adds."""
    bounds: Bounds = UNBOUND
    """How much each user who comes from it may use, with all tokens together."""
    sign_in: SignIn | None = None
    """None: nobody signs in there, it only signs tokens."""

    def grants(self, scopes: tuple[str, ...], roles: tuple[str, ...]) -> tuple[str, ...] | None:
        """What a token with these gives; None: it bounds nothing itself, its user and team do."""
        if self.allow is None and not self.scopes and not self.roles:
            return None
        found = [*(self.allow or ())]
        for name in scopes:
            found += self.scopes.get(name, ())
        for name in roles:
            found += self.roles.get(name, ())
        return tuple(dict.fromkeys(found))


class Unverified(NamedTuple):
    """What a token says of itself, before anybody has looked whether it is true."""

    issuer: str
    algorithm: str
    kid: str | None


class Bearer(NamedTuple):
    """Who a verified token says that its bearer is."""

    issuer: Issuer
    user: str
    teams: tuple[str, ...] | None
    """Names of which exactly one must be a team's; None: it is asked for none."""
    scopes: tuple[str, ...]
    """Those that the file gives something for."""
    roles: tuple[str, ...]
    """The same."""
    expires_at: float
    paths: tuple[str, ...] | None
    """The hub's addresses that it is for; None: all."""


def read(token: bytes) -> Unverified | None:
    """Read what says whose a token is; None: it is no token of any issuer."""
    parts = token.split(b".")
    if len(parts) != 3 or not token.startswith(b"ey"):
        return None
    header, claims = _part(parts[0]), _part(parts[1])
    found = (claims.get("iss"), header.get("alg"), header.get("kid"))
    issuer, algorithm, kid = (value if isinstance(value, str) else None for value in found)
    return None if issuer is None else Unverified(issuer, algorithm or "", kid)


def _part(encoded: bytes) -> JsonObject:
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def algorithms_of(jwk: JsonObject) -> frozenset[str]:
    """What a JWK (RFC 7517) may verify; empty: it is not a public key for signatures."""
    operations = jwk.get("key_ops")
    if jwk.get("use", "sig") != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return frozenset()
    kind = jwk.get("kty")
    found = _OF_RSA if kind == "RSA" else frozenset()
    if kind in ("EC", "OKP") and isinstance(jwk.get("crv"), str):
        found = _CURVES.get(jwk["crv"], frozenset())
    named = jwk.get("alg")
    return found if named is None else found & {named if isinstance(named, str) else ""}


def key_of(jwk: JsonObject, algorithm: str) -> PyJWK | None:
    """The key, for one algorithm; None: it cannot be used, or is too weak."""
    import jwt  # noqa: PLC0415  # see above

    try:
        key = jwt.PyJWK.from_dict({name: value for name, value in jwk.items() if name not in {"d", "k"}}, algorithm)
    except (jwt.exceptions.PyJWTError, ValueError, TypeError):
        return None
    return key if getattr(key.key, "key_size", MIN_RSA_BITS) >= MIN_RSA_BITS or jwk.get("kty") != "RSA" else None


def verified(token: bytes, issuer: Issuer, key: PyJWK, *, own: str) -> Bearer:
    """Verify a token of an issuer by one of its keys. `own` is the address of the hub's MCP door.

    Raises:
        TokenRefused: it is not true, not for the hub, not yet or no longer valid, or says not all that it must.
    """
    claims = _decoded(token, issuer, key, types=_TYPES)
    if "cnf" in claims:
        raise TokenRefused("it is bound to a key of its bearer's (cnf), which the hub cannot check")
    return bearer(claims, issuer, _paths(claims["aud"], issuer, own))


def verified_identity(token: bytes, issuer: Issuer, key: PyJWK, *, nonce: str) -> JsonObject:
    """Verify an ID token that an issuer gave the hub (OpenID Connect Core §3.1.3.7); returns its claims.

    Raises:
        TokenRefused: as `verified`; also when it is for another client or another sign-in than that of this nonce.
    """
    assert issuer.sign_in is not None, "nobody signs in at others"
    claims = _decoded(token, issuer, key, types=_ID_TYPES)
    own, audience = issuer.sign_in.client_id, claims["aud"]
    named = audience if isinstance(audience, list) else [audience]
    if own not in named or claims.get("azp", own if len(named) == 1 else None) != own:
        raise TokenRefused("it is for another client")
    if claims.get("nonce") != nonce:
        raise TokenRefused("it is of another sign-in")
    if not isinstance(claims.get("sub"), str) or "iat" not in claims:
        raise TokenRefused("it says not all that an ID token must")
    return claims


def _decoded(token: bytes, issuer: Issuer, key: PyJWK, *, types: frozenset[str]) -> JsonObject:
    import jwt  # noqa: PLC0415  # see above

    try:
        found = jwt.decode_complete(
            token.decode("ascii"),
            key,
            algorithms=list(issuer.algorithms),
            issuer=issuer.url,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud"], "verify_aud": False, "enforce_minimum_key_length": True},
        )
    except (jwt.exceptions.PyJWTError, ValueError, OverflowError, RecursionError) as error:
        raise TokenRefused(str(error) if isinstance(error, jwt.exceptions.PyJWTError) else "cannot be read") from None
    if str(found["header"].get("typ", "JWT")).lower() not in types:
        raise TokenRefused("its typ is that of a token for another purpose")
    claims: JsonObject = found["payload"]
    return claims


def _paths(audience: object, issuer: Issuer, own: str) -> tuple[str, ...] | None:
    named = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    if any(one in issuer.audience for one in named):
        return None
    start = own.rpartition("/mcp")[0]
    paths = tuple(one.removeprefix(start).rstrip("/") for one in named if isinstance(one, str) and _is_at(one, own))
    if not paths:
        raise TokenRefused("it is for another audience")
    return paths


def _is_at(url: str, place: str) -> bool:
    return url == place or url.startswith(f"{place}/")


def bearer(claims: JsonObject, issuer: Issuer, paths: tuple[str, ...] | None = None) -> Bearer:
    """Read who it is that an issuer vouches for with these claims; raises `TokenRefused`."""
    names = issuer.claims
    user = _claim(claims, names.user)
    if not isinstance(user, str) or not 0 < len(user) <= MAX_USER_CHARS or not _is_unicode(user):
        raise TokenRefused(f"its claim {names.user} names no user")
    if names.user == "email" and claims.get("email_verified") is not True:
        raise TokenRefused("nobody verified its email")
    teams = None if names.team is None else tuple(dict.fromkeys(_texts(_claim(claims, names.team), names.team)))
    scopes = _texts(_claim(claims, names.scopes), names.scopes, spaced=True)
    roles = _texts(_claim(claims, names.roles), names.roles)
    return Bearer(
        issuer=issuer,
        user=user,
        teams=teams,
        scopes=tuple(sorted(issuer.scopes.keys() & set(scopes))),
        roles=tuple(sorted(issuer.roles.keys() & set(roles))),
        expires_at=_moment(claims["exp"]) + LEEWAY_S,
        paths=paths,
    )


def _claim(claims: JsonObject, name: str | None) -> object:
    """A claim by its name, which may have dots in it, else by the path that they make; None: it is not there."""
    if name is None or name in claims:
        return None if name is None else claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _moment(value: Any) -> float:
    """The time of a claim that was verified, in seconds since 1970; JSON's integers may be larger than any `float`."""
    try:
        return float(value)
    except OverflowError:
        raise TokenRefused("it is valid for longer than time can tell") from None


def _is_unicode(text: str) -> bool:
    """Whether no surrogate stands alone in it, which JSON can say and nothing can store."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _texts(value: object, name: str | None, *, spaced: bool = False) -> list[str]:
    """A claim that is one text or a list of them; `spaced`: one text may be several (RFC 8693 §4.2)."""
    if value is None:
        return []
    found = value
    if isinstance(value, str):
        found = value.split() if spaced else [value]
    if isinstance(found, list) and all(isinstance(one, str) and _is_unicode(one) for one in found):
        return found
    raise TokenRefused(f"its claim {name} is neither a text nor a list of texts")
