"""Google's Agent Development Kit as a client of the hub: a model, tools over MCP, and an A2A agent as a tool.

pip install "google-adk[a2a,mcp,openai]"
"""

import asyncio
import os

import httpx
from a2a.client import ClientConfig, ClientFactory
from google.adk.agents import LlmAgent
from google.adk.agents.remote_a2a_agent import RemoteA2aAgent
from google.adk.integrations.openai import OpenAILlm
from google.adk.runners import InMemoryRunner
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.mcp_tool import McpToolset, StreamableHTTPConnectionParams

HUB = os.environ.get("HUB_URL", "http://127.0.0.1:4000")
KEY = os.environ["HUB_KEY"]
HEADERS = {"Authorization": f"Bearer {KEY}"}


async def main() -> None:
    """Ask for the time, which a tool knows, and for a story, which the A2A agent `storyteller` tells."""
    async with httpx.AsyncClient(headers=HEADERS, timeout=60) as http:
        storyteller = RemoteA2aAgent(
            name="storyteller",
            description="Tells a tiny story about anything",
            agent_card=f"{HUB}/a2a/storyteller/.well-known/agent-card.json",
            a2a_client_factory=ClientFactory(ClientConfig(httpx_client=http, streaming=False)),
        )
        tools = McpToolset(
            connection_params=StreamableHTTPConnectionParams(url=f"{HUB}/mcp", headers=HEADERS),
            tool_filter=["time__get_current_time"],  # /mcp has the agent as a tool too
        )
        assistant = LlmAgent(
            name="assistant",
            model=OpenAILlm(model="assistant", base_url=f"{HUB}/v1", api_key=KEY),
            tools=[tools, AgentTool(storyteller)],
        )
        async with InMemoryRunner(assistant) as runner:
            await runner.run_debug(
                [
                    "What is the current time in the timezone 'Europe/Berlin'?",
                    "Tell the story of 'a fox who liked ports' by the storyteller.",
                ],
                verbose=True,
            )


asyncio.run(main())
