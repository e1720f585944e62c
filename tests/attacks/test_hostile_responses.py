"""Bodies for `/v1/responses` and `/v1/conversations` that no SDK sends: each is answered, none trips the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import OpenHub
from tests.doors.responses_desk import SOURCE, WEATHER, open_desk
from tests.peers.openai_upstream import Turn, chunk, sse

ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    2**70,
    1.5,
    "",
    "x" * 5000,
    [],
    [None],
    [[]],
    [1],
    {},
    {"id": 1},
    {"type": []},
    "\u0000",
    "\ud7ff",
]
MEMBERS = [
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "max_output_tokens",
    "max_tool_calls",
    "parallel_tool_calls",
    "include",
    "truncation",
    "metadata",
    "previous_response_id",
    "conversation",
    "store",
    "background",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "top_logprobs",
    "prompt",
    "user",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "hub",
    "unknown",
]
KINDS = [
    "message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "reasoning",
    "mcp_list_tools",
    "mcp_call",
    "mcp_approval_request",
    "mcp_approval_response",
    "item_reference",
    "web_search_call",
    "nonsense",
]
ITEM_MEMBERS = [
    "id",
    "role",
    "content",
    "call_id",
    "name",
    "arguments",
    "output",
    "input",
    "summary",
    "server_label",
    "tools",
    "error",
    "approval_request_id",
    "approve",
    "reason",
    "status",
    "encrypted_content",
]
WHOLE: dict[str, Any] = {
    "id": "x",
    "role": "user",
    "content": "hi",
    "call_id": "c",
    "name": "n",
    "arguments": "{}",
    "output": "o",
    "input": "i",
    "summary": [],
    "server_label": "here",
    "tools": [],
    "approval_request_id": "mcpr_x",
    "approve": True,
}


PLAIN = {"model": "m", "input": "hi", "store": False}
PARTS: list[Any] = [None, 1, [], {}, [1], [{}], [{"type": "input_text"}], [{"type": []}], [{"type": "input_image"}]]
TOOL_MEMBERS = ("type", "server_url", "server_label", "allowed_tools", "require_approval", "name", "headers")


def bodies() -> Iterator[Any]:
    yield from ({**PLAIN, member: odd} for member in MEMBERS for odd in ODD)
    for item in ({"type": kind, **WHOLE} for kind in KINDS):
        yield {**PLAIN, "input": [item]}
        yield from ({**PLAIN, "input": [{**item, member: odd}]} for member in ITEM_MEMBERS for odd in PARTS)
    for tool in (SOURCE, WEATHER):
        yield from ({**PLAIN, "tools": [{**tool, member: odd}]} for member in TOOL_MEMBERS for odd in ODD)
    for choice in ("function", "mcp", "custom", "allowed_tools", "nonsense"):
        odds = ({"type": choice, member: odd} for member in ("name", "server_label", "tools", "mode") for odd in ODD)
        yield from ({**PLAIN, "tools": [WEATHER], "tool_choice": odd} for odd in odds)


@pytest.mark.attack("2.2/13")
async def test_odd_bodies_are_answered_and_trip_nothing(hub: OpenHub) -> None:
    async with open_desk(hub, Turn("ok")) as desk, desk.hub.http(desk.secret) as http:
        for body in bodies():
            text = json.dumps(body, ensure_ascii=True)
            answer = await http.post("/v1/responses", content=text, headers={"content-type": "application/json"})
            assert answer.status_code in (200, 400, 404, 409), (text[:500], answer.text)
            if answer.status_code == 200 and body.get("stream") is not True:
                assert answer.json()["object"] == "response", text


async def test_odd_conversations_are_answered_and_trip_nothing(hub: OpenHub) -> None:
    async with open_desk(hub, Turn("ok")) as desk, desk.hub.http(desk.secret) as http:
        name = (await http.post("/v1/conversations", json={})).json()["id"]
        for odd in ODD:
            for path in ("/v1/conversations", f"/v1/conversations/{name}", f"/v1/conversations/{name}/items"):
                for body in (odd, {"items": odd}, {"metadata": odd}, {"items": [{"type": "message", "content": odd}]}):
                    answer = await http.post(path, json=body)
                    assert answer.status_code in (200, 400), (path, str(body)[:200], answer.text)
        for query in ("limit=0", "limit=x", "limit=101", "order=up", "after=nobody", "limit=%FF", "x=" * 500):
            answer = await http.get(f"/v1/conversations/{name}/items?{query}")
            assert answer.status_code in (200, 400, 404), (query, answer.text)
        for path in ("/x", "/items/x/y", "//", "/items/", "/../x"):
            answer = await http.get(f"/v1/conversations/{name}{path}")
            assert answer.status_code in (200, 404), (path, answer.text)


async def test_odd_answers_of_a_model_end_a_response_validly(hub: OpenHub) -> None:
    body = {"model": "up"}
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "weather", "arguments": "{"}}
    odd: list[tuple[bytes, ...]] = [
        (chunk(body, {}, "stop"),),
        (chunk(body, {"content": "x"}, "nonsense"),),
        (chunk(body, {"tool_calls": [call]}, "tool_calls"),),
        (chunk(body, {"content": "x"}, "stop"), sse({"choices": [], "usage": {"prompt_tokens_details": [1]}})),
        (chunk(body, {"content": "x"}, "stop"), sse({"choices": [], "usage": {"prompt_tokens": "9"}})),
        (chunk(body, {"content": [1], "refusal": {}, "reasoning_content": 3}, "stop"),),
    ]
    turns = [Turn(raw=(*pieces, b"data: [DONE]\n\n")) for pieces in odd]
    async with open_desk(hub, *turns, Turn("ok")) as desk, desk.hub.http(desk.secret) as http:
        for _ in odd:
            asked = {"model": "m", "input": "hi", "stream": True, "tools": [WEATHER]}
            answer = await http.post("/v1/responses", json=asked)
            assert answer.status_code == 200, answer.text
            assert answer.text.count("event: response.completed") == 1, answer.text
