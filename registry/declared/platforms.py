"""Platforms that speak A2A themselves beside their own API: where, for `options: {api: a2a}`. Pure.

Such an agent is an A2A agent like any other; where it strays from A2A is mended for it as for all.
"""

from __future__ import annotations

from uuid import UUID, uuid5

from registry.declared.entry_shapes import AgentShape

_GRAPHS = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
"""Where LangGraph's server names the assistant that it makes for each graph, by the graph's id (langgraph-api 0.16, graph.py)."""


def a2a_address(shape: AgentShape) -> str | None:
    """Where the platform speaks A2A for this agent; None: it is to be bridged, or needs none. Raises ValueError."""
    if shape.bridge not in {"langgraph", "pydantic_ai"} or shape.options.get("api") != "a2a":
        return None
    if others := sorted(shape.options.keys() - {"api"}):
        raise ValueError(f"has options with api: a2a, and {others[0]}, which belongs to the platform's own API")
    if shape.bridge == "langgraph":
        return _langgraph(shape)
    if shape.assistant is not None:
        raise ValueError("has assistant, which fasta2a does not know: there is one agent at an address")
    return shape.url


def _langgraph(shape: AgentShape) -> str:
    """Its endpoints are named by assistants' ids alone, unlike those of its own API."""
    if shape.assistant is None:
        raise ValueError("needs assistant: the assistant's id, or that of its graph")
    try:
        assistant = UUID(shape.assistant)
    except ValueError:
        assistant = uuid5(_GRAPHS, shape.assistant)
    return f"{(shape.url or '').rstrip('/')}/a2a/{assistant}"
