"""Answers of OpenAI's Responses API for the scripted upstream, written from its API reference: whole, and as the events of a stream."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.peers.openai_upstream import Turn

USAGE = {
    "input_tokens": 30,
    "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 0},
    "output_tokens": 6,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 36,
}


def said(text: str, name: str = "msg_up") -> dict[str, Any]:
    """A message."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": name, "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def thought(summary: str, encrypted: str | None, name: str = "rs_up") -> dict[str, Any]:
    """A thought with a summary; what is encrypted in it only the provider can read."""
    item = {"id": name, "type": "reasoning", "summary": [{"type": "summary_text", "text": summary}]}
    return {**item, "encrypted_content": encrypted}


def call(name: str, arguments: str, call_id: str = "call_up") -> dict[str, Any]:
    """A call of a function."""
    item = {"id": f"fc_{call_id}", "type": "function_call", "status": "completed", "call_id": call_id}
    return {**item, "name": name, "arguments": arguments}


def response(*items: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A whole one."""
    head = {"id": "resp_theirs", "object": "response", "created_at": 1, "status": "completed", "model": "up-2026"}
    rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "store": False, "error": None}
    return {**head, **rest, "output": list(items), "usage": USAGE, **members}


def answer(*items: dict[str, Any], ends: bool = True, **members: Any) -> Turn:
    """What one request is answered with, as it asks; a stream with `ends` false breaks off."""
    whole = response(*items, **members)
    events = list(_events(items, whole, ends=ends))
    raw = [
        f"event: {one['type']}\ndata: {json.dumps({**one, 'sequence_number': number})}\n\n".encode()
        for number, one in enumerate(events)
    ]
    return Turn(raw=tuple(raw), error=json.dumps(whole).encode())


def _events(items: tuple[dict[str, Any], ...], whole: dict[str, Any], *, ends: bool) -> Iterator[dict[str, Any]]:
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for at, item in enumerate(items):
        yield from _of_item(at, item)
    if ends:
        yield {"type": f"response.{whole['status']}", "response": whole}


def _of_item(at: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    here = {"item_id": item["id"], "output_index": at}
    empty = {"message": {"content": []}, "reasoning": {"summary": []}, "function_call": {"arguments": ""}}
    opened = {**item, **empty.get(item["type"], {})} | ({"status": "in_progress"} if "status" in item else {})
    yield {"type": "response.output_item.added", "output_index": at, "item": opened}
    if item["type"] == "message":
        yield from _parts(item["content"], here, "content", "output_text")
    elif item["type"] == "reasoning":
        yield from _parts(item["summary"], here, "summary", "reasoning_summary_text")
    elif item["type"] == "function_call":
        begin = {"type": "response.function_call_arguments.delta", **here}
        half = len(item["arguments"]) // 2
        yield {**begin, "delta": item["arguments"][:half]}
        yield {**begin, "delta": item["arguments"][half:]}
        done = {"arguments": item["arguments"], "name": item["name"]}
        yield {"type": "response.function_call_arguments.done", **here, **done}
    yield {"type": "response.output_item.done", "output_index": at, "item": item}


def _parts(parts: list[dict[str, Any]], here: Any, index: str, word: str) -> Iterator[dict[str, Any]]:
    kind = "response.content_part" if index == "content" else "response.reasoning_summary_part"
    more: dict[str, Any] = {"logprobs": []} if index == "content" else {}
    for number, part in enumerate(parts):
        place = {**here, f"{index}_index": number}
        yield {"type": f"{kind}.added", **place, "part": {**part, "text": ""}}
        for piece in re.findall(r"\S+\s*", part["text"]):
            yield {"type": f"response.{word}.delta", **place, "delta": piece, **more}
        yield {"type": f"response.{word}.done", **place, "text": part["text"], **more}
        yield {"type": f"{kind}.done", **place, "part": part}
