"""Run in an environment of its own: one framework's MCP client lists the tools of a hub and calls some of them.

Arguments: the framework, the URL, the key, and calls as JSON `[[tool, arguments], ...]`. Prints
`{"tools": [names], "answers": [texts]}` as one line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

Call = tuple[str, dict[str, Any]]
Found = tuple[list[str], list[str]]


async def openai_agents(url: str, key: str, calls: list[Call]) -> Found:
    from agents.mcp import MCPServerStreamableHttp

    params: Any = {"url": url, "headers": {"Authorization": f"Bearer {key}"}}
    async with MCPServerStreamableHttp(params=params, client_session_timeout_seconds=60) as server:
        tools = [tool.name for tool in await server.list_tools()]
        answers = [await server.call_tool(name, arguments) for name, arguments in calls]
        return tools, [answer.content[0].text for answer in answers]


async def langchain(url: str, key: str, calls: list[Call]) -> Found:
    from langchain_mcp_adapters.client import MultiServerMCPClient

    headers = {"Authorization": f"Bearer {key}"}
    client = MultiServerMCPClient({"hub": {"url": url, "transport": "streamable_http", "headers": headers}})
    tools = {tool.name: tool for tool in await client.get_tools()}
    answers: list[Any] = [await tools[name].ainvoke(arguments) for name, arguments in calls]
    return list(tools), [answer if isinstance(answer, str) else answer[0]["text"] for answer in answers]


async def pydantic_ai(url: str, key: str, calls: list[Call]) -> Found:
    from pydantic_ai.mcp import MCPToolset

    toolset: Any = MCPToolset(url, headers={"Authorization": f"Bearer {key}"})
    async with toolset:
        tools = [tool.name for tool in await toolset.list_tools()]
        answers = [await toolset.direct_call_tool(name, arguments) for name, arguments in calls]
        return tools, [answer if isinstance(answer, str) else json.dumps(answer) for answer in answers]


async def fastmcp(url: str, key: str, calls: list[Call]) -> Found:
    from fastmcp import Client

    async with Client(url, auth=key) as client:
        tools = [tool.name for tool in await client.list_tools()]
        answers = [await client.call_tool(name, arguments) for name, arguments in calls]
        return tools, [answer.content[0].text for answer in answers]


FRAMEWORKS = {"openai-agents": openai_agents, "langchain": langchain, "pydantic-ai": pydantic_ai, "fastmcp": fastmcp}

if __name__ == "__main__":
    tools, answers = asyncio.run(FRAMEWORKS[sys.argv[1]](sys.argv[2], sys.argv[3], json.loads(sys.argv[4])))
    print(json.dumps({"tools": tools, "answers": answers}))
