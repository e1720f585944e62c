"""A Pydantic AI agent with the suite's brain, served by its AG-UI adapter; runs in the environment of ag-ui.

Arguments: the port, and the directory through which the test speaks to it; brain.py lies there.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from pydantic_ai import Agent, BinaryContent, DeferredToolRequests
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.ui.ag_ui import AGUIAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PORT, HERE = int(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(HERE))
import brain  # noqa: E402


async def released() -> None:
    """Wait until the test says so."""
    while not (HERE / "released").exists():
        await asyncio.sleep(0.02)


async def think(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    """Say what the brain says; a question is a tool whose call must be approved."""
    parts = [part for one in messages if isinstance(one, ModelRequest) for part in one.parts]
    if isinstance(parts[-1], ToolReturnPart):
        yield brain.told(str(parts[-1].content))
        return
    *before, now = [part.content for part in parts if isinstance(part, UserPromptPart)]
    if isinstance(now, list) and (file := next((one for one in now if isinstance(one, BinaryContent)), None)):
        yield file.base64
        return
    try:
        async for piece in brain.say([_text(one) for one in before], _text(now), released):
            yield piece
    except brain.Question as question:
        yield {0: DeltaToolCall("ask", f'{{"question": "{question}"}}', tool_call_id="q1")}
    except (asyncio.CancelledError, GeneratorExit):
        (HERE / "cancelled").touch()
        raise


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(one for one in content if isinstance(one, str))


agent = Agent(FunctionModel(stream_function=think), output_type=[str, DeferredToolRequests])


@agent.tool_plain(requires_approval=True)
def ask(question: str) -> str:
    """Ask the user."""
    return f"yes to {question}"


async def run(request: Request) -> Response:
    """One run."""
    body = await request.json()
    with (HERE / "sessions").open("a") as sessions:
        sessions.write(f"{body['threadId']}\n")
    return await AGUIAdapter.dispatch_request(request, agent=agent)


app = Starlette(routes=[Route("/", run, methods=["POST"]), Route("/ok", lambda _: Response("ok"))])
uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
