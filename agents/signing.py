"""Signatures: the hub's own on the cards it publishes and the tokens it sends, and those of upstreams' cards.

A card's signature is a detached JWS over its canonical JSON (A2A 1.0 §8.4, RFC 7515, RFC 8785), ES256. Where the hub's keys
are kept is the registry's; a key that a card names by `jku` is never fetched.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry import judged
from registry.judged import JsonObject
from registry.sealed.signing_keys import SigningKeys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from jwt import PyJWK

# jwt and rfc8785 are imported where they are used: jwt costs 60 ms, and a hub may start without signing anything

logger = logging.getLogger(__name__)

ALGORITHM = "ES256"
JWKS_PATH = "/.well-known/jwks.json"


class Signatures:
    """The hub's signer, opened when it is first needed. One for a process."""

    def __init__(self, keys: SigningKeys, *, public_url: str) -> None:
        self._keys = keys
        self._jku = f"{public_url.rstrip('/')}{JWKS_PATH}"
        self._signers: list[Signer] = []
        self._opening = asyncio.Lock()

    async def signer(self) -> Signer:
        """The signer with the newest key."""
        return (await self._opened())[0]

    async def jwks(self) -> bytes:
        """The public keys as a JWK set (RFC 7517 §5)."""
        return judged.encode({"keys": [signer.public_jwk for signer in await self._opened()]})

    async def _opened(self) -> list[Signer]:
        if not self._signers:
            async with self._opening:
                if not self._signers:
                    private = await self._keys.newest_first(_make_key)
                    self._signers = [await asyncio.to_thread(Signer.open, der, self._jku) for der in private]
        return self._signers


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with one key."""

    _key: EllipticCurvePrivateKey
    kid: str
    public_jwk: JsonObject
    _jku: str

    @classmethod
    def open(cls, private: bytes, jku: str) -> Signer:
        """Read a key that `_make_key` made."""
        # cryptography's parts are not needed to start
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_der_private_key  # noqa: PLC0415

        key = load_der_private_key(private, None)
        assert isinstance(key, EllipticCurvePrivateKey), "the hub makes no others"
        public = _public_jwk(key)
        kid = _thumbprint(public)
        return cls(key, kid, {**public, "kid": kid, "use": "sig", "alg": ALGORITHM}, jku)

    def card_signature(self, card: JsonObject) -> JsonObject | None:
        """Sign a card of A2A 1.0, as an item of its `signatures`; None: it has no canonical form.

        Empty members are left out of what is signed, as the official SDKs do: they cannot tell them from absent ones.
        """
        import rfc8785  # noqa: PLC0415  # see above
        from jwt import api_jws  # noqa: PLC0415

        try:
            payload = rfc8785.dumps(_without_empty(card))
        except rfc8785.CanonicalizationError as error:  # a number beyond 2^53 in an extension's parameters
            logger.warning("a card cannot be signed", extra={"card": card.get("name"), "reason": str(error)})
            return None
        header = {"alg": ALGORITHM, "typ": "JOSE", "kid": self.kid, "jku": self._jku}
        protected, _, signature = api_jws.encode(payload, self._key, ALGORITHM, headers=header).split(".")
        return {"protected": protected, "signature": signature}

    def sign(self, claims: dict[str, object]) -> str:
        """Make a JWT of `claims`, which say themselves how long it is good."""
        import jwt  # noqa: PLC0415  # see above

        return jwt.encode(claims, self._key, ALGORITHM, headers={"kid": self.kid, "jku": self._jku})


def _make_key() -> tuple[str, bytes]:
    """Make a key: its thumbprint, and the private key in DER."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # as in Signer.open
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return _thumbprint(_public_jwk(key)), der


def _public_jwk(key: EllipticCurvePrivateKey) -> JsonObject:
    from jwt.algorithms import ECAlgorithm  # noqa: PLC0415  # see above

    whole: JsonObject = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {member: whole[member] for member in ("crv", "kty", "x", "y")}


def _thumbprint(public: JsonObject) -> str:
    """RFC 7638; its members are texts, in the order of their names."""
    return base64.urlsafe_b64encode(hashlib.sha256(judged.encode(public)).digest()).rstrip(b"=").decode()


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        cleaned = {name: _without_empty(item) for name, item in value.items()}
        return {name: item for name, item in cleaned.items() if not _is_empty(item)}
    if isinstance(value, list):
        return [item for item in map(_without_empty, value) if not _is_empty(item)]
    return value


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def verified(members: JsonObject, pinned: tuple[str, ...]) -> JsonObject | None:
    """What of an upstream's card one of the `pinned` keys (JWKs as JSON) signed; None: nothing.

    A signature is over the card as it came, or over what the official SDKs read of it: then members that they do not
    know are not signed, and not in the answer.

    Raises:
        ValueError: a pinned key cannot be used.
    """
    keys = [_pinned(text) for text in pinned]
    if any(_signs_all(members, key) for key in keys):
        return members
    return next((signed for key in keys if (signed := _signed_for_sdks(members, key)) is not None), None)


def _pinned(text: str) -> PyJWK:
    from jwt import PyJWK  # noqa: PLC0415  # see above
    from jwt.exceptions import PyJWTError  # noqa: PLC0415

    try:
        key = PyJWK.from_json(text)
    except (PyJWTError, ValueError) as error:
        raise ValueError(f"a key of card_keys cannot be used: {error}") from None
    if key.key_type not in {"EC", "RSA", "OKP"}:
        raise ValueError("a key of card_keys is not a public key")
    return key


def _signs_all(members: JsonObject, key: PyJWK) -> bool:
    import rfc8785  # noqa: PLC0415  # see above
    from jwt import api_jws  # noqa: PLC0415
    from jwt.exceptions import PyJWTError  # noqa: PLC0415

    try:
        payload = rfc8785.dumps({name: value for name, value in members.items() if name != "signatures"})
    except rfc8785.CanonicalizationError:
        return False
    encoded = base64.urlsafe_b64encode(payload).rstrip(b"=").decode()
    for protected, signature in _signatures(members):
        try:
            api_jws.decode(f"{protected}.{encoded}.{signature}", key, algorithms=[key.algorithm_name])
        except PyJWTError:
            continue
        return True
    return False


def _signatures(members: JsonObject) -> Iterator[tuple[str, str]]:
    found = members.get("signatures")
    for one in found if isinstance(found, list) else ():
        if isinstance(one, dict) and isinstance(one.get("protected"), str) and isinstance(one.get("signature"), str):
            yield one["protected"], one["signature"]


def _signed_for_sdks(members: JsonObject, key: PyJWK) -> JsonObject | None:
    # the SDK takes half a second to import: only where keys are pinned
    from a2a.client.card_resolver import parse_agent_card  # noqa: PLC0415
    from a2a.utils.signing import SignatureVerificationError, create_signature_verifier  # noqa: PLC0415
    from google.protobuf.json_format import MessageToDict, ParseError  # noqa: PLC0415

    verify = create_signature_verifier(lambda _kid, _jku: key, [key.algorithm_name])
    try:
        card = parse_agent_card(copy.deepcopy(members))  # it takes the members of 0.3 out of what it is given
        verify(card)
    except (ParseError, SignatureVerificationError, ValueError):
        return None
    signed: JsonObject = MessageToDict(card)
    return {name: value for name, value in signed.items() if name != "signatures"}
