"""The OpenAI Agents SDK as a client of the hub: models over Responses, tools over MCP, an A2A agent as a model.

pip install openai-agents
"""

import asyncio
import os

from agents.mcp import MCPServerStreamableHttp
from openai import AsyncOpenAI

from agents import Agent, OpenAIProvider, RunConfig, Runner

HUB = os.environ.get("HUB_URL", "http://127.0.0.1:4000")
KEY = os.environ["HUB_KEY"]

# The SDK sends traces to OpenAI unless told not to.
config = RunConfig(
    model_provider=OpenAIProvider(openai_client=AsyncOpenAI(base_url=f"{HUB}/v1", api_key=KEY)), tracing_disabled=True
)
storyteller = Agent(name="Storyteller", model="agent/storyteller")


async def main() -> None:
    """Ask for the time, which a tool knows; then for a story, which the A2A agent `storyteller` tells."""
    params = {"url": f"{HUB}/mcp", "headers": {"Authorization": f"Bearer {KEY}"}}
    async with MCPServerStreamableHttp(params=params, client_session_timeout_seconds=60) as tools:
        assistant = Agent(name="Assistant", model="assistant", mcp_servers=[tools])
        answer = await Runner.run(
            assistant, "What is the current time in the timezone 'Europe/Berlin'?", run_config=config
        )
        print(answer.final_output)
    story = Runner.run_streamed(storyteller, "a fox who liked ports", run_config=config)
    async for event in story.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            print(event.data.delta, end="", flush=True)
    print()


asyncio.run(main())
