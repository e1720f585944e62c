"""An agent of Google's Agent Development Kit with the suite's brain as its model, for `adk api_server`; runs in the environment of adk.

It lies in a directory of its own, beside brain.py, in the directory through which the test speaks to it.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from google.adk.agents import Agent
from google.adk.agents.callback_context import CallbackContext
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.tools import LongRunningFunctionTool
from google.genai.types import Content, FunctionCall, Part

HERE = Path(__file__).parents[1]
sys.path.insert(0, str(HERE))
import brain  # noqa: E402


async def released() -> None:
    """Wait until the test says so."""
    while not (HERE / "released").exists():
        await asyncio.sleep(0.02)


def said(*parts: Part, partial: bool = False) -> LlmResponse:
    """What a model says."""
    return LlmResponse(content=Content(role="model", parts=list(parts)), partial=partial)


class Model(BaseLlm):
    """Says what the brain says; a question is the call of a long-running tool."""

    async def generate_content_async(self, llm_request: LlmRequest, stream: bool = False) -> AsyncIterator[LlmResponse]:
        """In pieces, and then whole, as the kit has it."""
        parts = [part for one in llm_request.contents if one.role == "user" for part in one.parts or ()]
        if answer := parts[-1].function_response:
            yield said(Part(text=brain.told(str((answer.response or {})["result"]))))
            return
        if parts[-1].inline_data:
            yield said(parts[-1])
            return
        *before, now = [part.text for part in parts if part.text]
        whole = ""
        try:
            async for piece in brain.say(before, now, released):
                whole += piece
                yield said(Part(text=piece), partial=True)
        except brain.Question as question:
            yield said(Part(function_call=FunctionCall(id="q1", name="ask", args={"question": str(question)})))
            return
        except (asyncio.CancelledError, GeneratorExit):
            (HERE / "cancelled").touch()
            raise
        yield said(Part(text=whole))


def note(callback_context: CallbackContext) -> None:
    """Note which sessions messages come in."""
    with (HERE / "sessions").open("a") as sessions:
        sessions.write(f"{callback_context.session.id}\n")


def ask(question: str) -> Any:
    """Ask the user, who answers later."""


root_agent = Agent(
    name="brain",
    description="The brain of the suite",
    model=Model(model="brain"),
    tools=[LongRunningFunctionTool(ask)],
    before_agent_callback=note,
)
