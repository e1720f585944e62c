"""A fake issuer of tokens: shows metadata and keys over HTTP, and signs with joserfc, which is not what the hub verifies with."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
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
        return JSONResponse({"issuer": made.named, "jwks_uri": f"{url}/keys"})

    async def keys(_request: Request) -> Response:
        made.asked += 1
        if made.is_down:
            return Response(status_code=503)
        own = KeySet(list(made.keys.values())).as_dict(private=False) if made.keys else {"keys": []}
        return JSONResponse({"keys": made.shown} if made.shown is not None else own)

    place = f"{path}/.well-known/{well_known}" if well_known[0] == "o" and "oauth" not in well_known else ""
    routes = [Route(place or f"/.well-known/{well_known}{path}", metadata), Route("/keys", keys)]
    async with served(Starlette(routes=routes), sock):
        yield made
