"""A Pydantic AI agent with the suite's brain, served by fasta2a; runs in the environment of fasta2a.

Arguments: the port, and the directory through which the test speaks to it; brain.py lies there.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from fasta2a.pydantic_ai import agent_to_a2a
from fasta2a.storage import InMemoryStorage
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

PORT, HERE = int(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(HERE))
import brain  # noqa: E402


async def released() -> None:
    """Wait until the test says so."""
    while not (HERE / "released").exists():
        await asyncio.sleep(0.02)


async def think(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
    """Say what the brain says; a file as text, since a model says nothing else."""
    parts = [part for one in messages if isinstance(one, ModelRequest) for part in one.parts]
    *before, now = [part.content for part in parts if isinstance(part, UserPromptPart)]
    if file := next((one for one in now if isinstance(one, BinaryContent)), None):
        yield file.base64
        return
    async for piece in brain.say([str(one) for one in before], str(now), released):
        yield piece


class Storage(InMemoryStorage[list[ModelMessage]]):
    """Notes which contexts it is asked for."""

    async def load_context(self, context_id: str) -> Any:
        """The messages of a context."""
        with (HERE / "sessions").open("a") as sessions:
            sessions.write(f"{context_id}\n")
        return await super().load_context(context_id)


agent = Agent(FunctionModel(stream_function=think))
app = agent_to_a2a(agent, storage=Storage(), name="brain", url=f"http://127.0.0.1:{PORT}/")
uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
