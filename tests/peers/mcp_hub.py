"""The real hub as the MCP tests use it: the bridge in reach, the official client towards it, modern messages by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mcp_bridge.dispatch import Dispatch
from mcp_bridge.sync import Sync
from mcp_bridge.upstream import Upstream
from tests.conftest import Hub, open_hub
from tests.until import until

MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


class McpHub(Hub):
    """A hub under test."""

    @property
    def dispatch(self) -> Dispatch:
        return self.services.tools

    @property
    def sync(self) -> Sync:
        return self.services.sync

    def upstream(self, name: str) -> Upstream:
        return self.dispatch._pool.upstream(self.services.registry.catalog.servers[name])

    async def listed(self, *names: str) -> None:
        """Wait until tools of these exposed names are in the catalog."""
        await until(lambda: set(names) <= self.services.registry.catalog.tools.keys())

    @asynccontextmanager
    async def client(
        self,
        secret: str,
        *,
        mode: Any = "auto",
        path: str = "/mcp",
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> AsyncIterator[Client]:
        """The official SDK's client; `options` are its own."""
        given = {"authorization": f"Bearer {secret}", **(headers or {})}
        async with (
            httpx2.AsyncClient(headers=given, trust_env=False, timeout=30) as http,
            Client(
                streamable_http_client(self.url + path, http_client=http), mode=mode, cache=None, **options
            ) as client,
        ):
            yield client


@asynccontextmanager
async def open_mcp_hub(directory: Path, yaml: str = "") -> AsyncIterator[McpHub]:
    """Serve it; at the end every permit must have been settled once."""
    async with open_hub(directory, yaml) as hub:
        yield McpHub(hub.url, hub.services, hub.gate)


def message(method: str, params: dict[str, Any] | None = None, *, request_id: Any = 1) -> dict[str, Any]:
    """A modern request."""
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {**(params or {}), "_meta": META}}


def headers(method: str, name: str | None = None) -> dict[str, str]:
    """Its headers."""
    found = {
        "mcp-protocol-version": MODERN,
        "mcp-method": method,
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
    }
    return found | ({"mcp-name": name} if name is not None else {})
