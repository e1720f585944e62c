"""An agent with an API of its own: JSON in, lines of JSON out. It keeps its conversations itself, under ids that it makes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.conftest import served
from tests.peers.model_service import read, unless_left
from tests.peers.platforms import brain
from tests.peers.platforms.platform import NOBODYS, Kind, Odd, Platform, line

OPTIONS = {
    "request": '{"question": text, "parts": parts, "conversation": has(session.id) ? session.id : ""}',
    "answer": 'has(answer.say) ? answer.say : (has(answer.ask) ? answer.ask : "")',
    "session": "has(answer.conversation) ? {'id': answer.conversation} : {}",
    "asks": "has(answer.ask)",
    "failure": "has(answer.failed) ? answer.failed : ''",
}


@asynccontextmanager
async def _open(_directory: Path) -> AsyncIterator[Platform]:
    platform = Platform()
    conversations: dict[str, list[str]] = {}

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = (await read(scope, receive)).body
        name = body["conversation"] or f"c{len(conversations) + 1}"
        platform.named.append(name)
        headers = [(b"content-type", b"application/x-ndjson")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def write(said: Any) -> None:
            data = json.dumps(said).encode() + b"\n"
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def answer() -> None:
            await write({"conversation": name, "unknown": [1]})
            await _answer(platform, conversations.setdefault(name, []), body, write)
            await send({"type": "http.response.body", "body": b""})

        if not await unless_left(answer(), receive):
            platform.cancelled.set()

    async with served(serve) as url:
        platform.entry = f'{{bridge: http, url: "{url}/ask", options: {json.dumps(OPTIONS)}}}'
        yield platform


async def _answer(platform: Platform, said: list[str], body: dict[str, Any], write: Any) -> None:
    before, asked = list(said), said[-1:] == ["ask"]
    said.append(body["question"])
    files = [one for one in body["parts"] if "raw" in one or "data" in one]
    if files:
        await write({"say": files})
        return
    if asked:
        await write({"say": brain.told(body["question"])})
        return
    try:
        async for piece in brain.say(before, body["question"], platform.released.wait):
            await write({"say": piece})
    except brain.Question as question:
        await write({"ask": str(question)})
    except brain.Fell as error:
        await write({"failed": str(error)})


HTTP = Kind(
    "http",
    _open,
    "an agent of the suite with an API of its own",
    {
        "rejoin": "a request that was left is gone",
        "renews": "its headers do not expire by themselves",
    },
    Odd(
        "an agent's lines are its own, in its own order",
        (line({"unknown": [NOBODYS]}),),
        (line({"unknown": None}),),
        end=line({"failed": "the token has expired"}),
        busy=((503, {}), (429, {})),
    ),
)
