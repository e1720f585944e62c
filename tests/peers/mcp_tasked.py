"""An MCP server whose tool `echo` says what came in the `_meta` of its call (official SDK).

`python -m tests.peers.mcp_tasked` serves it over stdio.
"""

from __future__ import annotations

import json
from typing import Any

import anyio
import mcp_types as t
from mcp.server import Server
from mcp.server.stdio import stdio_server

from tests.peers.mcp_asking import ANY, text
from tests.peers.mcp_servers import Peer


def tasked_server(_peer: Peer) -> Server[Any]:
    async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
        return t.ListToolsResult(tools=[t.Tool(name="echo", input_schema=ANY)])

    async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
        return text(json.dumps(params.model_dump(by_alias=True, mode="json").get("_meta") or {}))

    return Server("tasked", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


async def over_stdio() -> None:
    server = tasked_server(Peer())
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(over_stdio)
