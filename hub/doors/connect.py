"""`/connect/…` and `/oauth/…`: where people connect their accounts at MCP servers, in a browser. HTML without scripts.

Whoever opens a link shows with its hub key that it is the one the link was made for; a sealed cookie remembers that for
an hour, and ties what comes back from the authorization server to the browser that began it.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from hub.auth import Authenticator, hash_of
from hub.browsers import cookie_of
from hub.doors import connect_pages as pages
from hub.doors.browsing import form, members, send_to, show, show_failure
from hub.exchange import Exchange
from mcp_bridge.oauth.connect import CALLBACK_PATH, CLIENT_PATH, Connect, Returned
from mcp_bridge.oauth.links import PATH, Link
from registry.callers.keys import Keys
from registry.errors import (
    HttpMethodRefused,
    HubError,
    InvalidRequest,
    NotFound,
    OriginRefused,
    Unauthenticated,
)
from registry.identity import Principal
from registry.judged import encode
from registry.sealed.secrets import Sealer, SecretKeyInvalid, digest

LOGIN_S = 3600

_ABOUT = "connect-login"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")

Greet = Callable[[str, Principal], Awaitable[None]]
"""Lists a server as a principal sees it."""


class _Login(msgspec.Struct, array_like=True):
    key_digest: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sits at the browser. `browser` is what only this browser knows."""

    principal: Principal
    browser: str


class ConnectDoor:
    """Answers browsers."""

    def __init__(
        self,
        connect: Connect,
        *,
        authenticator: Authenticator,
        keys: Keys,
        sealer: Sealer,
        public_url: str,
        greet: Greet,
    ) -> None:
        self._connect = connect
        self._authenticator = authenticator
        self._keys = keys
        self._sealer = sealer
        self._greet = greet
        parts = urlsplit(public_url)
        self._origin = f"{parts.scheme}://{parts.netloc}".encode()
        self._base = parts.path.rstrip("/")
        is_secure = parts.scheme == "https"
        self._cookie = "__Host-hubbub-login" if is_secure else "hubbub-login"
        self._cookie_members = f"; Path=/; HttpOnly; SameSite=Lax; Max-Age={LOGIN_S}{'; Secure' if is_secure else ''}"

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request; a failure is a page too."""
        try:
            if exchange.path == CLIENT_PATH and exchange.method in {"GET", "HEAD"}:
                await exchange.reply(200, encode(self._connect.client_metadata()))
            elif exchange.path == CALLBACK_PATH:
                await self._callback(exchange)
            elif exchange.method == "POST":
                await self._post(exchange)
            elif exchange.method in {"GET", "HEAD"}:
                await self._get(exchange)
            else:
                raise HttpMethodRefused("GET, POST")
        except HubError as error:
            await show_failure(exchange, error)

    async def _get(self, exchange: Exchange) -> None:
        visitor = await self._visitor(exchange)
        text = exchange.path.removeprefix(PATH)
        if _NAME.fullmatch(text):
            if visitor is None:
                await show(exchange, 200, pages.login(text))
                return
            server = self._connect.server(visitor.principal, text)
            await send_to(exchange, self._connect.link(visitor.principal, server))
            return
        link = self._connect.open(text)
        if visitor is None or visitor.principal.id != link.principal:
            await show(exchange, 200, pages.login(link.server, is_other=visitor is not None))
            return
        server = self._connect.server(visitor.principal, link.server)
        plan = await self._connect.plan(server, link)
        page = pages.consent(plan, visitor.principal.name, _csrf(visitor, link))
        await show(exchange, 200, page, sends_to=plan.sends_to)

    async def _post(self, exchange: Exchange) -> None:
        if exchange.headers.get(b"origin") != self._origin:
            raise OriginRefused
        given = await form(exchange)
        text = exchange.path.removeprefix(PATH)
        link = None if _NAME.fullmatch(text) else self._connect.open(text)
        if "key" in given:
            cookie = await self._log_in(exchange, given["key"], link)
            await send_to(exchange, f"{self._base}{exchange.path}", (b"set-cookie", cookie))
            return
        visitor = await self._visitor(exchange)
        if link is None or visitor is None or visitor.principal.id != link.principal:
            raise Unauthenticated
        if given.get("csrf") != _csrf(visitor, link):
            raise InvalidRequest("This page is too old; open the link again.")
        if given.get("answer") != "allow":
            await show(exchange, 200, pages.declined(link.server))
            return
        server = self._connect.server(visitor.principal, link.server)
        await send_to(exchange, await self._connect.begin(server, link, visitor.browser))

    async def _callback(self, exchange: Exchange) -> None:
        if exchange.method != "GET":
            raise HttpMethodRefused("GET")
        visitor = await self._visitor(exchange)
        given = members(exchange.query)
        if visitor is None or "state" not in given:
            raise InvalidRequest("This answer belongs to nothing that was begun in this browser.")
        known = {name: given[name] for name in ("state", "code", "iss", "error") if name in given}
        server = await self._connect.finish(Returned(**known), visitor.principal, visitor.browser)
        await self._greet(server.name, visitor.principal)
        await show(exchange, 200, pages.connected(server.name))

    async def _log_in(self, exchange: Exchange, key: str, link: Link | None) -> bytes:
        """The cookie for who has this key; only its owner may open a link."""
        hashed = hash_of(key.strip().encode())
        principal = await self._keys.find(hashed)
        if principal is None:
            raise Unauthenticated
        self._authenticator.check(principal, "mcp", exchange)
        if link is not None and principal.id != link.principal:
            raise NotFound("link", "for this key")
        sealed = self._sealer.seal(msgspec.json.encode(_Login(hashed, time.time() + LOGIN_S)), about=_ABOUT)
        return f"{self._cookie}={base64.urlsafe_b64encode(sealed).decode()}{self._cookie_members}".encode()

    async def _visitor(self, exchange: Exchange) -> Visitor | None:
        """Who the cookie says it is, if its key still lives."""
        value = cookie_of(exchange.headers, self._cookie) or ""
        try:
            sealed = base64.urlsafe_b64decode(value)
            login = msgspec.json.decode(self._sealer.open(sealed, about=_ABOUT), type=_Login)
        except (binascii.Error, ValueError, SecretKeyInvalid):
            return None
        if login.expires_at < time.time():
            return None
        principal = await self._keys.find(login.key_digest)
        try:
            return None if principal is None else Visitor(self._authenticator.check(principal, "mcp", exchange), value)
        except Unauthenticated:  # not from here any more: as without a key
            return None


def _csrf(visitor: Visitor, link: Link) -> str:
    return digest(f"{visitor.browser} {link.number}".encode())
