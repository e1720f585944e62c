"""The hub as an OAuth protected resource (RFC 9728): its metadata, and the challenge that leads there.

The same for a server that exists and one that does not: who may see which is decided at the door itself.
"""

from __future__ import annotations

from hub.exchange import Exchange, Header
from registry.errors import HttpMethodRefused, NotFound
from registry.judged import encode

WELL_KNOWN = "/.well-known/oauth-protected-resource"
SCOPE = "mcp"


class ResourceDoor:
    """Shows the metadata of `/mcp` and of each path below it."""

    def __init__(self, public_url: str) -> None:
        self._public_url = public_url.rstrip("/")

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        if exchange.method not in {"GET", "HEAD"}:
            raise HttpMethodRefused("GET")
        path = exchange.path.removeprefix(WELL_KNOWN).rstrip("/") or "/mcp"  # the root form is the whole door's
        if path != "/mcp" and not path.startswith("/mcp/"):
            raise NotFound("path", exchange.path)
        metadata = {
            "resource": f"{self._public_url}{path}",
            "resource_name": "Hubbub",
            "bearer_methods_supported": ["header"],
            "scopes_supported": [SCOPE],
        }
        await exchange.reply(200, encode(metadata))

    def challenge(self, path: str) -> Header:
        """The `WWW-Authenticate` of a request to a path of the MCP door that brought no key (RFC 9728 §5.1)."""
        safe = "".join(char for char in path.rstrip("/") if char.isascii() and (char.isalnum() or char in "/_-."))
        value = f'Bearer resource_metadata="{self._public_url}{WELL_KNOWN}{safe}", scope="{SCOPE}"'
        return b"www-authenticate", value.encode()
