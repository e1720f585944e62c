"""Where a server's tokens come from: protected resource metadata (RFC 9728), then authorization server metadata (RFC 8414, OIDC).

Imports the SDK for the places where metadata may stand. Whatever a document says is checked before it is believed: an
issuer must be the one that was asked for, a resource must be the server's.
"""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from mcp.client.auth.utils import (
    build_oauth_authorization_server_metadata_discovery_urls,
    build_protected_resource_metadata_discovery_urls,
    issuers_match,
)
from mcp.shared.auth_utils import check_resource_allowed, resource_url_from_server_url

from mcp_bridge import modern
from mcp_bridge.oauth.challenge import Challenge, read_challenge
from mcp_bridge.oauth.fetch import Way, fetch, origin
from mcp_bridge.wire import MODERN, Request, request_message
from registry.entries import Server
from registry.errors import UpstreamInvalid, UpstreamUnavailable

D = TypeVar("D")


class AuthorizationServer(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub reads of an authorization server's metadata."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str | None = None
    registration_endpoint: str | None = None
    scopes_supported: tuple[str, ...] | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    code_challenge_methods_supported: tuple[str, ...] | None = None
    client_id_metadata_document_supported: bool | None = None
    authorization_response_iss_parameter_supported: bool | None = None


class Found(msgspec.Struct, frozen=True):
    """Where to ask for tokens, and for what."""

    authorization_server: AuthorizationServer
    resource: str
    """RFC 8707: for whom the token is."""
    scopes: tuple[str, ...]
    """Which to ask for; empty: none in particular."""


class _ResourceMetadata(msgspec.Struct, kw_only=True):
    resource: str
    authorization_servers: tuple[str, ...] = ()
    scopes_supported: tuple[str, ...] | None = None


async def discover(way: Way, server: Server) -> Found:
    """Find out where a server's tokens come from.

    Raises:
        UpstreamError: it cannot be found out, or what is found contradicts itself.
    """
    auth, url = server.auth, server.url
    assert auth is not None
    assert url is not None
    resource, asked, issuer = resource_url_from_server_url(url), auth.scopes, auth.issuer
    if auth.token_url is not None:
        known = AuthorizationServer(issuer=issuer or origin(auth.token_url), token_endpoint=auth.token_url)
        return Found(known, resource, asked)
    if issuer is None or not asked:
        challenge = await _challenge(way, url)
        metadata = await _resource_metadata(way, url, challenge.resource_metadata)
        if metadata is not None:
            resource = metadata.resource
        if not asked:
            asked = challenge.scopes or (metadata and metadata.scopes_supported) or ()
        if issuer is None:
            named = metadata.authorization_servers if metadata is not None else ()
            issuer = named[0] if named else "{0.scheme}://{0.netloc}".format(urlsplit(url))
    return Found(await _authorization_server(way, issuer), resource, asked)


async def _challenge(way: Way, url: str) -> Challenge:
    """Ask without a credential, to be told which would be accepted."""
    request = Request(method="server/discover")
    body = request_message(request.method, modern.envelope(request))
    sent = (
        ("content-type", "application/json"),
        ("mcp-protocol-version", MODERN),
        ("mcp-method", request.method),
    )
    answer = await fetch(way, url, method="POST", headers=sent, body=body)
    return read_challenge(answer.challenge) if answer.status == 401 else Challenge()


async def _resource_metadata(way: Way, url: str, named: str | None) -> _ResourceMetadata | None:
    for place in build_protected_resource_metadata_discovery_urls(named, url):
        found = await _document(way, place, _ResourceMetadata)
        if found is not None:
            if not check_resource_allowed(url, found.resource):
                raise UpstreamInvalid(way.entry, "its resource metadata is another resource's")
            return found
    return None


async def _authorization_server(way: Way, issuer: str) -> AuthorizationServer:
    for place in build_oauth_authorization_server_metadata_discovery_urls(issuer, issuer):
        found = await _document(way, place, AuthorizationServer)
        if found is not None:
            if not issuers_match(found.issuer, issuer):
                raise UpstreamInvalid(way.entry, "its authorization server's metadata is another issuer's")
            return found
    raise UpstreamUnavailable(way.entry, "its authorization server shows no metadata; set auth.issuer")


async def _document(way: Way, url: str, kind: type[D]) -> D | None:
    """Read metadata; None: there is none at this place."""
    answer = await fetch(way, url)
    if answer.status >= 500:
        raise UpstreamUnavailable(way.entry, f"its metadata cannot be had (HTTP {answer.status})")
    if answer.status != 200:
        return None
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # a page for people, as some servers give for every path
