"""A Pydantic AI agent with a test model, served by fasta2a on the port given; runs in the environment of fasta2a."""

import sys

import uvicorn
from fasta2a.pydantic_ai import agent_to_a2a
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

port = int(sys.argv[1])
agent = Agent(TestModel(custom_output_text="hello from testmodel"))
app = agent_to_a2a(agent, name="pai", url=f"http://127.0.0.1:{port}/")
uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
