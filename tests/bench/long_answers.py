"""Long answers of agents on platforms, as each platform streams them, with what the real ones say of the whole answer at its end."""

from __future__ import annotations

from typing import Any

import msgspec

PIECES = 47
PIECE = 256 * 1024 // PIECES
"""Bytes of each piece of an answer."""

GAP_S = 0.1
"""Between two of them."""

encode = msgspec.json.encode


def piece(number: int) -> str:
    """One piece of an answer."""
    return f"word{number} ".ljust(PIECE, "x")


TEXTS = [piece(number) for number in range(PIECES)]
WHOLE = "".join(TEXTS)
"""The answer once more."""


def _sse(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _chat() -> list[bytes]:
    choices: list[Any] = [{"index": 0, "delta": {"content": text}} for text in TEXTS]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    return [*(_sse(encode({"choices": [choice]})) for choice in choices), _sse(b"[DONE]")]


def _responses() -> list[bytes]:
    part = {"type": "output_text", "text": WHOLE, "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
    response = {"id": "resp_1", "object": "response", "error": None}
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}},
        *({"type": "response.output_text.delta", **where, "delta": text} for text in TEXTS),
        {"type": "response.output_text.done", **where, "text": WHOLE},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**response, "status": "completed", "output": [item]}},
    ]
    return [_sse(encode({**event, "sequence_number": number})) for number, event in enumerate(events)]


def _ag_ui() -> list[bytes]:
    events: list[dict[str, Any]] = [
        {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
        {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
        *({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": text} for text in TEXTS),
        {"type": "TEXT_MESSAGE_END", "messageId": "m"},
        {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"},
    ]
    return [_sse(encode(event)) for event in events]


ANSWERS = {
    b"/long/chat/completions": _chat(),
    b"/long/responses": _responses(),
    b"/long/ag-ui": _ag_ui(),
}
"""By path."""
