"""An MCP server whose lists are the test's to change (official SDK)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mcp_types as t
from mcp.server import Server

from tests.peers.mcp_servers import Peer


@dataclass
class Turncoat:
    """What it says now."""

    tools: list[t.Tool] = field(default_factory=list)
    prompts: list[t.Prompt] = field(default_factory=list)
    templates: list[t.ResourceTemplate] = field(default_factory=list)
    server: Any = None
    """The server itself, whose `instructions` may be set."""

    def upgrade(self, version: str) -> None:
        """Be another version from here on, as after a restart: the SDK keeps what it said of itself."""
        self.server.version = version
        self.server.__dict__.pop("_server_info_stamp_source", None)

    def serve(self, peer: Peer) -> Server[Any]:
        """The server, for `tests.peers.mcp_servers`."""

        async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
            return t.ListToolsResult(tools=self.tools)

        async def list_prompts(ctx: Any, params: Any) -> t.ListPromptsResult:
            return t.ListPromptsResult(prompts=self.prompts)

        async def list_templates(ctx: Any, params: Any) -> t.ListResourceTemplatesResult:
            return t.ListResourceTemplatesResult(resource_templates=self.templates)

        async def list_resources(ctx: Any, params: Any) -> t.ListResourcesResult:
            return t.ListResourcesResult(resources=[])

        async def read(ctx: Any, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
            peer.calls.append(("read", {"uri": params.uri}))
            return t.ReadResourceResult(contents=[t.TextResourceContents(uri=params.uri, text="it")])

        async def get_prompt(ctx: Any, params: t.GetPromptRequestParams) -> t.GetPromptResult:
            peer.calls.append((params.name, {}))
            return t.GetPromptResult(messages=[])

        async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
            peer.calls.append((params.name, params.arguments or {}))
            return t.CallToolResult(content=[t.TextContent(type="text", text="done")])

        self.server = Server(
            "turncoat",
            version="1",
            on_list_tools=list_tools,
            on_call_tool=call_tool,
            on_list_prompts=list_prompts,
            on_get_prompt=get_prompt,
            on_list_resources=list_resources,
            on_list_resource_templates=list_templates,
            on_read_resource=read,
        )
        return self.server  # type: ignore[no-any-return]


def tool(name: str, description: str, **properties: Any) -> t.Tool:
    """A tool with these arguments."""
    return t.Tool(name=name, description=description, input_schema={"type": "object", "properties": properties})
