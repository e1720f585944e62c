"""Request targets that try to walk around the key, the grant or the door."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Hub, OpenHub

YAML = """
agents:
  open: {url: "http://127.0.0.1:9", card: public}
  closed: {url: "http://127.0.0.1:9"}
models:
  offline: {provider: offline}
"""

TARGETS = [
    "/a2a/closed",
    "/a2a/closed/.well-known/agent-card.json",
    "/a2a/open/%2e%2e/closed/.well-known/agent-card.json",
    "/a2a/open/../closed/.well-known/agent-card.json",
    "/a2a/open%2f..%2fclosed",
    "/a2a//closed",
    "//a2a/closed",
    "/a2a/closed;x=/.well-known/agent-card.json",
    "/a2a/open%00/.well-known/agent-card.json",
    "/a2a/Open/.well-known/agent-card.json",
    "/a2a/open./.well-known/agent-card.json",
    "/a2a/open/.well-known/agent-card.json/..",
    "/livez/../v1/models",
    "/livez/",
    "/livez%2f..%2fv1%2fmodels",
    "/docs/../api/keys",
    "/docs/",
    "/docs%2f..%2fapi%2fkeys",
    "/openapi.json/../api/keys",
    "/api/keys",
    "/api/keys?x=/docs",
    "/api/keys#/docs",
    "/api%2fkeys",
    "/API/keys",
    "/mcp",
    "/mcp/",
    "/mcp//",
    "/mcp/%2e%2e/livez",
    "/v1/models",
    "/v1/models/..%2f..%2flivez",
    "/v1//models",
    "http://127.0.0.1/livez",
    "http://evil.example/v1/models",
    "*",
]


async def raw(hub: Hub, target: str, *headers: str, method: str = "GET") -> bytes:
    """Send one request as it stands and return its status line."""
    host, port = hub.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n")[0]


@pytest.mark.attack("2.1/6", "2.2/31")
async def test_no_spelling_of_a_path_is_served_without_a_key(hub: OpenHub) -> None:
    async with hub(YAML) as running:
        statuses = {target: await raw(running, target) for target in TARGETS}
    assert not {target: status for target, status in statuses.items() if not status.endswith(b"401 Unauthorized")}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/a2a/open", "/a2a/open/.well-known/agent-card.json"])
@pytest.mark.attack("2.2/11")
async def test_what_is_open_is_open_to_readers_only(hub: OpenHub, path: str, method: str) -> None:
    async with hub(YAML) as running:
        assert b" 401 " in await raw(running, path, method=method)


@pytest.mark.parametrize(
    "headers",
    [
        ("X-Litellm-Api-Key: wrong", "Authorization: Bearer {key}"),
        ("Authorization: Basic {key}",),
        ("Authorization: Bearer",),
        ("Authorization: Bearer {key}\u00a0",),
        ("Authorization: Bearer {key}, Bearer {key}",),
        ("Authorization: Bearer ' OR '1'='1",),
        ("Authorization: Bearer {key}" + "A" * 5000,),
        ("Proxy-Authorization: Bearer {key}",),
        ("Cookie: authorization={key}",),
    ],
)
@pytest.mark.attack("2.2/3")
async def test_only_the_one_right_credential_opens(hub: OpenHub, headers: tuple[str, ...]) -> None:
    async with hub(YAML) as running:
        key = await running.key("model:*")
        assert b" 401 " in await raw(running, "/v1/models", *(header.format(key=key) for header in headers))
        assert b" 200 " in await raw(running, "/v1/models", f"authorization:bearer  {key}\t")


@pytest.mark.parametrize(
    "host",
    [
        "localhost:4000/#@x",
        "localhost@evil.example",
        "evil.example",
        "localhost.evil.example",
        "localhost.",
        "localhost, evil.example",
        "127.1",
        "[::ffff:127.0.0.1]",
        "",
        "localhost\\evil",
    ],
)
@pytest.mark.attack("2.1/5", "2.1/6", "2.2/4", defence="hub.hosts:Hosts.serve")
async def test_a_foreign_host_is_refused_before_anything_else(hub: OpenHub, host: str) -> None:
    async with hub(YAML) as running:
        address, port = running.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(address, int(port))
        writer.write(f"GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answered = await reader.read()
        writer.close()
        assert b" 421 " in answered.partition(b"\r\n")[0]
