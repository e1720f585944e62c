"""A fake MCP server and its authorization server in one, honest until a test has it say something else: no real one lies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tests.conftest import free_socket, served

RESOURCE_PATH = "/.well-known/oauth-protected-resource/mcp"
ISSUER_PATH = "/.well-known/oauth-authorization-server"

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Liar:
    """A fake server and authorization server in one; what it says can be replaced."""

    url: str
    documents: dict[str, Callable[[], Reply]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)

    def say(self, path: str, document: Any, status: int = 200, **headers: str) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.documents[path] = lambda: (status, {"content-type": "application/json", **headers}, body)

    @property
    def resource(self) -> dict[str, Any]:
        return {"resource": f"{self.url}/mcp", "authorization_servers": [self.url]}

    @property
    def issuer(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "registration_endpoint": f"{self.url}/register",
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
        }


@asynccontextmanager
async def lying() -> AsyncIterator[Liar]:
    sock = free_socket()
    liar = Liar(f"http://127.0.0.1:{sock.getsockname()[1]}")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        body = b""
        while True:
            got = await receive()
            body += got.get("body", b"")
            if not got.get("more_body"):
                break
        liar.asked.append(scope["path"])
        liar.forms.append(dict(parse_qsl(body.decode())))
        status, headers, answer = liar.documents.get(scope["path"], lambda: (404, {}, b""))()
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": answer})

    liar.say("/mcp", {}, 401, **{"www-authenticate": "Bearer"})
    liar.say(RESOURCE_PATH, liar.resource)
    liar.say(ISSUER_PATH, liar.issuer)
    liar.say("/register", {"client_id": "hub"}, 201)
    liar.say("/token", {"access_token": "at-1", "token_type": "Bearer", "refresh_token": "rt-1"})
    async with served(app, sock):
        yield liar
