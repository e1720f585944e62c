"""Connect links: a page of the hub's for one principal and one server, sealed, soon expired. Pure, but for the clock."""

from __future__ import annotations

import base64
import binascii
import secrets
import time

import msgspec

from registry.sealed.secrets import Sealer, SecretKeyInvalid

PATH = "/connect/"
LINK_S = 600.0
MAX_SCOPES = 64

_ABOUT = "connect-link"


class Link(msgspec.Struct, frozen=True, array_like=True):
    """What a link says."""

    number: str
    """By which it is known to have been used."""
    principal: str
    server: str
    expires_at: float
    scopes: tuple[str, ...] = ()
    """Which the server asked for in particular."""


class Links:
    """Makes and opens links."""

    def __init__(self, sealer: Sealer, *, public_url: str) -> None:
        self._sealer = sealer
        self._base = f"{public_url.rstrip('/')}{PATH}"

    def new(self, principal: str, server: str, scopes: tuple[str, ...] = ()) -> str:
        """Make a link for a principal."""
        link = Link(secrets.token_hex(16), principal, server, time.time() + LINK_S, scopes[:MAX_SCOPES])
        sealed = self._sealer.seal(msgspec.json.encode(link), about=_ABOUT)
        return self._base + base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, text: str) -> Link | None:
        """Read the last part of a link; None: it is none of ours, or has expired."""
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            link = msgspec.json.decode(self._sealer.open(sealed, about=_ABOUT), type=Link)
        except (binascii.Error, ValueError, SecretKeyInvalid):
            return None
        return link if link.expires_at > time.time() else None
