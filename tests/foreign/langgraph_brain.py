"""The suite's brain as a graph with a model that streams, for `langgraph dev`; runs in the environment of langgraph."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, NotRequired

import brain  # tests/peers/platforms/brain.py, copied beside this file
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import agenerate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from typing_extensions import TypedDict

HERE = Path(__file__).parent


class State(TypedDict):
    """What the agent remembers of a thread."""

    messages: Annotated[list[AnyMessage], add_messages]
    answer: NotRequired[int]
    """A member by itself, as the A2A endpoint gives data parts to a graph."""


async def released() -> None:
    """Wait until the test says so."""
    while not (HERE / "released").exists():
        await asyncio.sleep(0.02)


class Model(BaseChatModel):
    """Says what the brain says."""

    @property
    def _llm_type(self) -> str:
        return "brain"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise RuntimeError("it is only asked asynchronously")

    async def _agenerate(self, messages: list[AnyMessage], *_: Any, **__: Any) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages))

    async def _astream(self, messages: list[AnyMessage], *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        *before, now = [str(one.text) for one in messages if one.type == "human"]
        async for piece in brain.say(before, now, released):
            yield ChatGenerationChunk(message=AIMessageChunk(piece))


async def answer(state: State, config: RunnableConfig) -> State:
    """Say what the brain says; files and questions are the graph's own."""
    with (HERE / "sessions").open("a") as sessions:
        sessions.write(f"{config['configurable']['thread_id']}\n")
    if not state["messages"]:
        return {"messages": [AIMessage(f"answer {state['answer']}")]}
    last = state["messages"][-1]
    blocks = [one for one in last.content if isinstance(one, dict)] if isinstance(last.content, list) else []
    if image := next((one for one in blocks if one["type"] == "image_url"), None):
        return {"messages": [AIMessage([image])]}
    try:
        return {"messages": [await Model().ainvoke(state["messages"], config)]}
    except brain.Question as question:
        return {"messages": [AIMessage(brain.told(str(interrupt(str(question)))))]}
    except asyncio.CancelledError:
        (HERE / "cancelled").touch()
        raise


graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").add_edge("answer", END).compile()
