"""A fake of Gemini's own API (generateContent), written from its reference: the real one needs a key.

It is scripted: each request is answered by the next turn. It records what it received.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import served
from tests.peers.model_service import Received, read

USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}


@dataclass
class Turn:
    """How one request is answered: parts of the model's content, or an error."""

    parts: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    error: dict[str, Any] | None = None


@dataclass
class GeminiUpstream:
    """The service. `turns` is the script."""

    turns: list[Turn]
    url: str = ""
    received: list[Received] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)
        self.received.append(request)
        turn = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        streams = request.path.endswith(":streamGenerateContent") and turn.status == 200
        kind = b"text/event-stream" if streams else b"application/json"
        await send({"type": "http.response.start", "status": turn.status, "headers": [(b"content-type", kind)]})
        if turn.error is not None:
            body = json.dumps({"error": turn.error}).encode()
        elif streams:
            body = b"".join(
                b"data: " + json.dumps(_content([part], last=part is turn.parts[-1])).encode() + b"\r\n\r\n"
                for part in turn.parts
            )
        else:
            body = json.dumps(_content(turn.parts, last=True)).encode()
        await send({"type": "http.response.body", "body": body})


def _content(parts: list[dict[str, Any]], *, last: bool) -> dict[str, Any]:
    candidate = {"content": {"parts": parts, "role": "model"}, "index": 0}
    ended = {"finishReason": "STOP"} if last else {}
    return {"candidates": [{**candidate, **ended}], "usageMetadata": USAGE, "modelVersion": "g", "responseId": "r1"}


@asynccontextmanager
async def gemini_upstream(*turns: Turn) -> AsyncIterator[GeminiUpstream]:
    """Serve the fake on a free port."""
    upstream = GeminiUpstream(list(turns))
    async with served(upstream) as url:
        upstream.url = url
        yield upstream
