"""Token requests (OAuth 2.1 §3.2, RFC 8693) and what comes of them. Knows neither users nor where tokens are kept."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from urllib.parse import quote_plus

import msgspec

from mcp_bridge.oauth.fetch import Way, post_form
from registry.entries import Headers
from registry.errors import UpstreamInvalid, UpstreamRefused

EARLY_S = 60.0
"""A token that is good for less is renewed before it is used."""

_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_SECONDS = re.compile(r"[0-9]{1,9}")


class TokenRefused(UpstreamRefused):
    """The authorization server refused; `code` is its `error` (RFC 6749 §5.2)."""

    def __init__(self, entry: str, status: int, code: str) -> None:
        super().__init__(entry, status)
        self.code = code


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """The hub as an authorization server knows it."""

    id: str
    secret: str | None = None
    method: str = "none"
    """`token_endpoint_auth_method`: none, client_secret_basic or client_secret_post."""
    redirect_uri: str = ""
    """With which it was registered."""

    def __repr__(self) -> str:
        return f"Client({self.id!r})"


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What a token endpoint gave."""

    access: str
    refresh: str | None = None
    expires_at: float | None = None
    """Seconds since 1970; None: not said."""
    scope: str | None = None

    @property
    def is_stale(self) -> bool:
        """Whether it has expired, or will in a moment."""
        return self.expires_at is not None and self.expires_at - EARLY_S < time.time()

    def __repr__(self) -> str:
        return "Tokens(…)"


class _Answer(msgspec.Struct):
    access_token: str = ""
    token_type: str = ""
    expires_in: float | str | None = None
    refresh_token: str | None = None
    scope: str | None = None


class _Refusal(msgspec.Struct):
    error: str = ""


def method_of(secret: str | None, supported: tuple[str, ...] | None) -> str:
    """How a client with this secret, or None, signs in at a token endpoint (RFC 8414: Basic unless it says else)."""
    if secret is None:
        return "none"
    is_only_post = (
        supported is not None and "client_secret_basic" not in supported and "client_secret_post" in supported
    )
    return "client_secret_post" if is_only_post else "client_secret_basic"


async def request_tokens(way: Way, endpoint: str, client: Client, form: dict[str, str]) -> Tokens:
    """Ask for tokens.

    Raises:
        TokenRefused: the authorization server says no.
        UpstreamError: it does not answer, or not as it must.
    """
    headers: Headers = ()
    sent = {**form, "client_id": client.id}  # with Basic too: servers made with the MCP SDK look for it
    if client.method == "client_secret_basic":
        pair = f"{quote_plus(client.id)}:{quote_plus(client.secret or '')}".encode()
        headers = (("authorization", f"Basic {b64encode(pair).decode()}"),)
    elif client.method == "client_secret_post":
        sent["client_secret"] = client.secret or ""
    answer = await post_form(way, endpoint, sent, headers=headers)
    if answer.status != 200:
        raise TokenRefused(way.entry, answer.status, _code(answer.body))
    return _read(answer.body, way.entry)


def _code(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Refusal).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _read(body: bytes, entry: str) -> Tokens:
    try:
        said = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UpstreamInvalid(entry, "its authorization server's answer is not a token's") from None
    if said.token_type.lower() not in {"bearer", "n_a"} or not _TOKEN.fullmatch(said.access_token):
        raise UpstreamInvalid(entry, "its authorization server gave no bearer token")
    seconds = said.expires_in
    if isinstance(seconds, str):
        seconds = float(seconds) if _SECONDS.fullmatch(seconds) else None
    return Tokens(
        access=said.access_token,
        refresh=said.refresh_token or None,
        expires_at=None if seconds is None else time.time() + seconds,
        scope=said.scope,
    )
