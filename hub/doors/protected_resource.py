"""The hub as an OAuth protected resource (RFC 9728): its metadata, and the challenge that leads there.

The same for a server that exists and one that does not: who may see which is decided at the door itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from hub.exchange import Exchange, Header
from registry.callers.tokens import Issuer
from registry.errors import HttpMethodRefused, NotFound
from registry.judged import JsonObject, encode

WELL_KNOWN = "/.well-known/oauth-protected-resource"
SCOPE = "mcp"
"""What clients are told to ask for while no issuer is named, who may know it."""


class ResourceDoor:
    """Shows the metadata of `/mcp` and of each path below it."""

    def __init__(self, public_url: str, issuers: Iterable[Issuer] = ()) -> None:
        """`issuers` are where clients get tokens, each with the scopes that the file gives something for."""
        self._public_url = public_url.rstrip("/")
        self._issuers = tuple(issuers)
        scopes = {name: None for issuer in self._issuers for name in issuer.scopes}
        self._scopes = tuple(scopes) if self._issuers else (SCOPE,)

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        if exchange.method not in {"GET", "HEAD"}:
            raise HttpMethodRefused("GET")
        path = exchange.path.removeprefix(WELL_KNOWN).rstrip("/") or "/mcp"  # the root form is the whole door's
        if path != "/mcp" and not path.startswith("/mcp/"):
            raise NotFound("path", exchange.path)
        metadata: JsonObject = {
            "resource": f"{self._public_url}{path}",
            "resource_name": "Hubbub",
            "bearer_methods_supported": ["header"],
        }
        if self._scopes:
            metadata["scopes_supported"] = list(self._scopes)
        if self._issuers:
            metadata["authorization_servers"] = [issuer.url for issuer in self._issuers]
        await exchange.reply(200, encode(metadata))

    def challenge(self, path: str) -> Header:
        """The `WWW-Authenticate` of a request to a path of the MCP door that brought no key (RFC 9728 §5.1)."""
        safe = "".join(char for char in path.rstrip("/") if char.isascii() and (char.isalnum() or char in "/_-."))
        value = f'Bearer resource_metadata="{self._public_url}{WELL_KNOWN}{safe}"'
        if self._scopes:
            value += f', scope="{" ".join(self._scopes)}"'
        return b"www-authenticate", value.encode()
