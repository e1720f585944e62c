"""A body of a few kilobytes that would be gigabytes: nothing inflates it."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conftest import ADMIN_KEY, Hub, OpenHub

BOMB = json.dumps({"model": "offline", "messages": [{"role": "user", "content": "x" * (64 << 20)}]}).encode()
PACKED = {"gzip": gzip.compress(BOMB), "deflate": zlib.compress(BOMB), "gzip, gzip": gzip.compress(gzip.compress(BOMB))}


@pytest_asyncio.fixture
async def running(hub: OpenHub) -> AsyncIterator[Hub]:
    async with hub('models:\n  offline: {provider: offline}\nagents:\n  echo: {url: "http://127.0.0.1:9"}\n') as opened:
        yield opened


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/mcp", "/a2a/echo", "/api/keys"]
)
@pytest.mark.attack("2.1/26", defence="hub.http_exchange:HttpExchange.body")
async def test_a_bomb_is_refused_at_every_door(running: Hub, path: str, encoding: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": encoding}
    async with running.http(ADMIN_KEY) as http:
        answer = await http.post(path, content=PACKED[encoding], headers=headers)
    assert answer.status_code == 415, answer.text
    assert "Content-Encoding" in answer.text
