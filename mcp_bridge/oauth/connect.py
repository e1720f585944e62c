"""How a principal connects its account at a server: authorization code with PKCE (OAuth 2.1 §4.1), from the link to the vault.

Who opens the link, and in which browser, the door has found out; here both must be the same at the end as at the
beginning. Knows no HTTP server and shows nothing.
"""

from __future__ import annotations

import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import msgspec

from mcp_bridge.oauth.credentials import Account, Credentials
from mcp_bridge.oauth.fetch import Way, check_browsable, fetch, origin
from mcp_bridge.oauth.links import Link
from mcp_bridge.oauth.tokens import Client, TokenRefused, Tokens, method_of, request_tokens
from registry.access import OF_SERVERS, SEPARATOR
from registry.catalog import Catalog
from registry.entries import Server
from registry.errors import InvalidRequest, NotFound, UpstreamInvalid
from registry.identity import Principal
from registry.judged import JsonObject, encode
from registry.sealed.secrets import digest

if TYPE_CHECKING:
    from mcp_bridge.oauth.discovery import AuthorizationServer

CALLBACK_PATH = "/oauth/callback"
CLIENT_PATH = "/oauth/client.json"
"""Where the client metadata document is (CIMD): its address is the hub's client id."""

FLOW_S = 600.0
"""How long a user may take at the authorization server."""

NAME = "Hubbub"


class Plan(msgspec.Struct, frozen=True):
    """What a user is asked to consent to."""

    server: str
    resource: str
    """Host of the server."""
    issuer: str
    """Host of the authorization server."""
    scopes: tuple[str, ...]
    sends_to: str
    """The origin that the browser is sent to."""


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """What the authorization server sent the browser back with."""

    state: str
    code: str | None = None
    iss: str | None = None
    error: str | None = None


class _Flow(msgspec.Struct, frozen=True, kw_only=True):
    """An authorization under way."""

    principal: str
    browser: str
    """A digest of what only this browser knows."""
    server: str
    iss_is_sent: bool
    verifier: str
    account: Account
    """As it will be kept; its tokens say no more yet than the scope that is asked for."""


class _Registered(msgspec.Struct):
    client_id: str
    client_secret: str | None = None
    token_endpoint_auth_method: str | None = None


class Connect:
    """Connects accounts. One for a process."""

    def __init__(self, credentials: Credentials, *, public_url: str, catalog: Callable[[], Catalog]) -> None:
        self._credentials = credentials
        self._catalog = catalog
        self._redirect_uri = f"{public_url.rstrip('/')}{CALLBACK_PATH}"
        self._client_url = f"{public_url.rstrip('/')}{CLIENT_PATH}"

    def client_metadata(self) -> JsonObject:
        """The hub as a client, for authorization servers that read it at its address."""
        return {"client_id": self._client_url, **self._registration("none")}

    def server(self, principal: Principal, name: str) -> Server:
        """The server of this name, if the principal may use it with an account of its own; raises `NotFound`."""
        server = self._catalog().servers.get(name)
        may_use = any(principal.grants.reach(kind, f"{name}{SEPARATOR}") for kind in OF_SERVERS)
        if server is None or server.auth is None or server.auth.type != "user_oauth" or not may_use:
            raise NotFound("server", name)
        return server

    def link(self, principal: Principal, server: Server) -> str:
        """Make a link for a principal that comes without one."""
        return self._credentials.links.new(principal.id, server.name)

    def open(self, text: str) -> Link:
        """Read a link's last part; raises `InvalidRequest`."""
        link = self._credentials.links.open(text)
        if link is None:
            raise InvalidRequest("This link has expired, or is not whole. Try again in your client to get another.")
        return link

    async def plan(self, server: Server, link: Link) -> Plan:
        """Find out what the user is asked to consent to; raises `UpstreamError`."""
        async with self._credentials.way(server) as way:
            found = await self._credentials.discover(way, server)
            endpoint = await _authorization_endpoint(way, found.authorization_server)
            issuer, resource = (urlsplit(url).netloc for url in (found.authorization_server.issuer, found.resource))
            scopes = _scopes(link, found.scopes, found.authorization_server)
            return Plan(server.name, resource, issuer, scopes, origin(endpoint))

    async def begin(self, server: Server, link: Link, browser: str) -> str:
        """Begin what the user consented to; returns where the browser goes now.

        Raises:
            InvalidRequest: the link was used before.
            UpstreamError: the authorization server cannot be used.
        """
        async with self._credentials.way(server) as way:
            found = await self._credentials.discover(way, server)
            chosen = found.authorization_server
            endpoint = await _authorization_endpoint(way, chosen)
            scope = " ".join(_scopes(link, found.scopes, chosen))
            client = await self._client(way, server, chosen, scope)
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(32)
        flow = _Flow(
            principal=link.principal,
            browser=digest(browser.encode()),
            server=server.name,
            iss_is_sent=chosen.authorization_response_iss_parameter_supported is True,
            verifier=verifier,
            account=Account(
                url=server.url or "",
                issuer=chosen.issuer,
                token_endpoint=chosen.token_endpoint,
                resource=found.resource,
                client=client,
                tokens=Tokens(access="", scope=scope),
            ),
        )
        expires_at = max(time.time() + FLOW_S, link.expires_at)
        if not await self._credentials.vault.begin(
            link.number, state, msgspec.json.encode(flow), expires_at=expires_at
        ):
            raise InvalidRequest("This link was used before. Try again in your client to get another.")
        asked = {
            "response_type": "code",
            "client_id": client.id,
            "redirect_uri": self._redirect_uri,
            "state": state,
            "code_challenge": urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "resource": found.resource,
            **({"scope": scope} if scope else {}),
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    async def finish(self, returned: Returned, principal: Principal, browser: str) -> Server:
        """Take what the authorization server answered, and keep the account; returns the server it is at.

        Raises:
            InvalidRequest: it does not belong to what this principal began in this browser, or was refused.
            UpstreamError: the authorization server gave no token.
        """
        flow = await self._begun(returned, principal, browser)
        if returned.error is not None or not returned.code:
            raise InvalidRequest("The authorization server did not agree, so nothing was connected.")
        server = self.server(principal, flow.server)
        if server.url != flow.account.url:
            raise InvalidRequest("The server was changed meanwhile. Try again in your client.")
        tokens = await self._redeem(returned.code, flow, server)
        await self._credentials.connect(principal, server, msgspec.structs.replace(flow.account, tokens=tokens))
        return server

    async def _begun(self, returned: Returned, principal: Principal, browser: str) -> _Flow:
        """What this is the one answer to; raises `InvalidRequest`."""
        noted = await self._credentials.vault.take(returned.state)
        flow = None if noted is None else msgspec.json.decode(noted, type=_Flow)
        if flow is None or not _is_begun_by(flow, principal, browser):
            raise InvalidRequest("This answer belongs to nothing that was begun here. Try again in your client.")
        if returned.iss != flow.account.issuer and (returned.iss is not None or flow.iss_is_sent):  # RFC 9207 §2.4
            raise InvalidRequest("The answer came from another authorization server than was asked.")
        return flow

    async def _redeem(self, code: str, flow: _Flow, server: Server) -> Tokens:
        """The tokens that an authorization code is good for (OAuth 2.1 §4.1.3); raises `UpstreamError`."""
        account = flow.account
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._redirect_uri}
        form |= {"code_verifier": flow.verifier, "resource": account.resource}
        try:
            async with self._credentials.way(server) as way:
                tokens = await request_tokens(way, account.token_endpoint, account.client, form)
        except TokenRefused as refused:
            if refused.code in {"invalid_client", "unauthorized_client"}:  # registered no more: anew the next time
                await self._credentials.vault.forget_client(server.name, account.issuer)
            raise
        return msgspec.structs.replace(tokens, scope=tokens.scope or account.tokens.scope)

    async def _client(self, way: Way, server: Server, chosen: AuthorizationServer, scope: str) -> Client:
        """The hub as this authorization server knows it: registered before, by its own document, or now."""
        auth = server.auth
        assert auth is not None
        if auth.client_id is not None:
            method = method_of(auth.client_secret, chosen.token_endpoint_auth_methods_supported)
            return Client(id=auth.client_id, secret=auth.client_secret, method=method, redirect_uri=self._redirect_uri)
        if chosen.client_id_metadata_document_supported and self._client_url.startswith("https://"):
            return Client(id=self._client_url, redirect_uri=self._redirect_uri)
        vault = self._credentials.vault
        kept = await vault.client(server.name, chosen.issuer)
        client = None if kept is None else msgspec.json.decode(kept, type=Client)
        if client is None or client.redirect_uri != self._redirect_uri:
            client = await self._register(way, chosen, scope)
            await vault.keep_client(server.name, chosen.issuer, msgspec.json.encode(client))
        return client

    async def _register(self, way: Way, chosen: AuthorizationServer, scope: str) -> Client:
        """Register the hub (RFC 7591 §3), for all scopes that there are: a call may want more of them later."""
        if chosen.registration_endpoint is None:
            raise UpstreamInvalid(way.entry, "its authorization server registers nobody; set auth.client_id")
        supported = chosen.token_endpoint_auth_methods_supported
        method = "none" if supported is not None and "none" in supported else method_of("", supported)
        sent = (("content-type", "application/json"),)
        scopes = dict.fromkeys((*scope.split(), *(chosen.scopes_supported or ())))
        body = encode({**self._registration(method), **({"scope": " ".join(scopes)} if scopes else {})})
        answer = await fetch(way, chosen.registration_endpoint, method="POST", headers=sent, body=body)
        try:
            made = msgspec.json.decode(answer.body, type=_Registered) if answer.status in {200, 201} else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            made = None
        if made is None:
            raise UpstreamInvalid(way.entry, "its authorization server did not register the hub; set auth.client_id")
        method = made.token_endpoint_auth_method or method_of(made.client_secret, supported)
        if method not in {"none", "client_secret_basic", "client_secret_post"}:
            raise UpstreamInvalid(way.entry, "its authorization server wants a sign-in that the hub does not have")
        return Client(id=made.client_id, secret=made.client_secret, method=method, redirect_uri=self._redirect_uri)

    def _registration(self, method: str) -> JsonObject:
        return {
            "client_name": NAME,
            "redirect_uris": [self._redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": method,
            "application_type": "web",
        }


def _is_begun_by(flow: _Flow, principal: Principal, browser: str) -> bool:
    return flow.principal == principal.id and flow.browser == digest(browser.encode())


async def _authorization_endpoint(way: Way, chosen: AuthorizationServer) -> str:
    endpoint = chosen.authorization_endpoint
    if endpoint is None or "#" in endpoint:
        raise UpstreamInvalid(way.entry, "its authorization server has no page for users")
    if "S256" not in (chosen.code_challenge_methods_supported or ()):
        raise UpstreamInvalid(way.entry, "its authorization server does not say that it checks PKCE (S256)")
    await check_browsable(endpoint, way)
    return endpoint


def _scopes(link: Link, asked: tuple[str, ...], chosen: AuthorizationServer) -> tuple[str, ...]:
    """Which to ask for: the server's, those of a step-up, and what a refresh token needs where it needs one."""
    offline = ("offline_access",) if "offline_access" in (chosen.scopes_supported or ()) else ()
    return tuple(dict.fromkeys((*link.scopes, *asked, *offline)))
