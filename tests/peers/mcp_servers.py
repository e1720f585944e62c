"""MCP servers for tests: the official SDK's, served over HTTP on a free port.

`legacy_only` stands for a server of 2025-11-25 that has never heard of 2026-07-28; the SDK's own answers both eras, so
what is modern is refused in front of it, as older SDKs do. `scripted` is a fake: no real server lists malformed tools.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import mcp_types as t
from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from tests.serving import served

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}
HINTS = {"look": t.ToolAnnotations(read_only_hint=True), "add": t.ToolAnnotations(destructive_hint=False)}
REGION = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}


@dataclass
class Peer:
    """A running server and what it saw."""

    url: str = ""
    manager: Any = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Headers of each HTTP request, by lower-case name, with `:method` and `:body`."""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    telling: Any = None
    """Of `mcp_telling`: the server itself."""


def sdk_server(peer: Peer, *, tools: tuple[str, ...] = ("echo", "wait", "tell", "region", "fail")) -> Server[Any]:
    async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
        schemas = {"region": REGION}
        return t.ListToolsResult(
            tools=[
                t.Tool(
                    name=name,
                    description=f"{name} it",
                    input_schema=schemas.get(name, TEXT),
                    annotations=HINTS.get(name),
                )
                for name in tools
            ]
        )

    async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
        arguments = params.arguments or {}
        peer.calls.append((params.name, arguments))
        if params.name == "tell":
            await ctx.session.report_progress(1)
        if params.name in {"wait", "tell"}:
            peer.waiting.set()
            try:
                await peer.release.wait()
            except asyncio.CancelledError:
                peer.cancelled.set()
                raise
        if params.name == "fail":
            raise ValueError("secret path /etc/passwd")
        return t.CallToolResult(
            content=[t.TextContent(type="text", text=json.dumps(arguments, sort_keys=True))],
            structured_content={"echoed": arguments},
        )

    return Server("peer", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


MakeServer = Callable[..., Server[Any]]


def asked_for(newest: str, receive: Any) -> Any:
    """A server agrees to the revision that it is asked for, if it speaks it."""

    async def hear() -> Any:
        message = await receive()
        body = message.get("body", b"")
        return (
            {
                **message,
                "body": body.replace(b'"protocolVersion":"2025-11-25"', b'"protocolVersion":"%b"' % newest.encode()),
            }
            if body
            else message
        )

    return hear


def recorded(peer: Peer, app: Callable[..., Any]) -> Callable[..., Any]:
    async def recording(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        seen: dict[str, Any] = {name.decode(): value.decode() for name, value in scope["headers"]}
        seen[":method"] = scope["method"]
        peer.requests.append(seen)

        async def hear() -> Any:
            message = await receive()
            if message["type"] == "http.request" and message.get("body"):
                seen[":body"] = message["body"]
            return message

        await app(scope, hear, send)

    return recording


@asynccontextmanager
async def dual_era(make: MakeServer = sdk_server, **options: Any) -> AsyncIterator[Peer]:
    """The SDK's server, which speaks 2026-07-28 and older."""
    peer = Peer()
    async with _managed(peer, make(peer, **options), lambda manager: manager.handle_request):
        yield peer


@asynccontextmanager
async def legacy_only(
    make: MakeServer = sdk_server, *, newest: str = "2025-11-25", **options: Any
) -> AsyncIterator[Peer]:
    """The SDK's server as its older releases were: sessions only, of no revision after `newest`."""
    peer = Peer()

    def refusing(manager: StreamableHTTPSessionManager) -> Callable[..., Any]:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if dict(scope["headers"]).get(b"mcp-protocol-version") == b"2026-07-28":
                await _plain(send, 400, b"Bad Request: Unsupported protocol version")
            else:
                await manager.handle_request(scope, asked_for(newest, receive), send)

        return app

    async with _managed(peer, make(peer, **options), refusing):
        yield peer


@asynccontextmanager
async def _managed(
    peer: Peer, server: Server[Any], make: Callable[[Any], Callable[..., Any]], sock: socket.socket | None = None
) -> AsyncIterator[None]:
    manager = StreamableHTTPSessionManager(server)
    peer.manager = manager
    app = recorded(peer, make(manager))

    async def with_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            async with manager.run():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await app(scope, receive, send)

    async with served(with_lifespan, sock) as url:
        peer.url = f"{url}/mcp"
        try:
            yield
        finally:
            peer.release.set()


Script = Callable[[dict[str, Any]], tuple[int, bytes, bytes] | None]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Peer]:
    """A fake server: `script` takes the posted message and returns status, media type and body; None hangs until `release`, when it is asked again."""
    peer = Peer()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise AssertionError("no lifespan here")
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        answer = script(json.loads(body) if body else {})
        if answer is None:
            peer.waiting.set()
            await peer.release.wait()
            answer = script(json.loads(body) if body else {}) or (500, b"text/plain", b"released")
        status, media_type, content = answer
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", media_type)]})
        await send({"type": "http.response.body", "body": content})

    async with served(recorded(peer, app)) as url:
        peer.url = f"{url}/mcp"
        try:
            yield peer
        finally:
            peer.release.set()


def modern(
    tools: list[Any], *, call: Callable[[dict[str, Any]], tuple[int, bytes, bytes] | None] | None = None
) -> Script:
    """A script that speaks 2026-07-28 and lists `tools` as they are."""

    def script(message: dict[str, Any]) -> tuple[int, bytes, bytes] | None:
        method, request_id = message.get("method"), message.get("id")
        if method == "server/discover":
            return _json(
                request_id, {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}}
            )
        if method == "tools/list":
            return _json(request_id, {"resultType": "complete", "tools": tools})
        return call(message) if call else _json(request_id, {"resultType": "complete", "content": []})

    return script


def _json(request_id: Any, result: Any) -> tuple[int, bytes, bytes]:
    return 200, b"application/json", json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}).encode()


async def _plain(send: Any, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})
