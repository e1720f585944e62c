"""A hub with nothing but the MCP door, its bridge in reach of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from hub import errors
from hub.app import App, Door, House, Routes, jsonrpc
from hub.asgi import Limits
from hub.auth import Authenticator
from hub.doors.mcp import McpDoor
from hub.hosts import Hosts
from hub.serve import server
from hub.services import Services, open_services
from hub.settings import environment
from llm.providers.table import NAMES
from mcp_bridge.bridge import Bridge, open_bridge
from registry.config import read
from registry.identity import KeySpec
from tests.conftest import Embedded, free_socket, run, with_hub_section
from tests.recording import RecordingGate

MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


@dataclass
class McpHub:
    url: str
    services: Services
    bridge: Bridge
    gate: RecordingGate

    async def key(self, *allow: str) -> str:
        name = f"key-{len(await self.services.keys.all_live())}"
        _, secret = await self.services.keys.create(KeySpec(name=name, allow=allow))
        return secret

    def http(self, secret: str) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {secret}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    async def listed(self, *names: str) -> None:
        """Wait until tools of these exposed names are in the catalog."""
        async with asyncio.timeout(20):
            while not set(names) <= self.services.registry.catalog.tools.keys():
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def client(self, secret: str, *, mode: Any = "auto", path: str = "/mcp") -> AsyncIterator[Client]:
        """The official SDK's client."""
        async with (
            httpx2.AsyncClient(headers={"authorization": f"Bearer {secret}"}, trust_env=False, timeout=30) as http,
            Client(streamable_http_client(self.url + path, http_client=http), mode=mode, cache=None) as client,
        ):
            yield client


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


@asynccontextmanager
async def open_mcp_hub(
    directory: Path, yaml: str = "", *, environ: dict[str, str] | None = None
) -> AsyncIterator[McpHub]:
    """Serve it; at the end every permit must have been settled once."""
    sock = free_socket()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    declared = read(
        with_hub_section(directory, yaml),
        file="hub.yaml",
        environ=environ or {},
        read_file=lambda name: (directory / name).read_text(),
        providers=NAMES,
    )
    hubs: list[McpHub] = []
    gates: list[RecordingGate] = []

    def make_gate(record: Any) -> RecordingGate:
        gates.append(RecordingGate(record))
        return gates[-1]

    @asynccontextmanager
    async def opener() -> AsyncIterator[House]:
        async with (
            open_services(declared, public_url=url, environment={}, make_gate=make_gate) as services,
            open_bridge(
                services.registry, gate=services.gate, egress=services.egress, environment=environment()
            ) as bridge,
            asyncio.TaskGroup() as tasks,
        ):
            door = McpDoor(bridge.dispatch)
            legacy = tasks.create_task(door.run())
            hubs.append(McpHub(url, services, bridge, gates[0]))
            hung = Door(door, jsonrpc(errors.mcp))
            yield House(
                routes=Routes(exact={"/mcp": hung}, prefixes=(("/mcp/", hung),)),
                authenticator=Authenticator(services.keys),
                hosts=Hosts(url, bound_to="127.0.0.1", allowed_origins=[]),
                limits=Limits(),
            )
            legacy.cancel()

    real = server(App(opener), host="127.0.0.1", port=0, drain_s=2)
    async with run(Embedded(real.config), sock):
        yield hubs[0]
    gates[0].check()
