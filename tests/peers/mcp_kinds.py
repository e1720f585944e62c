"""The official SDK's server with everything that a server can offer: tools, prompts, resources, templates, completion."""

from __future__ import annotations

import json
from typing import Any

import mcp_types as t
from mcp import MCPError
from mcp.server import Server
from pydantic import ConfigDict

from tests.peers.mcp_servers import Peer

NOTE = "memo:first"
PAGE = "ui://board/main.html"
ICON = t.Icon(src="https://icons.example/a.png", mime_type="image/png")
PROMPTS = [
    t.Prompt(name="greet", title="Greet", arguments=[t.PromptArgument(name="who", required=True)], icons=[ICON]),
    t.Prompt(name="cite"),
    t.Prompt(name="secret"),
]
RESOURCES = [
    t.Resource(uri=NOTE, name="first", mime_type="text/plain", size=5),
    t.Resource(uri="file:///private/key", name="key"),
    t.Resource(uri=PAGE, name="board", mime_type="text/html;profile=mcp-app"),
]
TEMPLATES = [t.ResourceTemplate(uri_template="memo:{name}", name="memos")]
LINK = t.ResourceLink(type="resource_link", uri=NOTE, name="first")
EMBEDDED = t.EmbeddedResource(type="resource", resource=t.TextResourceContents(uri=NOTE, text="embedded"))
TOOLS = [
    t.Tool(
        name="show",
        input_schema={"type": "object"},
        output_schema={"type": "object"},
        annotations=t.ToolAnnotations(read_only_hint=True),
        icons=[ICON],
        _meta={"ui": {"resourceUri": PAGE}, "vendor.example/x": [1]},
    ),
    t.Tool(name="hidden", input_schema={"type": "object"}),
]


class Vendor(t.RequestParams):
    """The params of a method of its own."""

    model_config = ConfigDict(extra="allow")


async def list_tools(_ctx: Any, _params: Any) -> t.ListToolsResult:
    return t.ListToolsResult(tools=TOOLS)


async def list_prompts(_ctx: Any, params: Any) -> t.ListPromptsResult:
    """One on each page; the second page's cursor is empty."""
    at = {None: 0, "": 1, "last": 2}[params.cursor if params else None]
    return t.ListPromptsResult(prompts=[PROMPTS[at]], next_cursor=["", "last", None][at])


async def list_resources(_ctx: Any, _params: Any) -> t.ListResourcesResult:
    return t.ListResourcesResult(resources=RESOURCES)


async def list_templates(_ctx: Any, _params: Any) -> t.ListResourceTemplatesResult:
    return t.ListResourceTemplatesResult(resource_templates=TEMPLATES)


async def complete(_ctx: Any, params: t.CompleteRequestParams) -> t.CompleteResult:
    ref = params.ref.name if isinstance(params.ref, t.PromptReference) else params.ref.uri
    before = (params.context.arguments if params.context else None) or {}
    values = [f"{ref} {params.argument.value}", *before]
    return t.CompleteResult(completion=t.Completion(values=values, total=len(values)))


async def vendor(ctx: Any, params: Vendor) -> dict[str, Any]:
    said = {"echo": params.model_extra, "name": ctx.request.headers.get("mcp-name")}
    return said | ({"resultType": "complete"} if ctx.protocol_version == "2026-07-28" else {})


def server_of_all_kinds(peer: Peer) -> Server[Any]:
    async def call_tool(_ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
        peer.calls.append((params.name, params.arguments or {}))
        return t.CallToolResult(
            content=[t.TextContent(type="text", text="uri"), LINK, EMBEDDED],
            structured_content={"uri": NOTE},
            _meta={"ui": {"resourceUri": PAGE}, "vendor.example/y": 2},
        )

    async def get_prompt(_ctx: Any, params: t.GetPromptRequestParams) -> t.GetPromptResult:
        peer.calls.append((params.name, dict(params.arguments or {})))
        said = t.TextContent(type="text", text=f"Greet {json.dumps(params.arguments)}")
        asked, answered = (
            t.PromptMessage(role="user", content=said),
            t.PromptMessage(role="assistant", content=EMBEDDED),
        )
        return t.GetPromptResult(messages=[asked, answered])

    async def read(ctx: Any, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
        peer.calls.append(("read", {"uri": params.uri}))
        if params.uri == "memo:none":
            modern = ctx.protocol_version == "2026-07-28"
            raise MCPError(-32602 if modern else -32002, "Resource not found", {"uri": params.uri})
        contents = t.TextResourceContents(uri=params.uri, text=f"text of {params.uri}", mime_type="text/plain")
        return t.ReadResourceResult(contents=[contents], ttl_ms=999_999_999, cache_scope="public")

    server: Server[Any] = Server(
        "kinds",
        version="1",
        instructions="Ask me about memos. " + "x" * 9000,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read,
        on_completion=complete,
    )
    server.add_request_handler("vendor.example/do", Vendor, vendor)
    return server
