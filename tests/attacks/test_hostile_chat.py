"""Chat requests, providers and tool results written to harm the hub."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from llm import results
from llm.offering import MAX_GLOBS, MAX_SOURCES
from llm.rounds import LoopLimits
from tests.llm.conftest import desk
from tests.llm.test_rounds import ASK, HUB, add, ask
from tests.peers.openai_upstream import Turn, sse

__all__ = ["desk"]


@pytest.mark.parametrize(
    "tools",
    [
        [HUB] * (MAX_SOURCES + 1),
        [{**HUB, "allowed_tools": ["a"] * (MAX_GLOBS + 1)}],
        [{**HUB, "allowed_tools": ["*a" * 10_000]}],
        [{**HUB, "allowed_tools": ["(a" * 2_000_000]}],
    ],
    ids=["sources", "globs", "stars", "long"],
)
@pytest.mark.attack("2.1/29")
async def test_a_request_cannot_make_the_hub_match_for_long(desk: Any, tools: list[Any]) -> None:
    async with desk(Turn("x")) as d:
        add(d.workshop, "a")
        with pytest.raises(openai.BadRequestError) as refused:
            await ask(d, tools=tools)
        assert refused.value.param == "tools"
        assert not d.upstream.received


async def test_a_bracket_in_allowed_tools_is_a_bracket(desk: Any) -> None:
    async with desk(Turn("x")) as d:
        add(d.workshop, "a")
        with pytest.raises(openai.BadRequestError):
            await ask(d, tools=[{**HUB, "allowed_tools": ["[a-z]"]}])


async def test_no_name_is_so_long_that_it_fills_the_usage_rows(desk: Any) -> None:
    async with desk(Turn("x")) as d:
        with pytest.raises(openai.NotFoundError):
            await d.client.chat.completions.create(model="w/" + "x" * 300, messages=ASK)
        assert not d.gate.permits


@pytest.mark.parametrize(
    "calls",
    [
        "x",
        5,
        ["x"],
        {"id": 1},
        [None],
        [{"type": {}, "function": {"name": "s__a"}}] * 200,
    ],
)
async def test_tool_calls_of_any_shape_are_the_providers_fault(desk: Any, calls: Any) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    async with desk(Turn(error=body.encode())) as d:
        add(d.workshop, "a")
        with pytest.raises(openai.APIStatusError) as failed:
            await ask(d)
        assert failed.value.status_code == 502
        assert not d.workshop.called


@pytest.mark.parametrize("kind", [{}, [], 5, True])
async def test_a_streamed_call_of_any_kind_ends_in_an_answer(desk: Any, kind: Any) -> None:
    piece = {"index": 0, "id": "c", "type": kind, "function": {"name": "s__a", "arguments": "{}"}}
    chunk = sse({"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]})
    async with desk(Turn(raw=(chunk, b"data: [DONE]\n\n")), Turn("done")) as d:
        add(d.workshop, "a")
        text = [part.choices[0].delta.content or "" async for part in await ask(d, stream=True) if part.choices]
    assert "".join(text) == "done "


@pytest.mark.attack("2.1/30")
async def test_a_streamed_answer_without_end_is_cut_off(desk: Any) -> None:
    event = sse({"choices": [{"index": 0, "delta": {"content": "x" * 1000}}]})
    async with desk(Turn(raw=(event,) * 300), limits=LoopLimits(reply_bytes=100_000)) as d:
        add(d.workshop, "a")
        async with asyncio.timeout(20):
            with pytest.raises(openai.APIError, match="too large"):
                [part async for part in await ask(d, stream=True)]


@pytest.mark.parametrize("content", [5, "x", {"type": "text"}, None, [5, None, "x"], True])
def test_a_result_of_any_shape_is_told(content: Any) -> None:
    assert results.told({"content": content, "structuredContent": {"a": 1}}) == '{"a":1}'
