"""Tokens that must open nothing: forged, bent, expired, for others, of others; and what issuers that misbehave can do."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from joserfc.jwk import ECKey, OctKey

from registry.callers import issuers, tokens
from tests.conftest import ADMIN_KEY, Hub, open_hub
from tests.peers.issuer import FakeIssuer, open_issuer

USER = {"name": "rita", "allow": ["agent:*", "model:*", "tool:*"]}


def setting(*items: dict[str, Any]) -> str:
    return f"issuers: {json.dumps(list(items))}"


def declared(issuer: FakeIssuer, **members: Any) -> dict[str, Any]:
    return {"issuer": issuer.named, "audience": "hub", **members}


@asynccontextmanager
async def hub_of(tmp_path: Path, *items: dict[str, Any]) -> AsyncIterator[Hub]:
    async with open_hub(tmp_path, setting=setting(*items)) as hub:
        async with hub.http(ADMIN_KEY) as http:
            assert (await http.post("/api/users", json=USER)).status_code == 201
        yield hub


async def status(hub: Hub, token: str, path: str = "/v1/models") -> int:
    async with hub.http(token) as http:
        return (await http.get(path)).status_code


def part(members: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()


def with_header(token: str, **members: Any) -> str:
    head, _, rest = token.partition(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    return f"{part({**header, **members})}.{rest}"


def unsigned(issuer: FakeIssuer, algorithm: str = "none") -> str:
    return f"{part({'alg': algorithm, 'typ': 'JWT', 'kid': 'one'})}.{part(issuer.claims())}."


def by_hmac(issuer: FakeIssuer, kid: str, secret: bytes) -> str:
    """Made by hand: the library refuses to."""
    signed = f"{part({'alg': 'HS256', 'kid': kid})}.{part(issuer.claims())}"
    signature = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def signed_with_the_public_key(issuer: FakeIssuer) -> str:
    return by_hmac(issuer, "rsa", issuer.keys["rsa"].as_pem(private=False))


def of_another_key(issuer: FakeIssuer) -> str:
    return issuer.token(key=ECKey.generate_key("P-256"))


def that_brings_its_key(issuer: FakeIssuer) -> str:
    own = ECKey.generate_key("P-256", {"kid": "one"})
    return issuer.token(key=own, h_jwk=own.as_dict(private=False))


def that_says_where_its_key_is(issuer: FakeIssuer) -> str:
    own = ECKey.generate_key("P-256", {"kid": "mine"})
    where = {"h_jku": f"{issuer.url}/other", "h_x5u": f"{issuer.url}/other"}
    return issuer.token(kid="mine", key=own, **where)


def with_critical_header(issuer: FakeIssuer) -> str:
    """Signed by PyJWT: the other library refuses to."""
    key = issuer.keys["one"].as_pem(private=True)
    return jwt.encode(issuer.claims(), key, "ES256", headers={"kid": "one", "crit": ["mine"], "mine": 1})


FORGED: dict[str, Callable[[FakeIssuer], str]] = {
    "another audience": lambda issuer: issuer.token(aud="hub2"),
    "alg none": unsigned,
    "alg None": lambda issuer: unsigned(issuer, "None"),
    "no alg": lambda issuer: unsigned(issuer, ""),
    "HS256 with the public key": signed_with_the_public_key,
    "another key under a known kid": of_another_key,
    "its own key in its header": that_brings_its_key,
    "its own key at an address": that_says_where_its_key_is,
    "unknown kid": lambda issuer: issuer.token(kid="two", key=issuer.keys["one"]),
    "an algorithm that is not in the file": lambda issuer: issuer.token(kid="rsa", h_alg="PS256"),
    "a changed header": lambda issuer: with_header(issuer.token(), typ="at+jwt"),
    "another issuer": lambda issuer: issuer.token(iss=f"{issuer.named}/"),
    "a prefix of the audience": lambda issuer: issuer.token(aud="hu"),
    "no audience": lambda issuer: issuer.token(aud=None),
    "an audience that is a map": lambda issuer: issuer.token(aud={"hub": 1}),
    "expired": lambda issuer: issuer.token(exp=int(time.time()) - 60),
    "no expiry": lambda issuer: issuer.token(exp=None),
    "an endless expiry": lambda issuer: issuer.token(exp=10**400),
    "an expiry that is a text": lambda issuer: issuer.token(exp="soon"),
    "not yet valid": lambda issuer: issuer.token(nbf=int(time.time()) + 300),
    "issued in the future": lambda issuer: issuer.token(iat=int(time.time()) + 300),
    "no user": lambda issuer: issuer.token(sub=None),
    "a user that is a list": lambda issuer: issuer.token(sub=["rita"]),
    "an empty user": lambda issuer: issuer.token(sub=""),
    "an unknown user": lambda issuer: issuer.token(sub="nobody"),
    "a user by another spelling": lambda issuer: issuer.token(sub="Rita"),
    "a token for another purpose": lambda issuer: issuer.token(h_typ="logout+jwt"),
    "bound to a key": lambda issuer: issuer.token(cnf={"jkt": "x"}),
    "an unknown critical header": lambda issuer: with_critical_header(issuer),
    "two parts": lambda issuer: issuer.token().rpartition(".")[0],
    "four parts": lambda issuer: f"{issuer.token()}.x",
    "a changed signature": lambda issuer: issuer.token()[:-4] + "AAAA",
    "deep": lambda issuer: f"{part({'alg': 'ES256'})}.{base64.urlsafe_b64encode(b'[' * 9000).decode()}.x",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
@pytest.mark.attack("2.1/18", defence="registry.callers.tokens:_paths")
async def test_a_token_that_is_not_true_or_not_for_the_hub_opens_nothing(
    tmp_path: Path, forge: Callable[[FakeIssuer], str]
) -> None:
    async with open_issuer() as issuer:
        issuer.new_key("rsa", "RS256")
        async with hub_of(tmp_path, declared(issuer)) as hub:
            assert await status(hub, forge(issuer)) == 401
            assert await status(hub, issuer.token()) == 200  # nor does it hurt anybody else
            assert await status(hub, issuer.token(kid="rsa")) == 200
            assert await status(hub, forge(issuer)) == 401


async def test_a_key_of_one_issuer_signs_for_no_other(tmp_path: Path) -> None:
    async with open_issuer() as one, open_issuer() as other:
        theirs = other.new_key("two")
        async with hub_of(tmp_path, declared(one), declared(other)) as hub:
            assert await status(hub, one.token()) == await status(hub, other.token(kid="two")) == 200
            assert await status(hub, one.token(kid="two", key=theirs)) == 401
            assert await status(hub, one.token(kid="one", key=other.keys["one"])) == 401
            assert await status(hub, other.token(kid="two", iss=one.named)) == 401


async def test_users_that_one_issuer_made_are_not_those_of_another(tmp_path: Path) -> None:
    """The same subject at two issuers, and a user of the operator's that is called so too: three people."""
    async with open_issuer() as one, open_issuer() as other:
        items = [declared(issuer, create_users=True, allow=["admin:users"]) for issuer in (one, other)]
        async with hub_of(tmp_path, *items) as hub:
            for issuer in (one, other, one):
                async with hub.http(issuer.token()) as http:
                    assert (await http.get("/api/users")).status_code == 200
            async with hub.http(ADMIN_KEY) as http:
                names = [user["name"] for user in (await http.get("/api/users")).json()["items"]]
    assert len(names) == 3
    assert names.count("rita") == 1


async def test_a_user_that_an_issuer_made_is_not_taken_by_name(tmp_path: Path) -> None:
    async with open_issuer() as one, open_issuer() as other:
        items = [declared(one, create_users=True, allow=["model:*"]), declared(other, allow=["model:*"])]
        async with hub_of(tmp_path, *items) as hub:
            assert await status(hub, one.token(sub="eve")) == 200
            assert await status(hub, other.token(sub="eve@127.0.0.1")) == 401


@pytest.mark.attack("2.2/6", defence="hub.auth:hash_of")
async def test_tokens_that_begin_alike_are_not_taken_for_one_another(tmp_path: Path) -> None:
    async with open_issuer() as issuer, hub_of(tmp_path, declared(issuer)) as hub:
        token = issuer.token(pad="x" * 5000)
        assert await status(hub, token) == 200
        head, _, signature = token.rpartition(".")
        for other in (f"{head}.{signature[:-6]}AAAAAA", f"{head}.", token[:-1], f"{token}A", token[:4096]):
            assert await status(hub, other) == 401


async def test_a_key_set_cannot_make_the_hub_verify_what_it_should_not(tmp_path: Path) -> None:
    """Shared secrets, keys for encryption and weak keys in an issuer's set verify nothing."""
    async with open_issuer() as issuer, hub_of(tmp_path, declared(issuer)) as hub:
        secret = OctKey.import_key("a secret that is long enough for it")
        sealing = ECKey.generate_key("P-256", {"kid": "sealing"})
        issuer.shown = [
            {**secret.as_dict(), "kid": "secret"},
            {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "weak"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "none"},
            {"kid": ["a"], "kty": {}},
            {**sealing.as_dict(private=False), "use": "enc"},
            issuer.keys["one"].as_dict(private=False),
        ]
        assert await status(hub, by_hmac(issuer, "secret", b"a secret that is long enough for it")) == 401
        assert await status(hub, issuer.token(kid="sealing", key=sealing)) == 401
        assert await status(hub, issuer.token()) == 200


async def test_metadata_of_another_issuer_is_not_believed(tmp_path: Path) -> None:
    async with open_issuer() as issuer:
        declared_as = issuer.named
        issuer.named = f"{issuer.url}/other"
        async with hub_of(tmp_path, {"issuer": declared_as, "audience": "hub"}) as hub:
            assert await status(hub, issuer.token(iss=declared_as)) == 503
            assert issuer.asked == 0


async def test_strangers_cannot_have_an_issuer_asked_again_and_again(tmp_path: Path) -> None:
    async with open_issuer() as issuer, hub_of(tmp_path, declared(issuer)) as hub:
        for number in range(20):
            assert await status(hub, issuer.token(kid=f"guess-{number}", key=issuer.keys["one"])) == 401
        assert issuer.asked == 1
        assert await status(hub, issuer.token()) == 200


@pytest.mark.attack("2.1/37")
async def test_what_trips_the_hub_in_a_token_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trip(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    async with open_issuer() as issuer, hub_of(tmp_path, declared(issuer)) as hub:
        assert await status(hub, issuer.token()) == 200
        monkeypatch.setattr(issuers, "verified", trip)
        assert await status(hub, issuer.token(other=1)) == 401


@pytest.mark.parametrize("verified", [False, None, "true"])
async def test_an_email_that_nobody_verified_is_nobodys(tmp_path: Path, verified: object) -> None:
    async with open_issuer() as issuer:
        item = declared(issuer, claims={"user": "email"}, create_users=True, allow=["model:*"])
        async with hub_of(tmp_path, item) as hub:
            assert await status(hub, issuer.token(email="eve@example.com", email_verified=verified)) == 401
            assert await status(hub, issuer.token(email="eve@example.com", email_verified=True)) == 200


def test_no_algorithm_with_a_shared_secret_can_be_declared() -> None:
    assert not [name for name in tokens.Algorithm.__args__ if name.startswith("HS") or name == "none"]
