"""A server of 2025-11-25 whose tool only runs as a task: the official SDK's, whose middleware says what that no longer knows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as t
from mcp.server import Server
from mcp.shared.exceptions import MCPError

from tests.peers.mcp_servers import Peer

RELATED = "io.modelcontextprotocol/related-task"
NOW = "2026-01-01T00:00:00Z"
TOOL = {"name": "work", "inputSchema": {"type": "object"}, "execution": {"taskSupport": "required"}}


def legacy_task_server(peer: Peer) -> Server[Any]:
    """`work` waits for `peer.release`; its task is called `own`."""

    async def answer(ctx: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        params = ctx.params or {}
        if ctx.method == "tools/list":
            return {"tools": [TOOL]}
        if ctx.method in {"initialize", "ping"} or ctx.request_id is None:
            return await call_next(ctx)
        peer.calls.append((ctx.method, params))
        if ctx.method == "tools/call" and "task" not in params:
            raise MCPError(code=t.METHOD_NOT_FOUND, message="work requires task augmentation")
        if ctx.method == "tools/call":
            made = {"taskId": "own", "status": "working", "createdAt": NOW, "lastUpdatedAt": NOW, "ttl": 60_000}
            return {"task": made}
        if ctx.method == "tasks/cancel":
            peer.cancelled.set()
            peer.release.set()
            return {}
        peer.waiting.set()
        await peer.release.wait()
        return {"content": [{"type": "text", "text": "worked"}], "_meta": {RELATED: {"taskId": "own"}, "x": 1}}

    server: Server[Any] = Server("old tasks", version="1", on_list_tools=_never)
    server.middleware.append(answer)
    return server


async def _never(_ctx: Any, _params: Any) -> t.ListToolsResult:
    """Stand for the capability; the middleware answers."""
    raise AssertionError("the middleware answers before")
