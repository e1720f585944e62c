"""Tokens of the clouds that agents run on: of accounts by their keys, of the machine that the hub runs on, of workloads by others' tokens.

Sources: RFC 6749 §4.4, RFC 7523 §2.1, RFC 8693 §2; Google Identity, "Using OAuth 2.0 for server to server applications"; AIP-4117 and
Google Cloud IAM, "Workload Identity Federation", "generateAccessToken"; Compute Engine, "Access tokens of a VM's service account"; Microsoft
identity platform, "client credentials flow", first and third case; Azure, "managed identities, how to use a VM token" (all read 2026-11).
"""

from __future__ import annotations

import time
from functools import partial
from math import isfinite
from typing import Any, Literal
from urllib.parse import quote, urlencode

import jwt
import msgspec

from agents.bridges import machine
from agents.bridges.renewed import Ending, Fetch, Renewed, ending_at
from agents.bridges.way import Way
from registry.egress.http import Outgoing
from registry.entries import Headers
from registry.errors import UpstreamInvalid, UpstreamUnavailable

ASSERTION_S = 3600
"""How long what is signed for a token is good: as long as Google allows."""

GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address
GOOGLE_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
ENTRA = "https://login.microsoftonline.com"
AZURE_METADATA = "http://169.254.169.254/metadata/identity/oauth2/token"


Token = Ending[str]


class Bearer:
    """Bearer tokens of one source (agents.bridges.way.Credentials)."""

    def __init__(self, fetch: Fetch[str]) -> None:
        self._token = Renewed(fetch)

    async def headers(self, way: Way, _outgoing: Outgoing) -> Headers:
        """Those of one request; raises `UpstreamError` when there is no token."""
        return _header(await self._token.get(way))

    def refused(self, sent: Headers) -> bool:
        """Forget the token that was sent, if it is still the one that is used."""
        self._token.forget(lambda token: _header(token) == sent)
        return True


def _header(token: str) -> Headers:
    return (("authorization", f"Bearer {token}"),)


class ServiceAccount(msgspec.Struct, kw_only=True):
    """The members of a Google service account's key file that matter here."""

    client_email: str
    private_key: str
    private_key_id: str | None = None
    token_uri: str = GOOGLE_TOKEN_URL

    def __repr__(self) -> str:
        return f"ServiceAccount({self.client_email})"


class Format(msgspec.Struct, frozen=True):
    """How a token stands in what was found."""

    type: Literal["text", "json"] = "text"
    subject_token_field_name: str = ""


class CredentialSource(msgspec.Struct):
    """Where a token of somebody else's is found: in a file, or at an address of the machine."""

    file: str | None = None
    url: str | None = None
    headers: dict[str, str] = {}
    format: Format = Format()


class ExternalAccount(msgspec.Struct, kw_only=True, tag_field="type", tag="external_account"):
    """The members that matter here of a file that describes a workload identity federation (AIP-4117)."""

    audience: str
    subject_token_type: str
    token_url: str
    credential_source: CredentialSource
    service_account_impersonation_url: str | None = None


class _KeyFile(ServiceAccount, kw_only=True, tag_field="type", tag="service_account"):
    """A service account's key file."""


class GoogleAccount(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Who the hub is at Google: a service account by its key, or who a file describes; of none of both, its machine's service account."""

    service_account: ServiceAccount | None = None
    adc_file: str | None = None
    """As Google's libraries find it by GOOGLE_APPLICATION_CREDENTIALS."""

    def __post_init__(self) -> None:
        if self.service_account is not None and self.adc_file is not None:
            raise ValueError("service_account and adc_file do not go together")


def google(account: GoogleAccount) -> Bearer:
    """Tokens of an account."""
    if account.service_account is not None:
        return Bearer(partial(_of_key, account.service_account))
    if account.adc_file is not None:
        return Bearer(partial(_of_adc_file, account.adc_file))
    return Bearer(_google_of_machine)


async def _of_key(account: ServiceAccount, way: Way) -> Token:
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


async def _of_adc_file(path: str, way: Way) -> Token:
    """By a file with a service account's key, or with the federation of a workload."""
    try:
        found = msgspec.json.decode(await machine.file(way, path), type=_KeyFile | ExternalAccount)
    except msgspec.DecodeError as error:
        reason = f"{path} describes neither a service_account nor an external_account: {error}"
        raise UpstreamUnavailable(way.name, f"it cannot be called as it is configured: {reason}") from None
    if isinstance(found, ServiceAccount):
        return await _of_key(found, way)
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": found.audience,
        "scope": GOOGLE_SCOPE,
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token_type": found.subject_token_type,
        "subject_token": await _subject(found.credential_source, way),
    }
    token = await _asked(way, found.token_url, form)
    url = found.service_account_impersonation_url
    return token if url is None else await _impersonated(way, url, token.value)


async def _subject(source: CredentialSource, way: Way) -> str:
    """The token that a machine or a file has of somebody else."""
    if source.file is not None:
        said = await machine.file(way, source.file)
    elif source.url is not None:
        said = await machine.text(way, "GET", source.url, headers=tuple(source.headers.items()))
    else:
        reason = "of the sources of an external_account, file and url are spoken"
        raise UpstreamUnavailable(way.name, f"it cannot be called as it is configured: {reason}")
    if source.format.type == "text":
        return said
    found = way.read(said.encode())
    token = found.get(source.format.subject_token_field_name) if isinstance(found, dict) else None
    if not isinstance(token, str):
        raise UpstreamInvalid(way.name, "what is found in the place of its token is none")
    return token


async def _impersonated(way: Way, url: str, token: str) -> Token:
    """A token of the service account that another token may stand for (IAM Credentials API, `generateAccessToken`)."""
    body = {"scope": [GOOGLE_SCOPE], "lifetime": f"{ASSERTION_S}s"}
    found = await way.json("POST", url, body, headers=_header(token))
    try:
        made = msgspec.convert(found, _Impersonated)
        return Ending(made.accessToken, ending_at(made.expireTime))
    except (msgspec.ValidationError, ValueError):
        raise UpstreamInvalid(way.name, "the token endpoint answered without a token") from None


class _Impersonated(msgspec.Struct):
    accessToken: str  # noqa: N815  # Google's word
    expireTime: str  # noqa: N815


async def _google_of_machine(way: Way) -> Token:
    found = await way.of_machine().json("GET", GOOGLE_METADATA, headers=(("metadata-flavor", "Google"),))
    return _token(way, found)


class EntraClient(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who the hub is at Microsoft Entra: an application by its secret or by a token of somebody else's, or a managed identity of its machine."""

    client_id: str | None = None
    """Of the application; without more, of one of the machine's identities. None: the machine's own one."""
    client_secret: str | None = None
    federated_token_file: str | None = None
    """With a token that Entra takes for the application, as Kubernetes gives each pod of AKS one."""
    tenant_id: str | None = None
    authority: str = ENTRA
    """Where sovereign clouds have theirs."""

    def __post_init__(self) -> None:
        proofs = [one for one in (self.client_secret, self.federated_token_file) if one is not None]
        is_application = self.tenant_id is not None or bool(proofs)
        if is_application and not (self.tenant_id is not None and self.client_id is not None and len(proofs) == 1):
            raise ValueError(
                "an application has tenant_id, client_id and client_secret or federated_token_file; "
                "a managed identity at most client_id"
            )

    def __repr__(self) -> str:
        return f"EntraClient({self.client_id})"


def entra(client: EntraClient, scope: str) -> Bearer:
    """Tokens of an application or a managed identity."""
    if client.tenant_id is None:
        return Bearer(partial(_azure_of_machine, client.client_id, scope))
    return Bearer(partial(_of_application, client, client.tenant_id, scope))


async def _of_application(client: EntraClient, tenant: str, scope: str, way: Way) -> Token:
    url = f"{client.authority.rstrip('/')}/{quote(tenant, safe='')}/oauth2/v2.0/token"
    form = {"grant_type": "client_credentials", "client_id": client.client_id or "", "scope": scope}
    if client.federated_token_file is not None:
        form["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        form["client_assertion"] = await machine.file(way, client.federated_token_file)
    else:
        form["client_secret"] = client.client_secret or ""
    return await _asked(way, url, form)


async def _azure_of_machine(client_id: str | None, scope: str, way: Way) -> Token:
    query = {"api-version": "2018-02-01", "resource": scope.removesuffix("/.default")}
    if client_id is not None:
        query["client_id"] = client_id
    url = f"{AZURE_METADATA}?{urlencode(query)}"
    return _token(way, await way.of_machine().json("GET", url, headers=(("metadata", "true"),)))


class Google(GoogleAccount, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="google"):
    """`auth` of an agent that Google's credentials open."""


class Entra(EntraClient, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="entra"):
    """`auth` of an agent that Microsoft Entra's tokens open."""

    scope: str = "https://ai.azure.com/.default"
    """Of Azure AI Foundry."""


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
        raise UpstreamInvalid(way.name, "the token endpoint answered without a token")
    return Ending(value, time.monotonic() + (lasts if isfinite(lasts) else 0.0))
