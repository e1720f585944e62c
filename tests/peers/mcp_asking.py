"""MCP servers whose tools ask their callers something, in whichever revision they are asked (official SDK).

`python -m tests.peers.mcp_asking stdio` serves the same over stdio, `stdio-legacy` as a server that knows sessions only;
a directory given after it shows in files what happens, `waiting` and `cancelled`, and `release` ends the waiting;
`pid-…` is there from the start.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import mcp_types as t
from mcp.server import Server
from mcp.server.runner import serve_loop
from mcp.server.sse import SseServerTransport
from mcp.server.stdio import stdio_server
from mcp.shared.message import ServerMessageMetadata

from tests.peers.mcp_servers import MakeServer, Peer, _managed, _plain, recorded
from tests.serving import served

MODERN = "2026-07-28"
TOOLS = ("ask", "ask_twice", "visit", "sample", "roots", "report", "wait", "hold", "echo")
NOTED = ("waiting", "cancelled")
ANY = {"type": "object", "additionalProperties": True}


def form(message: str, member: str) -> t.ElicitRequest:
    schema = {"type": "object", "properties": {member: {"type": "string"}}, "required": [member]}
    return t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))


ASKED: dict[str, list[t.ServerRequest]] = {
    "ask": [form("Who are you?", "name")],
    "ask_twice": [form("Who are you?", "name"), form("Which colour?", "color")],
    "hold": [form("Go on?", "yes")],
    "visit": [
        t.ElicitRequest(
            params=t.ElicitRequestURLParams(message="Sign in", url="https://idp.example/in", elicitation_id="e1")
        )
    ],
    "sample": [
        t.CreateMessageRequest(
            params=t.CreateMessageRequestParams(
                messages=[t.SamplingMessage(role="user", content=t.TextContent(type="text", text="Say hi"))],
                max_tokens=10,
            )
        )
    ],
    "roots": [t.ListRootsRequest()],
}
RESULTS: dict[str, type[Any]] = {
    "elicitation/create": t.ElicitResult,
    "sampling/createMessage": t.CreateMessageResult,
    "roots/list": t.ListRootsResult,
}


def told(answer: Any) -> str:
    """What a tool says of an answer that it got."""
    if isinstance(answer, t.ElicitResult):
        return f"{answer.action}:{answer.content or ''}"
    if isinstance(answer, t.CreateMessageResult):
        return f"{answer.model}:{answer.content.text}"  # type: ignore[union-attr]
    return ",".join(str(root.uri) for root in answer.roots)


def asking_server(peer: Peer) -> Server[Any]:  # noqa: C901 - a tool after the other
    async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
        return t.ListToolsResult(tools=[t.Tool(name=name, input_schema=ANY) for name in TOOLS])

    async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult | t.InputRequiredResult:
        peer.calls.append((params.name, params.arguments or {}))
        if params.name == "echo":
            return text(str((params.arguments or {}).get("text")))
        if params.name in {"wait", "hold"} and not (params.name == "hold" and ctx.protocol_version == MODERN):
            if params.name == "hold":
                await ctx.session.send_request(ASKED["hold"][0], t.ElicitResult, metadata=of(ctx))
            peer.waiting.set()
            try:
                await peer.release.wait()
            except asyncio.CancelledError:
                peer.cancelled.set()
                raise
            return text("released")
        if params.name == "report":
            for step in (1, 2):
                await ctx.session.report_progress(step, 2, f"step {step}")
            await ctx.session.send_log_message("warning", "look out", related_request_id=ctx.request_id)
            await ctx.session.send_log_message("debug", "all details", related_request_id=ctx.request_id)
            return text("reported")
        if ctx.protocol_version == MODERN:
            return rounds(params)
        answers = [
            await ctx.session.send_request(one, RESULTS[one.method], metadata=of(ctx)) for one in ASKED[params.name]
        ]
        return text(f"legacy {' '.join(told(answer) for answer in answers)}")

    async def set_level(ctx: Any, params: t.SetLevelRequestParams) -> t.EmptyResult:
        peer.calls.append(("logging/setLevel", {"level": params.level}))
        return t.EmptyResult()

    server: Server[Any] = Server("asking", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    server.add_request_handler("logging/setLevel", t.SetLevelRequestParams, set_level)
    return server


def rounds(params: t.CallToolRequestParams) -> t.CallToolResult | t.InputRequiredResult:
    """One question a round; what was said before travels in `requestState`, as clear text that nobody may change."""
    asked = ASKED[params.name]
    said = (params.request_state or "").split("|") if params.request_state else []
    for key, response in (params.input_responses or {}).items():
        if key == f"q{len(said)}":
            method = asked[len(said)].method
            said.append(told(RESULTS[method].model_validate(response.model_dump(by_alias=True))))
    if len(said) == len(asked):
        return text(f"modern {' '.join(said)}")
    return t.InputRequiredResult(
        input_requests={f"q{len(said)}": asked[len(said)]}, request_state="|".join(said) if said else None
    )


def text(value: str) -> t.CallToolResult:
    return t.CallToolResult(content=[t.TextContent(type="text", text=value)])


def of(ctx: Any) -> ServerMessageMetadata:
    return ServerMessageMetadata(related_request_id=ctx.request_id)


@asynccontextmanager
async def asking(eras: str, make: MakeServer = asking_server, sock: socket.socket | None = None) -> AsyncIterator[Peer]:
    """Serve it, or another server, over Streamable HTTP; `eras` is `both`, `modern` or `legacy`."""
    peer = Peer()

    def only(manager: Any) -> Callable[..., Any]:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            is_modern = dict(scope["headers"]).get(b"mcp-protocol-version") == MODERN.encode()
            if (eras == "legacy" and is_modern) or (eras == "modern" and not is_modern):
                await _plain(send, 400, b"Bad Request: Unsupported protocol version")
            else:
                await manager.handle_request(scope, receive, send)

        return app

    async with _managed(peer, make(peer), only, sock):
        yield peer


@asynccontextmanager
async def asking_over_sse(make: MakeServer = asking_server, sock: socket.socket | None = None) -> AsyncIterator[Peer]:
    """Serve it, or what `make` makes, over the two streams of 2024-11-05."""
    peer = Peer()
    server, transport = make(peer), SseServerTransport("/messages/")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise AssertionError("no lifespan here")
        if scope["path"].startswith("/messages/"):
            await transport.handle_post_message(scope, receive, send)
        elif scope["method"] != "GET":
            await _plain(send, 405, b"Method Not Allowed")
        else:
            async with transport.connect_sse(scope, receive, send) as (incoming, outgoing):
                await server.run(incoming, outgoing, server.create_initialization_options())

    async with served(recorded(peer, app), sock) as url:
        peer.url = f"{url}/sse"
        try:
            yield peer
        finally:
            peer.release.set()


async def over_stdio(*, legacy: bool, directory: Path | None) -> None:
    peer = Peer()
    server = asking_server(peer)
    noting = [asyncio.create_task(note(directory, name, getattr(peer, name))) for name in NOTED] if directory else []
    if directory:
        (directory / f"pid-{os.getpid()}").touch()
        noting.append(asyncio.create_task(released(directory, peer)))
    async with stdio_server() as (incoming, outgoing):
        if legacy:
            async with server.lifespan(server) as state:
                await serve_loop(server, incoming, outgoing, lifespan_state=state)
        else:
            await server.run(incoming, outgoing, server.create_initialization_options())
    for task in noting:
        task.cancel()


async def note(directory: Path, name: str, happened: asyncio.Event) -> None:
    """Show in the file `name` whenever something happens."""
    while await happened.wait():
        (directory / name).touch()
        happened.clear()


async def released(directory: Path, peer: Peer) -> None:
    """Wait until the file `release` is there."""
    while not (directory / "release").exists():
        await asyncio.sleep(0.01)
    peer.release.set()


if __name__ == "__main__":
    noted = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    anyio.run(lambda: over_stdio(legacy=sys.argv[1] == "stdio-legacy", directory=noted))
