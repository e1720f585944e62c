"""Signatures: the hub's read by the official SDK and by another JOSE library, upstreams' verified against pinned keys."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
import rfc8785
from a2a.client.card_resolver import parse_agent_card
from a2a.server.routes.agent_card_routes import agent_card_to_dict
from a2a.types import AgentCard
from a2a.utils.signing import InvalidSignaturesError, create_agent_card_signer, create_signature_verifier
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc import jwt as other_jwt
from joserfc.jwk import ECKey, KeySet

from agents import signing
from agents.cards import Offer, build, card_of, with_old_members
from agents.signing import Signatures, Signer
from registry.sealed.secrets import Sealer
from registry.sealed.signing_keys import SigningKeys
from registry.store.db import open_database
from registry.store.schema import migrate

JKU = "https://hub.example/.well-known/jwks.json"


@pytest.fixture
def signer() -> Signer:
    return Signer.open(signing._make_key()[1], JKU)


def hub_card(signer: Signer, **members: Any) -> dict[str, Any]:
    """A card of the hub's as it is published, signed."""
    card = card_of({"name": "Écho", "url": "http://a.internal", "capabilities": {}, "skills": [], **members})
    assert card is not None
    built = build(card, configured="http://a.internal", offer=Offer(agent="echo", address="https://hub.example/a2a/e/"))
    signature = signer.card_signature(built)
    assert signature is not None
    return with_old_members({**built, "signatures": [signature]})


MEMBERS: list[dict[str, Any]] = [
    {},
    {
        "description": "€ \u2028 \U0001f600",
        "skills": [{"id": "s", "name": "", "tags": [], "examples": ["x"]}, {"id": "t"}],
        "capabilities": {
            "streaming": False,
            "extensions": [
                {"uri": "urn:a", "required": False, "params": {"n": 1, "f": 1.5, "e": 1e30, "none": None, "empty": {}}},
                {"uri": "urn:b", "required": True, "description": ""},
            ],
        },
        "provider": {"organization": "o", "url": "https://o.example"},
    },
]


@pytest.mark.parametrize("members", MEMBERS)
def test_official_sdk_verifies_what_the_hub_signs(signer: Signer, members: dict[str, Any]) -> None:
    seen = []

    def key_of(kid: str | None, jku: str | None) -> jwt.PyJWK:
        seen.append((kid, jku))
        return jwt.PyJWK(signer.public_jwk)

    verify = create_signature_verifier(key_of, ["ES256"])
    published = hub_card(signer, **members)
    verify(parse_agent_card(copy.deepcopy(published)))
    assert seen == [(signer.kid, JKU)]
    for member, value in (("name", "Other"), ("securityRequirements", []), ("supportedInterfaces", [])):
        with pytest.raises(InvalidSignaturesError):
            verify(parse_agent_card({**copy.deepcopy(published), member: value}))


def test_a_stock_jose_library_verifies_what_the_hub_signs(signer: Signer) -> None:
    published = hub_card(signer, **MEMBERS[1])
    one = published["signatures"][0]
    protected = json.loads(base64.urlsafe_b64decode(one["protected"] + "=="))
    assert protected == {"alg": "ES256", "typ": "JOSE", "kid": signer.kid, "jku": JKU}
    card = parse_agent_card(copy.deepcopy(published))
    from a2a.utils.signing import _canonicalize_agent_card

    payload = base64.urlsafe_b64encode(_canonicalize_agent_card(card).encode()).rstrip(b"=").decode()
    key = ECKey.import_key(signer.public_jwk)
    jws.deserialize_compact(f"{one['protected']}.{payload}.{one['signature']}", key)
    assert key.thumbprint() == signer.kid


def test_a_token_is_a_jwt_that_a_stock_library_verifies(signer: Signer) -> None:
    token = signer.sign({"iss": "https://hub.example", "taskId": "t"})
    read = other_jwt.decode(token, KeySet.import_key_set({"keys": [signer.public_jwk]}))  # chosen by its kid
    assert read.claims == {"iss": "https://hub.example", "taskId": "t"}


def test_a_card_without_canonical_form_is_published_unsigned(signer: Signer, caplog: pytest.LogCaptureFixture) -> None:
    assert signer.card_signature({"name": "a", "n": 2**60}) is None
    assert "cannot be signed" in caplog.text


async def test_the_key_is_made_once_and_stored_sealed(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/hub.db"
    async with open_database(address) as database:
        migrate(database.engine)
        first = Signatures(SigningKeys(database, Sealer([b"k" * 32])), public_url="https://hub.example/")
        kid = (await first.signer()).kid
        again = Signatures(SigningKeys(database, Sealer([b"k" * 32])), public_url="https://hub.example")
        assert (await again.signer()).kid == kid
        published = json.loads(await again.jwks())["keys"]
        assert [(key["kid"], key["alg"], key["use"]) for key in published] == [(kid, "ES256", "sig")]
        assert not {"d", "k"} & published[0].keys()
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("hub.db*"))
    assert kid.encode() in stored
    private = again._signers[0]._key.private_numbers().private_value.to_bytes(32, "big")
    assert private not in stored


async def test_a_key_that_no_sealing_key_opens_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with open_database(f"sqlite:///{tmp_path}/hub.db") as database:
        migrate(database.engine)
        old = await Signatures(SigningKeys(database, Sealer([b"a" * 32])), public_url="https://h").signer()
        new = Signatures(SigningKeys(database, Sealer([b"b" * 32])), public_url="https://h")
        assert (await new.signer()).kid != old.kid
        assert len(json.loads(await new.jwks())["keys"]) == 1
    assert "cannot be used" in caplog.text


def upstream_key() -> tuple[ec.EllipticCurvePrivateKey, str]:
    """A private key, and the JWK that an operator pins."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key, json.dumps(signing._public_jwk(key))


def sdk_signed(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """A card as an agent of the SDK serves it, signed; its jku leads nowhere."""
    card = AgentCard(name="Echo", description="d", version="1")
    for version in ("1.0", "0.3"):
        card.supported_interfaces.add(url="http://a.internal/rpc", protocol_binding="JSONRPC", protocol_version=version)
    header = {"alg": "ES256", "typ": "JOSE", "kid": "any", "jku": "http://127.0.0.1:9/jwks"}
    return agent_card_to_dict(create_agent_card_signer(key, header)(card))


def test_a_card_that_the_sdk_signed_is_verified_by_the_pinned_key() -> None:
    key, pinned = upstream_key()
    _, other = upstream_key()
    members = sdk_signed(key)
    signed = signing.verified(members, (other, pinned))
    assert signed is not None
    assert signed["name"] == "Echo"
    assert len(signed["supportedInterfaces"]) == 2
    assert "url" not in signed, "what the SDK added after signing is not signed"
    assert signing.verified(members, (other,)) is None
    for changed in ({"name": "Evil"}, {"skills": [{"id": "x"}]}, {"signatures": []}, {"signatures": "x"}):
        assert signing.verified({**members, **changed}, (pinned,)) is None


def test_members_that_a_signature_does_not_cover_do_not_count() -> None:
    key, pinned = upstream_key()
    members = {**sdk_signed(key), "url": "http://evil.example/", "additionalInterfaces": [{"url": "x"}], "more": 1}
    signed = signing.verified(members, (pinned,))
    assert signed is not None
    assert "evil" not in json.dumps(signed)
    assert not {"more", "additionalInterfaces"} & signed.keys()


def test_a_card_signed_as_it_stands_is_verified_whole() -> None:
    key, pinned = upstream_key()
    members = {"name": "a", "url": "http://a/", "skills": [], "securitySchemes": {"m": {"mtlsSecurityScheme": {}}}}
    protected, _, signature = jwt.api_jws.encode(rfc8785.dumps(members), key, "ES256").split(".")
    signed = {
        **members,
        "signatures": [{"protected": "!", "signature": ""}, {"protected": protected, "signature": signature}],
    }
    assert signing.verified(signed, (pinned,)) == signed
    assert signing.verified({**signed, "securitySchemes": {}}, (pinned,)) is None


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
@pytest.mark.attack("2.1/40", "2.2/34", defence="agents.signing:verified")
def test_no_other_algorithm_than_the_pinned_keys_is_believed(algorithm: str) -> None:
    _, pinned = upstream_key()
    members = {"name": "a", "url": "http://a/"}
    secret = None if algorithm == "none" else json.loads(pinned)["x"]
    protected, _, signature = jwt.api_jws.encode(rfc8785.dumps(members), secret, algorithm).split(".")  # type: ignore[arg-type]
    assert (
        signing.verified({**members, "signatures": [{"protected": protected, "signature": signature}]}, (pinned,))
        is None
    )


@pytest.mark.parametrize("text", ["{}", '{"kty":"EC","crv":"P-256","x":"!","y":"!"}', '{"kty":"oct","k":"c2VjcmV0"}'])
def test_a_pinned_key_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="card_keys"):
        signing.verified({"name": "a"}, (text,))
