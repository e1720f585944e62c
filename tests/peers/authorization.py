"""An authorization server and MCP servers that want its tokens: the official SDK's, each on a free port.

The SDK's authorization server needs a provider that keeps clients, codes and tokens; `Provider` is that, in memory, and
signs in whoever the test says is at the browser. `Machines` is a fake: no SDK serves client credentials or RFC 8693.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import mcp_types as t
from mcp.server import Server
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.routes import create_auth_routes
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.conftest import free_socket, served
from tests.peers.mcp_servers import Peer, recorded


@dataclass
class Provider:
    """Clients, codes and tokens in memory."""

    user: str = "ann"
    """Who is at the browser."""
    lasts_s: int = 3600
    """How long access tokens do."""
    clients: dict[str, OAuthClientInformationFull] = field(default_factory=dict)
    codes: dict[str, AuthorizationCode] = field(default_factory=dict)
    refreshing: dict[str, RefreshToken] = field(default_factory=dict)
    tokens: dict[str, AccessToken] = field(default_factory=dict)
    refreshed: int = 0

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self.clients[client_info.client_id] = client_info

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        code = AuthorizationCode(
            code=secrets.token_urlsafe(32),
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            client_id=client.client_id,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
            subject=self.user,
        )
        self.codes[code.code] = code
        return construct_redirect_uri(str(params.redirect_uri), code=code.code, state=params.state)

    async def load_authorization_code(self, client: Any, authorization_code: str) -> AuthorizationCode | None:
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(self, client: Any, authorization_code: AuthorizationCode) -> OAuthToken:
        del self.codes[authorization_code.code]
        return self._issue(authorization_code)

    async def load_refresh_token(self, client: Any, refresh_token: str) -> RefreshToken | None:
        return self.refreshing.get(refresh_token)

    async def exchange_refresh_token(self, client: Any, refresh_token: RefreshToken, scopes: list[str]) -> OAuthToken:
        del self.refreshing[refresh_token.token]
        self.refreshed += 1
        return self._issue(refresh_token)

    async def load_access_token(self, token: str) -> AccessToken | None:
        return self.tokens.get(token)

    async def verify_token(self, token: str) -> AccessToken | None:
        found = self.tokens.get(token)
        return found if found and (found.expires_at or 0) > time.time() else None

    async def revoke_token(self, token: Any) -> None:
        raise NotImplementedError

    def _issue(self, grant: AuthorizationCode | RefreshToken) -> OAuthToken:
        common = {"client_id": grant.client_id, "scopes": grant.scopes, "resource": grant.resource}
        access, refresh = f"at-{secrets.token_urlsafe(24)}", f"rt-{secrets.token_urlsafe(24)}"
        expires_at = int(time.time()) + self.lasts_s
        self.tokens[access] = AccessToken(token=access, expires_at=expires_at, subject=grant.subject, **common)
        self.refreshing[refresh] = RefreshToken(token=refresh, subject=grant.subject, **common)
        return OAuthToken(
            access_token=access, refresh_token=refresh, expires_in=self.lasts_s, scope=" ".join(grant.scopes)
        )


@dataclass
class Authorization:
    """A running authorization server."""

    url: str
    provider: Provider
    seen: Peer


@asynccontextmanager
async def authorization_server() -> AsyncIterator[Authorization]:
    """The SDK's authorization server."""
    sock, seen, provider = free_socket(), Peer(), Provider()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    options = ClientRegistrationOptions(enabled=True, valid_scopes=["read", "write"], default_scopes=["read"])
    app = Starlette(routes=create_auth_routes(provider, AnyHttpUrl(url), client_registration_options=options))
    async with served(recorded(seen, app), sock):
        yield Authorization(url, provider, seen)


@dataclass
class Protected(Peer):
    """A server that wants tokens, and what a test may have it do at calls."""

    instead: Callable[[dict[str, Any]], bytes] | None = None
    """Makes the answer from the request's scope, in the place of the server's own."""
    needs: str = ""
    """A scope that calls need besides."""
    more: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Tools that are listed to one user only."""
    described: dict[str, str] = field(default_factory=dict)
    """What a user is told of each tool."""

    def refuses(self, scope: dict[str, Any], tokens: dict[str, AccessToken]) -> bool:
        shown = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        return bool(self.needs) and shown in tokens and self.needs not in tokens[shown].scopes


@asynccontextmanager
async def protected_server(
    issuer: str,
    verifier: Any,
    *,
    scopes: tuple[str, ...] = ("read",),
    make: Callable[[Peer], Server[Any]] | None = None,
) -> AsyncIterator[Protected]:
    """The SDK's MCP server of both eras, or what `make` makes, which serves nobody without a token for itself."""
    sock, peer = free_socket(), Protected()
    peer.url = f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"

    async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
        token = get_access_token()
        assert token is not None
        user = str(token.subject)
        names, said = ("whoami", *peer.more.get(user, ())), peer.described.get(user)
        tools = [t.Tool(name=name, description=said, input_schema={"type": "object"}) for name in names]
        return t.ListToolsResult(tools=tools)

    async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
        token = get_access_token()
        assert token is not None
        peer.calls.append((params.name, {"user": token.subject}))
        return t.CallToolResult(content=[t.TextContent(type="text", text=str(token.subject))])

    crm: Server[Any] = Server("crm", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    server = make(peer) if make is not None else crm
    auth = AuthSettings(
        issuer_url=AnyHttpUrl(issuer),
        resource_server_url=AnyHttpUrl(peer.url),
        required_scopes=list(scopes),
        validate_token_resource=True,
    )
    app = server.streamable_http_app(auth=auth, token_verifier=verifier)

    async def bent(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and peer.instead is not None:
            await _answer(send, 200, [(b"content-type", b"application/json")], peer.instead(scope))
        elif scope["type"] == "http" and peer.refuses(scope, verifier.tokens):
            wanted = f'Bearer error="insufficient_scope", scope="{peer.needs}"'
            await _answer(send, 403, [(b"www-authenticate", wanted.encode())], b"")
        else:
            await app(scope, receive, send)

    async with served(recorded(peer, bent), sock):
        yield peer


async def _answer(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Machines:
    """A fake token endpoint: gives a token to who asks right, and remembers what was asked."""

    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    tokens: dict[str, AccessToken] = field(default_factory=dict)
    resource: str = ""
    lasts_s: int = 3600
    subject_of: Callable[[dict[str, str]], str] = lambda form: "the hub"

    async def verify_token(self, token: str) -> AccessToken | None:
        return self.tokens.get(token)


@asynccontextmanager
async def machines() -> AsyncIterator[Machines]:
    """Serve it, with metadata (RFC 8414)."""
    sock = free_socket()
    made = Machines(f"http://127.0.0.1:{sock.getsockname()[1]}")

    async def token(request: Any) -> JSONResponse:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        made.asked.append(form | {"authorization": request.headers.get("authorization", "")})
        access = f"m2m-{secrets.token_urlsafe(16)}"
        made.tokens[access] = AccessToken(
            token=access,
            client_id="hub",
            scopes=["read"],
            resource=made.resource,
            subject=made.subject_of(form),
            expires_at=int(time.time()) + 3600,
        )
        return JSONResponse({"access_token": access, "token_type": "bearer", "expires_in": made.lasts_s})

    async def metadata(request: Any) -> JSONResponse:
        return JSONResponse({"issuer": made.url, "token_endpoint": f"{made.url}/token"})

    routes = [
        Route("/token", token, methods=["POST"]),
        Route("/.well-known/oauth-authorization-server", metadata),
    ]
    async with served(Starlette(routes=routes), sock):
        yield made


def headers_seen(peer: Peer) -> str:
    """Everything that a server was sent in headers."""
    return json.dumps([{name: str(value) for name, value in seen.items()} for seen in peer.requests])
