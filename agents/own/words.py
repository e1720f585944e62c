"""Messages to an own agent in its model's words, and the tool by which the model asks back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from llm.types import Ask, Finished, Prompt, ToolSource
from registry.entries import Own
from registry.judged import JsonObject, encode

ASK = "ask_user"
"""The built-in tool; no tool of the hub is called so: their names have a separator."""

MAX_SAID = 200
MAX_BYTES = 256 * 1024
"""Messages of a context that its model is told again, and their size as JSON: what was said first is forgotten first."""

_messages = msgspec.json.Decoder(list[JsonObject])

_ASK_TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": ASK,
        "description": "Ask the person you work for a question that only they can answer, and wait for their answer.",
        "parameters": {
            "type": "object",
            "properties": {"question": {"type": "string"}},
            "required": ["question"],
        },
    },
}

_SOURCE = ToolSource(url="the tools of the agent", name=None, allowed=None)


def ask_of(own: Own, said: Sequence[JsonObject], *, has_tools: bool) -> Ask:
    """What the loop is to answer: the agent's instructions, and what was `said`, as chat messages."""
    prompts = [{"role": "system", "content": own.instructions}] if own.instructions else []
    return Ask(
        model=own.model,
        stream=True,
        sources=(_SOURCE,) if has_tools else (),
        own_names=frozenset({ASK}),
        prompt=Prompt("chat", {}, [*prompts, *said], [_ASK_TOOL]),
    )


def question_in(finished: Finished) -> str | None:
    """What the model asks its user before it goes on; None: nothing."""
    questions = [_question(call.arguments) for call in finished.own if call.name == ASK]
    return "\n".join(questions) if questions else None


def _question(arguments: str) -> str:
    try:
        found: Any = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        return arguments
    question = found.get("question") if isinstance(found, dict) else None
    return question if isinstance(question, str) and question else arguments


def content_of(message: JsonObject) -> list[JsonObject]:
    """The parts of a message (A2A 1.0 §4.1.6) as those of a chat message."""
    return [_content(part) for part in message.get("parts") or () if isinstance(part, dict)]


def _content(part: JsonObject) -> JsonObject:
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    media_type = part["mediaType"] if isinstance(part.get("mediaType"), str) else "application/octet-stream"
    raw, url = part.get("raw"), part.get("url")
    if media_type.startswith("image/") and (isinstance(raw, str) or isinstance(url, str)):
        address = url if isinstance(url, str) else f"data:{media_type};base64,{raw}"
        return {"type": "image_url", "image_url": {"url": address}}
    if isinstance(raw, str):
        file = {"file_data": f"data:{media_type};base64,{raw}", "filename": str(part.get("filename") or "file")}
        return {"type": "file", "file": file}
    return {"type": "text", "text": url if isinstance(url, str) else encode(part.get("data")).decode()}


def remembered(message: JsonObject) -> JsonObject:
    """A message as it is told again later: its texts, and that there was more."""
    content = message["content"]
    if isinstance(content, str):
        return message
    texts = [part["text"] if part["type"] == "text" else "[a file, no longer here]" for part in content]
    return {**message, "content": "\n".join(texts)}


def simple(content: Sequence[JsonObject]) -> JsonObject:
    """A message as it is said now: texts as one, which every model understands."""
    message: JsonObject = {"role": "user", "content": list(content)}
    return remembered(message) if all(part["type"] == "text" for part in content) else message


def recalled(memory: bytes) -> list[JsonObject]:
    """The messages of a context as `memory_of` wrote them."""
    return _messages.decode(memory)


def memory_of(said: Sequence[JsonObject]) -> bytes:
    """What is remembered of the messages of a context: the last ones."""
    kept = list(said[-MAX_SAID:])
    while len(record := encode(kept)) > MAX_BYTES and len(kept) > 1:
        kept = kept[2:]
    return record if len(record) <= MAX_BYTES else b"[]"
