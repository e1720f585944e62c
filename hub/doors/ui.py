"""`/ui`: signing in with a browser, and who is signed in. HTML without scripts; what is to come of the UI stands beside it.

A sign-in that is under way is a sealed cookie of the browser that began it; the hub keeps nothing of it.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import time

import msgspec

from hub.browsers import SESSION, Browsers, token_of
from hub.doors import ui_pages as pages
from hub.doors.browsing import form, members, send_to, show, show_failure
from hub.exchange import Exchange
from registry.auditing.audit import Audit
from registry.callers.sessions import LASTS_S, Sessions, SignedIn
from registry.callers.sign_in import CALLBACK_PATH, FLOW_S, Flow, Returned, SignIns
from registry.callers.tokens import TokenRefused
from registry.errors import HttpMethodRefused, HubError, NotFound, Unauthenticated
from registry.sealed.secrets import Sealer, SecretKeyInvalid

logger = logging.getLogger(__name__)

HOME = "/ui"
SIGN_IN = f"{HOME}/sign-in"
SIGN_OUT = f"{HOME}/sign-out"
TEAM = f"{HOME}/team"

FLOW = "hubbub-flow"
"""The name of the cookie."""

_ABOUT = "sign-in"
_OWN = re.compile(r"/ui(?:[/?][A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,500})?")
"""Where a sign-in may lead: to own pages. What begins so is no other host's."""

_RETURNED = frozenset(Returned.__struct_fields__)


class UiDoor:
    """Answers browsers."""

    def __init__(self, sign_ins: SignIns, browsers: Browsers, *, sealer: Sealer, audit: Audit, base: str) -> None:
        """`base` is the path of the hub's public address."""
        self._sign_ins = sign_ins
        self._browsers = browsers
        self._sealer = sealer
        self._audit = audit
        self._base = base
        self._home_url = f"{base}{HOME}"

    @property
    def _sessions(self) -> Sessions:
        return self._browsers.sessions

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request; a failure is a page too."""
        try:
            if exchange.path in (SIGN_OUT, TEAM):
                await self._post(exchange)
            elif exchange.method not in {"GET", "HEAD"}:
                raise HttpMethodRefused("GET")
            elif exchange.path == HOME:
                await self._home(exchange)
            elif exchange.path == SIGN_IN:
                await self._sign_in(exchange)
            elif exchange.path == CALLBACK_PATH:
                await self._callback(exchange)
            else:
                raise NotFound("path", exchange.path)
        except HubError as error:
            await show_failure(exchange, error)

    async def _home(self, exchange: Exchange) -> None:
        secret = self._browsers.secret(exchange.headers)
        signed_in = None if secret is None else await self._sessions.find(secret)
        if secret is None or signed_in is None:
            next_path = _own_path(members(exchange.query).get("next", HOME))
            page = pages.entrance(self._home_url, self._sign_ins.offered, next_path, is_over=secret is not None)
        else:
            places = await self._sessions.places(signed_in)
            page = pages.home(self._home_url, signed_in.principal, places, token_of(secret))
        await show(exchange, 200, page)

    async def _sign_in(self, exchange: Exchange) -> None:
        asked = members(exchange.query)
        offered = self._sign_ins.offered
        issuer = asked.get("issuer", offered[0] if len(offered) == 1 else "")
        url, flow = await self._sign_ins.begin(issuer, _own_path(asked.get("next", HOME)))
        sealed = base64.urlsafe_b64encode(self._sealer.seal(msgspec.json.encode(flow), about=_ABOUT)).decode()
        await send_to(exchange, url, self._browsers.set_cookie(FLOW, sealed, lasts_s=FLOW_S))

    async def _callback(self, exchange: Exchange) -> None:
        """Begin a session, always a new one: a secret that was in the browser before may be known to others."""
        over = self._browsers.set_cookie(FLOW, "", lasts_s=0)
        given = members(exchange.query)
        returned = Returned(**{name: given[name] for name in _RETURNED if name in given})
        flow = self._flow(exchange)
        try:
            bearer = await self._sign_ins.finish(flow, returned)
            secret, principal = await self._sessions.begin(bearer)
        except TokenRefused as refusal:
            logger.info("somebody was not signed in", extra={"reason": str(refusal)})
            exchange.failure = Unauthenticated()
            await show(exchange, 401, pages.stranger(self._home_url), [over])
            return
        except HubError as error:
            await show_failure(exchange, error, over)
            return
        await self._end(exchange)
        await self._audit.act(principal, "sign-in", bearer.issuer.url, outcome="done", request_id=exchange.request_id)
        kept = self._browsers.set_cookie(SESSION, secret, lasts_s=LASTS_S)
        assert flow is not None, "without one nobody is signed in"
        await send_to(exchange, f"{self._base}{flow.next}", kept, over)

    def _flow(self, exchange: Exchange) -> Flow | None:
        """What this browser began; None: nothing."""
        sealed = self._browsers.cookie(exchange.headers, FLOW) or ""
        try:
            opened = self._sealer.open(base64.urlsafe_b64decode(sealed), about=_ABOUT)
            return msgspec.json.decode(opened, type=Flow)
        except (binascii.Error, ValueError, SecretKeyInvalid):
            return None

    async def _post(self, exchange: Exchange) -> None:
        if exchange.method != "POST":
            raise HttpMethodRefused("POST")
        self._browsers.check_site(exchange)
        secret = self._browsers.secret(exchange.headers)
        signed_in = None if secret is None else await self._sessions.find(secret)
        if secret is None or signed_in is None:
            await send_to(exchange, self._home_url)  # it was over already
            return
        given = await form(exchange)
        self._browsers.check_token(secret, given.get("csrf", ""))
        if exchange.path == TEAM:
            moved = await self._sessions.move(secret, signed_in, given.get("team", ""))
            left_s = signed_in.bearer.expires_at - time.time()
            await send_to(exchange, self._home_url, self._browsers.set_cookie(SESSION, moved, lasts_s=left_s))
            return
        await self._end(exchange, signed_in)
        issuer = signed_in.bearer.issuer.url
        page = pages.signed_out(self._home_url, issuer, await self._sign_ins.sign_out_at(issuer))
        await show(exchange, 200, page, [self._browsers.set_cookie(SESSION, "", lasts_s=0)])

    async def _end(self, exchange: Exchange, signed_in: SignedIn | None = None) -> None:
        """End the session that the browser has, if it has one."""
        secret = self._browsers.secret(exchange.headers)
        if secret is not None:
            await self._sessions.end(secret)
        if signed_in is not None:
            await self._audit.act(
                signed_in.principal, "sign-out", exchange.path, outcome="done", request_id=exchange.request_id
            )


def _own_path(text: str) -> str:
    """Where a sign-in leads; anything but an own page is the home."""
    return text if _OWN.fullmatch(text) else HOME
