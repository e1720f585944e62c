"""What a caller answers when an agent has asked, perhaps several things at once, each under a name of the platform's."""

from __future__ import annotations

from typing import Any

from agents.bridges.bridge import Turn
from registry.judged import JsonObject, encode

ASSENTS = frozenset({"yes", "y", "ok", "approve", "approved", "true"})
"""What says yes to an approval; anything else says no, and why."""

NAMES = ("call_id", "approval_request_id")
"""The members of a data part that say which question it answers."""


def said_to(turn: Turn, call_id: str) -> Any:
    """What answers one question: the data part that names it, or else what names none: a data part, or all text."""
    data = [part["data"] for part in turn.parts if "data" in part]
    unnamed = []
    for one in data:
        named = next((one[name] for name in NAMES if name in one), None) if isinstance(one, dict) else None
        if named == call_id:
            return one
        if named is None:
            unnamed.append(one)
    return unnamed[0] if unnamed else text_of(turn)


def text_of(turn: Turn) -> str:
    """All text of a message."""
    return "\n".join(part["text"] for part in turn.parts if isinstance(part.get("text"), str))


def output(said: Any) -> str:
    """What a tool put out, by what was said to its call."""
    if isinstance(said, dict) and "output" in said and any(name in said for name in NAMES):
        said = said["output"]
    return said if isinstance(said, str) else encode(said).decode()


def assent(said: Any) -> tuple[bool, str]:
    """Whether what was said is a yes, and the reason that it gives: nothing but a plain yes is one."""
    if isinstance(said, dict):
        reason = said.get("reason")
        return said.get("approve") is True, reason if isinstance(reason, str) else ""
    return str(said).strip().lower() in ASSENTS, str(said)


def asked(call_id: str, name: str | None, arguments: Any, **more: Any) -> JsonObject:
    """A question as a part that says its name: the only text that a tool was called with as text, anything else as data."""
    if not more and isinstance(arguments, dict) and len(arguments) == 1:
        (only,) = arguments.values()
        if isinstance(only, str):
            return {"text": only, "metadata": {"call_id": call_id}}
    return {"data": {"call_id": call_id, "name": name, "arguments": arguments, **more}}
