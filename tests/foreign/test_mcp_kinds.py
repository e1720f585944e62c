"""Prompts, resources, templates and completion of a server in TypeScript, through the hub as directly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp import Client, StdioServerParameters

from tests.foreign.conformance import node
from tests.foreign.environments import foreign, make
from tests.peers.mcp_hub import open_mcp_hub

pytestmark = foreign


async def everything(client: Client, prefix: str = "", scheme: str = "") -> dict[str, Any]:
    """What a client gets of the server, names and URIs as the server writes them."""

    def own(result: Any) -> Any:
        return (
            result.model_dump_json(by_alias=True, exclude_none=True)
            .replace(prefix or "\0", "")
            .replace(scheme or "\0", "")
        )

    prompts = await client.list_prompts()
    resources = await client.list_resources()
    templates = await client.list_resource_templates()
    template = templates.resource_templates[0].uri_template
    reference = t.ResourceTemplateReference(type="ref/resource", uri=template)
    completed = t.PromptReference(type="ref/prompt", name=f"{prefix}completable-prompt")
    return {
        "prompts": [own(one) for one in prompts.prompts],
        "resources": [own(one) for one in resources.resources],
        "templates": [own(one) for one in templates.resource_templates],
        "prompt": own((await client.get_prompt(f"{prefix}args-prompt", {"city": "Graz"})).messages[0]),
        "read": own((await client.read_resource(resources.resources[0].uri)).contents[0]),
        "completed": own((await client.complete(completed, {"name": "department", "value": "E"})).completion),
        "of template": own((await client.complete(reference, {"name": "resourceId", "value": "1"})).completion),
    }


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_gets_of_a_typescript_server_what_it_gets_directly(tmp_path: Path, mode: Any) -> None:
    home = await asyncio.to_thread(make, "mcp-js")
    script = home / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    direct = StdioServerParameters(command=str(node(home)), args=[str(script), "stdio"])
    async with Client(direct, mode="legacy", cache=None) as client:
        expected = await everything(client)
    assert all(expected.values())
    yaml = f"mcpServers: {{ts: {{command: {node(home)}, args: [{script}, stdio]}}}}\n"
    async with open_mcp_hub(tmp_path, yaml) as hub:
        await hub.listed("ts__echo")
        secret = await hub.key("server:ts")
        async with hub.client(secret, mode=mode, path="/mcp/ts") as client:
            assert await everything(client) == expected
        async with hub.client(secret, mode=mode) as client:
            assert await everything(client, "ts__", "ts+") == expected
