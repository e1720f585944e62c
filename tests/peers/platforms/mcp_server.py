"""Servers of the official MCP SDK whose one tool has the suite's brain.

One makes tasks (the extension) of what holds; one knows sessions only, in which it asks and tells its progress.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as t
from mcp.server import Server

from tests.peers.mcp_asking import form
from tests.peers.mcp_servers import Peer, dual_era, legacy_only
from tests.peers.mcp_tasks import ANY, Made, TaskTools, text
from tests.peers.platforms import brain
from tests.peers.platforms.platform import NOBODYS, Kind, Odd, Platform, Property, event

AMONG: tuple[dict[str, Any], ...] = (
    {"method": "notifications/later", "params": {}},
    {"method": "notifications/message", "params": {"level": "info", "data": NOBODYS}},
    {"method": "notifications/progress", "params": {"progressToken": NOBODYS, "progress": 1, "message": NOBODYS}},
    {"id": NOBODYS, "result": {"resultType": "complete", "content": []}},
    {"id": 77, "error": {"code": -32000, "message": NOBODYS}},
)
ODD = Odd(
    "notifications come in any order before the answer, which is the last message (MCP, Streamable HTTP)",
    tuple(event({"jsonrpc": "2.0", **one}) for one in AMONG),
)


def _server(_peer: Peer, *, platform: Platform, tasks: TaskTools) -> Server[Any]:
    async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
        return t.ListToolsResult(tools=[t.Tool(name="say", description="Says what a brain says.", input_schema=ANY)])

    async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> Any:
        said = params.arguments or {}
        await ctx.session.report_progress(1)  # so its answer is a stream
        if params.input_responses:
            (answer,) = params.input_responses.values()
            return {"resultType": "complete", **text(brain.told(answer.model_dump()["content"]["answer"]))}
        if said.get("text") == "hold":
            return {"resultType": "task", **tasks.start(hold).head()}
        try:
            words = (
                [piece async for piece in brain.say([], said["text"], asyncio.Event().wait)] if "text" in said else []
            )
        except brain.Question as question:
            return t.InputRequiredResult(input_requests={"q1": form(str(question), "answer")})
        except brain.Fell as reason:
            return {"resultType": "complete", **text(str(reason)), "isError": True}
        return {"resultType": "complete", **text("".join(words) or json.dumps(said))}

    async def hold(made: Made) -> dict[str, Any]:
        words = ""
        try:
            async for piece in brain.say([], "hold", platform.released.wait):
                words += piece
                made.payload = {"statusMessage": words.strip()}
        except asyncio.CancelledError:
            platform.cancelled.set()
            raise
        return text(words)

    server: Server[Any] = Server("brain", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    tasks.attach(server)
    return server


def _older_server(_peer: Peer, *, platform: Platform) -> Server[Any]:
    async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
        return t.ListToolsResult(tools=[t.Tool(name="say", description="Says what a brain says.", input_schema=ANY)])

    async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
        said, words = params.arguments or {}, ""
        if "text" not in said:
            return _text(json.dumps(said))
        try:
            async for piece in brain.say([], said["text"], platform.released.wait):
                words += piece
                await ctx.session.report_progress(len(words), message=words.strip())
        except asyncio.CancelledError:
            platform.cancelled.set()
            raise
        except brain.Question as question:
            schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
            answer = await ctx.session.elicit_form(str(question), schema, related_request_id=ctx.request_id)
            return _text(brain.told(answer.content["answer"]))
        except brain.Fell as reason:
            return _text(str(reason), is_error=True)
        return _text(words)

    return Server("brain", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


def _text(said: str, *, is_error: bool = False) -> t.CallToolResult:
    return t.CallToolResult(content=[t.TextContent(type="text", text=said)], is_error=is_error)


@asynccontextmanager
async def _open(_directory: Path) -> AsyncIterator[Platform]:
    platform, tasks = Platform(), TaskTools()
    try:
        async with dual_era(_server, platform=platform, tasks=tasks) as peer:
            platform.entry = f'{{bridge: mcp, url: "{peer.url}", options: {{tool: say, argument: text}}}}'
            yield platform
    finally:
        await tasks.aclose()


@asynccontextmanager
async def _open_older(_directory: Path) -> AsyncIterator[Platform]:
    platform = Platform()
    async with legacy_only(_older_server, platform=platform) as peer:
        platform.entry = f'{{bridge: mcp, url: "{peer.url}", options: {{tool: say, argument: text}}}}'
        yield platform


_NO_CONTEXTS = "a server of this revision knows no contexts"

_LACKS: dict[Property, str] = {
    "memory": _NO_CONTEXTS,
    "streams": "a tool's answer comes whole; before it come its progress, or what its task says",
    "files": "a tool takes no files",
    "isolation": _NO_CONTEXTS,
    "renews": "its keys do not expire by themselves",
}

MCP = Kind(
    "mcp",
    _open,
    "a server of the official SDK, of revision 2026-07-28, with the tasks extension",
    _LACKS,
    ODD,
    card="Says what a brain says.",
)

_NO_MEMORY = "each call has a session of its own"

MCP_OLDER = Kind(
    "mcp, older servers",
    _open_older,
    "a server of the official SDK that knows sessions only, of revision 2025-11-25",
    {
        **_LACKS,
        "memory": _NO_MEMORY,
        "isolation": _NO_MEMORY,
        "rejoin": "a call ends with its session",
    },
    ODD,
    card="Says what a brain says.",
)
