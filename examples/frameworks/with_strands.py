"""Strands as a client of the hub: a model, tools over MCP, and an A2A agent as one more tool.

pip install "strands-agents[openai,a2a]"
"""

import os

import httpx
from a2a.client import ClientConfig
from strands import Agent, tool
from strands.agent.a2a_agent import A2AAgent
from strands.models.openai import OpenAIModel
from strands.tools.mcp import MCPClient

HUB = os.environ.get("HUB_URL", "http://127.0.0.1:4000")
KEY = os.environ["HUB_KEY"]
HEADERS = {"Authorization": f"Bearer {KEY}"}


@tool
async def tell_a_story(about: str) -> str:
    """Tell a tiny story.

    Args:
        about: what the story is about
    """
    async with httpx.AsyncClient(headers=HEADERS, timeout=60) as http:
        storyteller = A2AAgent(f"{HUB}/a2a/storyteller", client_config=ClientConfig(httpx_client=http))
        return str(await storyteller.invoke_async(about))


model = OpenAIModel(client_args={"base_url": f"{HUB}/v1", "api_key": KEY}, model_id="assistant")
servers = MCPClient.load_servers({"hub": {"url": f"{HUB}/mcp", "headers": HEADERS}})
assistant = Agent(model=model, tools=[*servers, tell_a_story])

assistant("What is the current time in the timezone 'Europe/Berlin'?")
assistant("Tell a story about 'a fox who liked ports'.")
