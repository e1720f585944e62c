"""Tasks whose agents put what they say where clients do not look for it: LangGraph's A2A endpoint (langgraph-api 0.16). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from registry.judged import JsonObject

INTERRUPT = "Interrupt"
"""The artifact that has its question."""


def mended(result: JsonObject) -> bool:
    """Put into place what a canonical result's task says elsewhere; whether there was something.

    A finished task that is asked for has its answer in its history alone; what a task asks for is an artifact.
    """
    task = result.get("task", result)
    status = task.get("status") or {}
    match status.get("state"):
        case "TASK_STATE_COMPLETED" if not task.get("artifacts"):
            said = _last(task.get("history") or ())
            if said is not None:
                task["artifacts"] = [{"artifactId": said.get("messageId") or "said", "parts": said["parts"]}]
            return said is not None
        case "TASK_STATE_INPUT_REQUIRED" if not status.get("message"):
            *others, last = task.get("artifacts") or [{}]
            if last.get("name") != INTERRUPT:
                return False
            parts = _asked(last.get("parts") or ())
            status["message"] = {"messageId": last.get("artifactId") or "asked", "role": "ROLE_AGENT", "parts": parts}
            task["artifacts"] = others
            return True
    return False


def _last(history: Sequence[JsonObject]) -> JsonObject | None:
    """The agent's last message, if it was said after its client's."""
    last = history[-1] if history else {}
    return last if last.get("role") == "ROLE_AGENT" and last.get("parts") else None


def _asked(parts: Sequence[JsonObject]) -> list[JsonObject]:
    """An interrupt's value by itself: a text as text."""
    values: list[Any] = [part["data"].get("value") for part in parts if isinstance(part.get("data"), dict)]
    return [{"text": one} if isinstance(one, str) else {"data": one} for one in values]
