"""Requests and answers in Anthropic's format written to harm the hub."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import pytest

from llm.rounds import LoopLimits
from tests.llm.messages_desk import messages_desk
from tests.llm.test_messages import ASK, HUB, SERVER, add, ask
from tests.peers.anthropic_upstream import Said, sse


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"claude","model":"gpt","max_tokens":9,"messages":[]}',
        b'{"model":"claude","Model":"gpt","max_tokens":9,"messages":[]}',
        b'{"model":"claude","max_tokens":9,"messages":[],"mcpServers":[]}',
        b'{"model":"claude","max_tokens":9,"messages":[],"mcp_servers":[{"type":"url","url":"hub","url":"x","name":"s"}]}',
        b'{"model":"claude","max_tokens":9,"messages":[],"tools":[{"type":"mcp_toolset","type":"custom","name":"x"}]}',
        b'{"model":"claude","max_tokens":9,"messages":[],"tools":[{"type":"\\u006dcp_toolset","mcpServerName":"x"}]}',
        b'{"model":"gpt","max_tokens":9,"messages":[],"tools":{}}',
        b'{"model":"gpt","max_tokens":9,"messages":{}}',
        b'{"model":"gpt","max_tokens":9,"messages":[1]}',
        b'{"model":"gpt","max_tokens":9,"messages":[{"role":"user","content":[{"type":{}}]}]}',
        b'{"model":"gpt","max_tokens":9,"messages":[{"role":[],"content":1}]}',
        b'{"model":"gpt","max_tokens":9,"messages":[],"tools":[1]}',
        b'{"model":"gpt","max_tokens":9,"messages":[],"tools":[{"name":"x","type":[]}]}',
        b'{"model":"gpt","max_tokens":9,"messages":[],"tool_choice":{"type":[]}}',
        b'{"model":"claude","max_tokens":9,"messages":[],"hub":{"max_rounds":true}}',
        b'{"model":"claude","max_tokens":9,"messages":[],"hub":7}',
        b'{"model":["claude"],"max_tokens":9,"messages":[]}',
        b'{"model":"claude","max_tokens":9,"stream":"yes","messages":[]}',
        b"[" * 100_000,
    ],
)
@pytest.mark.attack("2.1/27")
async def test_request_that_can_be_read_in_two_ways_or_in_none_is_refused(body: bytes) -> None:
    async with messages_desk() as d, httpx.AsyncClient(trust_env=False) as http:
        add(d.workshop, "a")
        answer = await http.post(f"{d.url}/v1/messages", content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert not d.claude.received
        assert not d.gpt.received


@pytest.mark.parametrize(
    "members",
    [
        {"system": 5, "metadata": 5, "thinking": 5, "output_config": 5, "stop_sequences": []},
        {"system": [1, {"type": "text"}], "thinking": {"type": "enabled", "budget_tokens": "many"}},
        {"messages": [{"role": "user"}, {"role": "assistant", "content": None}, {"role": "user", "content": [1]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "mcp_tool_use"}, {"type": "mcp_tool_result"}]}]},
    ],
)
async def test_odd_members_harm_nobody(members: dict[str, Any]) -> None:
    async with messages_desk() as d, httpx.AsyncClient(trust_env=False) as http:
        body = {"model": "gpt", "max_tokens": 9, "messages": ASK, **members}
        answer = await http.post(f"{d.url}/v1/messages", json=body)
        assert answer.status_code in (200, 400)


def started(block: Any, index: Any = 0) -> bytes:
    return sse({"type": "content_block_start", "index": index, "content_block": block})


def delta(value: Any, index: Any = 0) -> bytes:
    return sse({"type": "content_block_delta", "index": index, "delta": value})


BEGUN = sse({"type": "message_start", "message": {"usage": {"input_tokens": "x", "cache_read_input_tokens": -1}}})
ENDED = sse({"type": "message_delta", "delta": {"stop_reason": 7}, "usage": 5}) + sse({"type": "message_stop"})


@pytest.mark.parametrize(
    "events",
    [
        [started(5)],
        [started({"type": "text", "text": ""}), started({"type": "text", "text": ""})],
        [delta({"type": "text_delta", "text": "x"})],
        [started({"type": "text", "text": 5}), delta({"type": "text_delta", "text": 5})],
        [started({"type": "text", "text": ""}), delta(7)],
        [started({"type": "thinking"}), delta({"type": "thinking_delta", "thinking": ["x"]})],
        [started({"type": "tool_use", "id": 5, "name": ["x"], "input": "y"}), delta({"type": "input_json_delta"})],
        [started({"type": []}), delta({"type": {}})],
        [started({"type": "tool_use"}, index=10**30)],
        [sse({"type": ["x"]}), sse({"type": "content_block_stop", "index": "x"})],
    ],
)
async def test_odd_stream_of_a_provider_ends_in_order(events: list[bytes]) -> None:
    async with messages_desk(Said(raw=(BEGUN, *events, ENDED))) as d, httpx.AsyncClient(trust_env=False) as http:
        add(d.workshop, "a")
        body = {"model": "claude", "max_tokens": 9, "messages": ASK, "stream": True, "tools": [HUB]}
        answer = await http.post(f"{d.url}/v1/messages", json={**body, "hub": {"max_rounds": 1}}, timeout=20)
        if answer.headers["content-type"].startswith("text/event-stream"):
            last = json.loads(answer.text.strip().split("data: ")[-1])
            assert last["type"] in ("message_stop", "error")
        else:
            assert answer.status_code in (400, 502)


@pytest.mark.attack("2.1/30")
async def test_answer_without_end_is_cut() -> None:
    endless = delta({"type": "text_delta", "text": "x" * 1000}) * 100
    said = Said(raw=(BEGUN, started({"type": "text", "text": ""}), *[endless] * 20))
    async with messages_desk(said, limits=LoopLimits(reply_bytes=100_000)) as d:
        add(d.workshop, "a")
        with pytest.raises(anthropic.APIStatusError, match="too large"):
            await ask(d, tools=[HUB], stream=True)


async def test_many_servers_are_refused() -> None:
    async with messages_desk() as d:
        add(d.workshop, "a")
        servers = [{**SERVER, "name": f"s{n}"} for n in range(100)]
        with pytest.raises(anthropic.BadRequestError, match="sources"):
            await ask(d, mcp_servers=servers)


async def test_no_key_of_the_provider_is_in_its_words() -> None:
    said = Said(status=400, error=("invalid_request_error", "key sk-ant-upstream-key-000 at http://127.0.0.1:9"))
    async with messages_desk(said) as d:
        with pytest.raises(anthropic.BadRequestError) as raised:
            await ask(d)
        assert "sk-ant" not in str(raised.value)
        assert "127.0.0.1" not in raised.value.body["error"]["message"]  # type: ignore[index]
