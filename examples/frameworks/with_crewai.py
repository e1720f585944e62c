"""CrewAI as a client of the hub: a crew of an agent with a model and tools, and an A2A agent that it delegates to.

pip install "crewai[a2a]"
"""

import os

from crewai import LLM, Agent, Crew, Task
from crewai.a2a import A2AClientConfig
from crewai.a2a.auth import BearerTokenAuth
from crewai.mcp import MCPServerHTTP

HUB = os.environ.get("HUB_URL", "http://127.0.0.1:4000")
KEY = os.environ["HUB_KEY"]

model = LLM(model="openai/assistant", base_url=f"{HUB}/v1", api_key=KEY)
clerk = Agent(
    role="Clerk",
    goal="Answer with what the tools say",
    backstory="You look things up.",
    llm=model,
    mcps=[MCPServerHTTP(url=f"{HUB}/mcp", headers={"Authorization": f"Bearer {KEY}"})],
)
author = Agent(
    role="Author",
    goal="Have stories told",
    backstory="You know the storyteller.",
    llm=model,
    a2a=A2AClientConfig(
        endpoint=f"{HUB}/a2a/storyteller/.well-known/agent-card.json",
        auth=BearerTokenAuth(token=KEY),
        trust_remote_completion_status=True,  # the story is the answer
    ),
)
time = Task(
    description="What is the current time in the timezone 'Europe/Berlin'?", expected_output="The time", agent=clerk
)
story = Task(description="Tell a story about 'a fox who liked ports'.", expected_output="A story", agent=author)
for output in Crew(agents=[clerk, author], tasks=[time, story]).kickoff().tasks_output:
    print(output.raw)
