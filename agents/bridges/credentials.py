"""Tokens of the clouds that agents run on: fetched when they are needed, once for all who wait, and anew when one is refused.

Sources: RFC 6749 §4.4, RFC 7523 §2.1; Google Identity, "Using OAuth 2.0 for server to server applications"; Compute Engine, "Access
tokens of a VM's service account"; Microsoft identity platform, "client credentials flow"; Azure, "managed identities, how to use a VM
token" (all read 2026-11).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import jwt
import msgspec

from agents.bridges.sigv4 import Keys
from agents.bridges.way import Way
from registry.egress.http import Outgoing
from registry.entries import Headers
from registry.errors import UpstreamInvalid

EARLY_S = 60.0
"""A token that ends so soon is not used any more: a request may take a while to be looked at."""

ASSERTION_S = 3600
"""How long what is signed for a token is good: as long as Google allows."""

GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address
GOOGLE_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
ENTRA = "https://login.microsoftonline.com"
AZURE_METADATA = "http://169.254.169.254/metadata/identity/oauth2/token"


class Token(NamedTuple):
    """One token."""

    value: str
    expires_at: float
    """By time.monotonic()."""


Fetch = Callable[[Way], Awaitable[Token]]


class Bearer:
    """Bearer tokens of one source (agents.bridges.way.Credentials)."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._token: Token | None = None
        self._fetching = asyncio.Lock()

    async def headers(self, way: Way, _outgoing: Outgoing) -> Headers:
        """Those of one request; raises `UpstreamError` when there is no token."""
        async with self._fetching:
            if self._token is None or self._token.expires_at - EARLY_S <= time.monotonic():
                self._token = await self._fetch(way.elsewhere())
            return _header(self._token)

    def refused(self, sent: Headers) -> bool:
        """Forget the token that was sent, if it is still the one that is used."""
        if self._token is not None and _header(self._token) == sent:
            self._token = None
        return True


def _header(token: Token) -> Headers:
    return (("authorization", f"Bearer {token.value}"),)


class ServiceAccount(msgspec.Struct, kw_only=True):
    """The members of a Google service account's key file that matter here."""

    client_email: str
    private_key: str
    private_key_id: str | None = None
    token_uri: str = GOOGLE_TOKEN_URL

    def __repr__(self) -> str:
        return f"ServiceAccount({self.client_email})"


def google(account: ServiceAccount | None) -> Bearer:
    """Tokens of a service account by its key; None: of the machine that the hub runs on."""
    if account is None:
        return Bearer(_google_of_machine)

    async def fetch(way: Way) -> Token:
        now = int(time.time())
        claims = {
            "iss": account.client_email,
            "scope": GOOGLE_SCOPE,
            "aud": account.token_uri,
            "iat": now,
            "exp": now + ASSERTION_S,
        }
        named = {"kid": account.private_key_id} if account.private_key_id else None
        try:
            signed = jwt.encode(claims, account.private_key, algorithm="RS256", headers=named)
        except (ValueError, TypeError, jwt.PyJWTError):
            raise UpstreamInvalid(way.name, "its service account has no private key that can sign") from None
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": signed}
        return await _asked(way, account.token_uri, form)

    return Bearer(fetch)


async def _google_of_machine(way: Way) -> Token:
    found = await way.json("GET", GOOGLE_METADATA, headers=(("metadata-flavor", "Google"),))
    return _token(way, found)


class EntraClient(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who the hub is at Microsoft Entra: an application by its secret, or a managed identity of the machine that it runs on."""

    client_id: str | None = None
    """Of the application; without a secret, of one of the machine's identities. None: the machine's own one."""
    client_secret: str | None = None
    tenant_id: str | None = None
    authority: str = ENTRA
    """Where sovereign clouds have theirs."""

    def __post_init__(self) -> None:
        is_application = {name for name in ("tenant_id", "client_secret") if getattr(self, name) is not None}
        if is_application and not (len(is_application) == 2 and self.client_id is not None):
            raise ValueError(
                "an application has tenant_id, client_id and client_secret; a managed identity at most client_id"
            )

    def __repr__(self) -> str:
        return f"EntraClient({self.client_id})"


def entra(client: EntraClient, scope: str) -> Bearer:
    """Tokens of an application or a managed identity."""
    secret, tenant = client.client_secret, client.tenant_id
    if secret is None or tenant is None:
        return Bearer(lambda way: _azure_of_machine(way, client.client_id, scope))

    async def fetch(way: Way) -> Token:
        url = f"{client.authority.rstrip('/')}/{quote(tenant, safe='')}/oauth2/v2.0/token"
        form = {
            "grant_type": "client_credentials",
            "client_id": client.client_id or "",
            "client_secret": secret,
            "scope": scope,
        }
        return await _asked(way, url, form)

    return Bearer(fetch)


async def _azure_of_machine(way: Way, client_id: str | None, scope: str) -> Token:
    query = {"api-version": "2018-02-01", "resource": scope.removesuffix("/.default")}
    if client_id is not None:
        query["client_id"] = client_id
    url = f"{AZURE_METADATA}?{urlencode(query)}"
    return _token(way, await way.json("GET", url, headers=(("metadata", "true"),)))


class Google(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="google"):
    """`auth` of an agent that Google's credentials open."""

    service_account: ServiceAccount | None = None
    """None: that of the machine that the hub runs on."""


class Entra(EntraClient, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="entra"):
    """`auth` of an agent that Microsoft Entra's tokens open."""

    scope: str = "https://ai.azure.com/.default"
    """Of Azure AI Foundry."""


class Aws(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="aws"):
    """`auth` of an agent behind AWS's signatures; in AgentCore Runtime each context has a session."""

    region: str
    keys: Keys | None = None
    """None: the entry's own headers have a bearer token."""
    service: str = "bedrock-agentcore"


Auth = Google | Entra | Aws


async def _asked(way: Way, url: str, form: dict[str, str]) -> Token:
    kind = (("content-type", "application/x-www-form-urlencoded"),)
    async with way.send("POST", url, urlencode(form).encode(), headers=kind) as incoming:
        return _token(way, way.read(await incoming.read()))


def _token(way: Way, answer: Any) -> Token:
    """What a token endpoint gave (RFC 6749 §5.1); Azure writes the seconds as text."""
    value = answer.get("access_token") if isinstance(answer, dict) else None
    try:
        lasts = float(answer.get("expires_in") or 0) if isinstance(answer, dict) else 0.0
    except (TypeError, ValueError):
        lasts = 0.0
    if not isinstance(value, str) or not value:
        raise UpstreamInvalid(way.name, "it gets no token: the token endpoint answered without one")
    return Token(value, time.monotonic() + lasts)
