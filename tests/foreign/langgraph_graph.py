"""A graph without a model for `langgraph dev`; runs in the environment of langgraph."""

from typing import Annotated

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from typing_extensions import TypedDict


class State(TypedDict):
    """What the agent remembers of a thread."""

    messages: Annotated[list[AnyMessage], add_messages]


def answer(state: State) -> State:
    """Repeat what was said, after asking back if told to."""
    text = str(state["messages"][-1].text)
    if text.startswith("ask"):
        text = str(interrupt("which one?"))
    return {"messages": [AIMessage(f"you said: {text}")]}


graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").add_edge("answer", END).compile()
