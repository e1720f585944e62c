"""A fake issuer of tokens: shows metadata and keys over HTTP, and signs with joserfc, which is not what the hub verifies with.

People who come to its page are signed in at once, as rita. It can be told to lie in every way in which attackers would.
"""

from __future__ import annotations

import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode

from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.conftest import free_socket, served

Key = ECKey | RSAKey | OctKey
ALL = ["ES256", "ES384", "RS256", "PS256", "HS256", "none"]


@dataclass
class FakeIssuer:
    """What it shows, and how often it was asked for its keys."""

    url: str
    named: str = ""
    """The issuer that its metadata names."""
    audience: str = "hub"
    keys: dict[str, Key] = field(default_factory=dict)
    shown: list[dict[str, Any]] | None = None
    """Instead of its own keys."""
    is_down: bool = False
    asked: int = 0
    shows: dict[str, Any] = field(default_factory=dict)
    """More members of its metadata."""
    answers: dict[str, str | None] = field(default_factory=dict)
    """Other members of the answers with which it sends browsers back; None: left out."""
    identity: dict[str, Any] = field(default_factory=dict)
    """Other claims of ID tokens, as `token` takes them."""
    forge: Callable[[dict[str, Any]], str] | None = None
    """Makes ID tokens of their claims instead."""
    info: dict[str, Any] = field(default_factory=dict)
    """What its UserInfo says."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    """What was asked for with each code that nobody has used."""
    forms: list[dict[str, str]] = field(default_factory=list)
    """What came to its token endpoint."""

    def new_key(self, kid: str, algorithm: str = "ES256") -> Key:
        """Begin to sign with another key, beside those that it has."""
        if algorithm == "ES256":
            self.keys[kid] = ECKey.generate_key("P-256", {"kid": kid})
        else:
            self.keys[kid] = RSAKey.generate_key(2048, {"kid": kid})
        return self.keys[kid]

    def claims(self, **members: Any) -> dict[str, Any]:
        """Those of a valid token; a member that is None is left out."""
        now = int(time.time())
        found = {"iss": self.named, "aud": self.audience, "sub": "rita", "iat": now, "exp": now + 600, **members}
        return {name: value for name, value in found.items() if value is not None}

    def token(self, *, kid: str | None = "one", key: Key | None = None, **members: Any) -> str:
        """Sign a token; members beginning with `h_` are of its header, `alg` too."""
        header = {name[2:]: members.pop(name) for name in [*members] if name.startswith("h_")}
        signer = key or self.keys[kid or "one"]
        header = {"alg": "ES256" if isinstance(signer, ECKey) else "RS256", **header}
        if kid is not None:
            header["kid"] = kid
        registry = jws.JWSRegistry(algorithms=ALL, strict_check_header=False)
        return jwt.encode(header, self.claims(**members), signer, algorithms=ALL, registry=registry)

    def authorize(self, asked: Mapping[str, str]) -> str:
        """Sign somebody in, and say where the browser goes then."""
        code = f"code-{secrets.token_hex(8)}"
        self.codes[code] = dict(asked)
        answer: dict[str, str | None] = {"code": code, "state": asked["state"], "iss": self.named, **self.answers}
        return f"{asked['redirect_uri']}?{urlencode({name: said for name, said in answer.items() if said is not None})}"

    def redeem(self, form: dict[str, str]) -> Response:
        """Answer a token request; a code is good for one, and with its own verifier."""
        self.forms.append(form)
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        said = {"aud": asked["client_id"], "nonce": asked["nonce"], **self.identity}
        token = self.forge(said) if self.forge is not None else self.token(**said)
        return JSONResponse({"access_token": "at-1", "token_type": "Bearer", "expires_in": 60, "id_token": token})


@asynccontextmanager
async def open_issuer(path: str = "", *, well_known: str = "openid-configuration") -> AsyncIterator[FakeIssuer]:
    """Serve an issuer with one key, `one`."""
    sock = free_socket()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    made = FakeIssuer(url, named=f"{url}{path}")
    made.new_key("one")

    async def metadata(_request: Request) -> Response:
        if made.is_down:
            return Response(status_code=503)
        pages = {f"{name}_endpoint": f"{url}/{name}" for name in ("authorization", "token")}
        return JSONResponse({"issuer": made.named, "jwks_uri": f"{url}/keys", **pages, **made.shows})

    async def authorization(request: Request) -> Response:
        return RedirectResponse(made.authorize(request.query_params), 303)

    async def token(request: Request) -> Response:
        if made.is_down:
            return Response(status_code=503)
        return made.redeem(dict(parse_qsl((await request.body()).decode())))

    async def userinfo(request: Request) -> Response:
        known = request.headers.get("authorization") == "Bearer at-1"
        return JSONResponse(made.info) if known else Response(status_code=401)

    async def keys(_request: Request) -> Response:
        made.asked += 1
        if made.is_down:
            return Response(status_code=503)
        own = KeySet(list(made.keys.values())).as_dict(private=False) if made.keys else {"keys": []}
        return JSONResponse({"keys": made.shown} if made.shown is not None else own)

    place = f"{path}/.well-known/{well_known}" if well_known[0] == "o" and "oauth" not in well_known else ""
    routes = [Route(place or f"/.well-known/{well_known}{path}", metadata), Route("/keys", keys)]
    routes += [Route("/authorization", authorization), Route("/token", token, methods=["POST"])]
    routes += [Route("/userinfo", userinfo)]
    async with served(Starlette(routes=routes), sock):
        yield made
