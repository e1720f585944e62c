"""Pydantic AI as a client of the hub: its model, its tools and the agent that it asks all come from there.

pip install "pydantic-ai-slim[openai,mcp]"
"""

import asyncio
import os

from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

HUB = os.environ.get("HUB_URL", "http://127.0.0.1:4000")
KEY = os.environ["HUB_KEY"]

model = OpenAIChatModel("assistant", provider=OpenAIProvider(base_url=f"{HUB}/v1", api_key=KEY))


async def ask(question: str, *_form: object) -> dict[str, str]:
    """Put to the person at the terminal what an agent asks back."""
    return {"answer": await asyncio.to_thread(input, f"{question} ")}


tools = MCPToolset(f"{HUB}/mcp", headers={"Authorization": f"Bearer {KEY}"}, elicitation_handler=ask)
assistant = Agent(model, toolsets=[tools])


async def main() -> None:
    """Ask for the time, which a tool knows, and for a story, which the agent `storyteller` tells as a tool."""
    for question in (
        "What is the current time in the timezone 'Europe/Berlin'?",
        "Tell a tiny story, with the message 'a fox who liked ports'.",
    ):
        result = await assistant.run(question)
        print(result.output)


asyncio.run(main())
