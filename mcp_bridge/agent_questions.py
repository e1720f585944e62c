"""What an agent waits for, as a question to its caller's person, and what they answered. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mcp_bridge import agent_shapes
from mcp_bridge.agent_shapes import INTERRUPTED, Turn
from mcp_bridge.listener import Unanswered, declared, question
from registry.entries import AgentTool
from registry.judged import JsonObject, RawObject

ASK = "elicitation/create"

MAX_QUESTION = 4000
"""Characters of what a person is asked."""

_LINKED = "I have opened the link and done what it asks for. Please go on."
_FORM: JsonObject = {
    "type": "object",
    "properties": {"answer": {"type": "string", "title": "Answer"}},
    "required": ["answer"],
}


def question_of(tool: AgentTool, turn: Turn, meta: RawObject) -> JsonObject | None:
    """What the person of a caller with this `_meta` is asked when a turn waits for them; None: it does not, or cannot be.

    A sign-in is asked for by its link alone: what is secret must not pass through a form (MCP, Elicitation).
    """
    if turn.state not in INTERRUPTED or turn.task_id is None:
        return None
    text = agent_shapes.text_of(turn.parts)[:MAX_QUESTION]
    asked: JsonObject = {"mode": "form", "message": text, "requestedSchema": _FORM}
    if turn.state == "auth-required":
        asked = {"mode": "url", "message": text, "url": agent_shapes.link_in(text)}
    try:
        return question(tool, bytes(declared(meta)), ASK, asked)
    except Unanswered:
        return None


def answer_in(response: Mapping[str, object], asked: JsonObject) -> str | None:
    """What a person answered; None: nothing."""
    if response.get("action") != "accept":
        return None
    if asked["mode"] == "url":
        return _LINKED
    content = response.get("content")
    answer = content.get("answer") if isinstance(content, dict) else None
    return answer if isinstance(answer, str) and answer else None
