"""What models made is counted, whatever their providers say of it and however early a caller leaves.

A caller who reads a stream to the last word and leaves before its usage has had the answer; a provider that says less than nothing would
give back what others spent. (OWASP MCP Top 10: none; runaway cost)
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse, Response

from llm.wire.meter import Meter
from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.doors.test_limits import made, shown
from tests.peers import anthropic_upstream
from tests.peers.anthropic_upstream import Said
from tests.peers.openai_endpoints import openai_endpoints
from tests.peers.openai_upstream import Turn, chunk, openai_upstream, sse

WORDS = "word " * 40
EVENTS = 50
BYTES = len(WORDS) * EVENTS
LIMITS = {"limits": {"tokens_per_day": 10**9}, "budget": {"usd": 1000, "per": "day"}}
HI: list[Any] = [{"role": "user", "content": "hi"}]
DOORS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/messages": {"messages": HI, "max_tokens": 9999},
    "/v1/responses": {"input": "hi", "store": False},
}
PRICE = "price: {input: 0, output: 1000}"


def chat_events(*, together: bool) -> tuple[bytes, ...]:
    body = {"model": "up"}
    said = [chunk(body, {"content": WORDS}) for _ in range(EVENTS)]
    pieces = [b"".join(said)] if together else said
    return (chunk(body, {"role": "assistant", "content": ""}), *pieces, chunk(body, {"content": "END"}))


def messages_events() -> tuple[bytes, ...]:
    return tuple(anthropic_upstream.events(Said(WORDS), {"model": "up"})[:3]) + tuple(
        anthropic_upstream.sse(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}}
        )
        for _ in range(EVENTS)
    )


def responses_events() -> tuple[bytes, ...]:
    begun = {
        "type": "response.created",
        "response": {"id": "r", "object": "response", "output": [], "instructions": WORDS * 9},
    }
    delta = {
        "type": "response.output_text.delta",
        "item_id": "i",
        "output_index": 0,
        "content_index": 0,
        "delta": WORDS,
    }
    return (sse(begun), *(sse(delta) for _ in range(EVENTS)))


async def read_and_leave(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    """Read a stream until all was said but what it used."""
    said = 0
    async with http.stream("POST", path, json={"model": "m", "stream": True, **body}) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            said += line.count("word") if "delta" in line else 0
            if said >= 40 * EVENTS:
                return


async def counted(running: Hub) -> float:
    """The tokens that were counted, once the call has ended."""
    async with asyncio.timeout(5):
        while not running.gate.outcomes:
            await asyncio.sleep(0)
    return (await shown(running))["tokens_per_day"][0]


SPOKEN = {
    "chat": ("deepseek", "/v1", chat_events(together=False)),
    "chat, all at once": ("deepseek", "/v1", chat_events(together=True)),
    "messages": ("anthropic", "", messages_events()),
    "responses": ("openai", "/v1", responses_events()),
}
"""A provider that speaks it, below which path, and what it says before its end."""


@pytest.mark.parametrize(
    ("spoken", "path"),
    [(spoken, path) for spoken in SPOKEN for path in DOORS if spoken != "responses" or spoken in path],
)
@pytest.mark.attack("2.1/41", defence="llm.call:ModelCall.heard")
async def test_who_leaves_before_the_usage_pays_for_what_came(hub: OpenHub, spoken: str, path: str) -> None:
    provider, below, pieces = SPOKEN[spoken]
    async with openai_upstream(Turn(raw=(*pieces, b": more follows\n\n"))) as upstream:
        base = f"{upstream.url.removesuffix('/v1')}{below}"
        yaml = f"models: {{m: {{provider: {provider}, model: up, base_url: '{base}', api_key: sk-up-000, {PRICE}}}}}\n"
        async with hub(yaml) as running, running.http(await made(running, **LIMITS)) as http:
            await read_and_leave(http, path, DOORS[path])
            assert BYTES / 5 < await counted(running) < BYTES / 3


COMPLETION = {
    "id": "x",
    "object": "text_completion",
    "created": 1,
    "model": "up",
    "choices": [{"index": 0, "text": WORDS}],
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.attack("2.1/41", defence="llm.platform.answers:_made")
async def test_a_completion_that_its_provider_does_not_count_is_estimated(hub: OpenHub, *, stream: bool) -> None:
    async with openai_endpoints() as upstream:
        yaml = f"models: {{m: {{provider: openai, model: up-1, base_url: '{upstream.url}', api_key: sk-up-000, {PRICE}}}}}\n"
        async with hub(yaml) as running, running.http(await made(running, **LIMITS)) as http:
            whole = b"".join(sse(COMPLETION) for _ in range(EVENTS)) + b"data: [DONE]\n\n"
            upstream.answer = (
                Response(whole, media_type="text/event-stream")
                if stream
                else JSONResponse({**COMPLETION, "choices": COMPLETION["choices"] * EVENTS})
            )
            answer = await http.post("/v1/completions", json={"model": "m", "prompt": "x", "stream": stream})
            assert answer.status_code == 200
            assert BYTES / 5 < await counted(running) < BYTES / 3
            used = await shown(running)
            assert used["budget"][0] > BYTES / 5 / 1000


@pytest.mark.parametrize("tokens", [-5000, 2**63, 10**400], ids=["negative", "64 bits", "endless"])
@pytest.mark.parametrize("member", ["prompt_tokens", "input_tokens", "total_tokens"])
@pytest.mark.attack("2.1/41")
async def test_a_count_that_cannot_be_is_not_believed(hub: OpenHub, tokens: int, member: str) -> None:
    async with openai_endpoints() as upstream:
        yaml = f"models: {{m: {{provider: openai, model: up-1, base_url: '{upstream.url}', api_key: sk-up-000, {PRICE}}}}}\n"
        async with hub(yaml) as running, running.http(await made(running, **LIMITS)) as http:
            said = {"object": "list", "data": [{"index": 0, "embedding": [1.0]}], "usage": {member: tokens}}
            upstream.answer = JSONResponse(said)
            body = {"model": "m", "input": "x"}
            assert (await http.post("/v1/embeddings", json=body)).status_code == 200
            assert await counted(running) == len(json.dumps(body, separators=(",", ":"))) // 4
            async with running.http(ADMIN_KEY) as admin:
                (row,) = (await admin.get("/api/usage")).json()["items"]
                assert row["input_tokens"] == len(json.dumps(body, separators=(",", ":"))) // 4


@pytest.mark.parametrize(("text", "events", "tokens"), [(" the", 400, 400), ("x" * 400, 10, 1000), ("", 30, 30)])
@pytest.mark.parametrize("at_once", [1, 7])
def test_a_meter_counts_events_of_one_token_and_of_many(text: str, events: int, tokens: int, at_once: int) -> None:
    meter = Meter()
    meter.take(b": a comment\n\n")
    meter.take(chunk({"model": "up"}, {"role": "assistant", "content": ""}))
    said = [chunk({"model": "up"}, {"content": text}) for _ in range(events)]
    for begin in range(0, events, at_once):
        meter.take(b"".join(said[begin : begin + at_once]))
    assert meter.tokens == pytest.approx(tokens, rel=0.1)


def batch_input(lines: int, **members: Any) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 400}], **members}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    return "\n".join(json.dumps({"custom_id": f"{number}", **line}) for number in range(lines)).encode()


async def batch(http: httpx.AsyncClient, content: bytes) -> httpx.Response:
    file = await http.post("/v1/files", files={"file": ("x.jsonl", content)}, data={"purpose": "batch"})
    assert file.status_code == 200, file.text
    asked = {"input_file_id": file.json()["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return await http.post("/v1/batches", json=asked)


@pytest.mark.attack("2.1/41", defence="llm.platform.batch_lines:BatchLines._count")
async def test_a_batch_needs_room_for_all_its_lines_and_its_input_counts_at_once(hub: OpenHub) -> None:
    async with openai_endpoints() as upstream:
        yaml = f"models: {{m: {{provider: openai, model: up-1, base_url: '{upstream.url}', api_key: sk-up-000}}}}\n"
        limits = {"tokens_per_day": 3000}
        async with hub(yaml) as running, running.http(await made(running, limits=limits)) as http:
            assert (await batch(http, batch_input(2, max_tokens=5000))).status_code == 429
            assert (await batch(http, batch_input(20))).status_code == 429
            content = batch_input(10, max_tokens=10)
            one, other, third = [await batch(http, content) for _ in range(3)]
            assert (one.status_code, other.status_code, third.status_code) == (200, 200, 429)
            assert 2 * 1000 < (await shown(running))["tokens_per_day"][0] < 3000


async def draw(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/v1/images/generations", json={"model": "m", "prompt": "x", "n": 2})


async def speak(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/v1/audio/speech", json={"model": "m", "input": "x", "voice": "alloy"})


async def transcribe(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/v1/audio/transcriptions", data={"model": "m"}, files={"file": ("a.wav", b"RIFF")})


@pytest.mark.parametrize(("call", "reserved", "used"), [(draw, 2000, 10), (speak, 1000, 0), (transcribe, 1000, 10)])
@pytest.mark.attack("2.1/41")
async def test_images_and_audio_need_room_for_the_tokens_of_an_answer_and_count_what_their_provider_says(
    hub: OpenHub, call: Any, reserved: int, used: int
) -> None:
    async with openai_endpoints() as upstream:
        yaml = f"models: {{m: {{provider: openai, model: up-1, base_url: '{upstream.url}', api_key: sk-up-000}}}}\n"
        async with hub(yaml) as running:
            async with running.http(await made(running, limits={"tokens_per_day": reserved - 1})) as http:
                assert (await call(http)).status_code == 429
                assert not upstream.seen
            async with running.http(await made(running, name="eve", limits={"tokens_per_day": reserved + 99})) as http:
                assert (await call(http)).status_code == 200
                assert (await shown(running, "eve"))["tokens_per_day"][0] == used
