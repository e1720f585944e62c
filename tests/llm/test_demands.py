"""Calls that need approval, by whatever way a model makes them, where nobody can be asked for it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from llm.demands import is_destructive, read_demand
from llm.storing import KeptTool
from registry.errors import InvalidRequest
from tests.peers.openai_upstream import Turn

ASK: list[Any] = [{"role": "user", "content": "please"}]
SOURCE: dict[str, Any] = {"type": "mcp", "server_label": "x", "server_url": "hub", "require_approval": "always"}


@pytest.mark.parametrize(
    "call", [("s__tool_7", "{}"), ("hub__call_tool", '{"name":"s__tool_7","arguments":{}}')], ids=["direct", "searched"]
)
async def test_a_call_that_nobody_can_be_asked_about_is_not_made(desk: Any, call: tuple[str, str]) -> None:
    async with desk(Turn(calls=(call,)), Turn("ok")) as d:
        for number in range(50):  # more are searched
            d.workshop.add("s", f"tool_{number}", lambda: "made")
        answer = await d.client.chat.completions.create(model="m", messages=ASK, tools=[SOURCE])
        assert answer.choices[0].message.content == "ok"
        assert d.workshop.called == []
        (told,) = answer.hub["tool_calls"]
        assert "needs approval" in told["error"]
        assert "needs approval" in d.upstream.received[1].body["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("annotations", "destroys"),
    [
        ({}, True),
        ({"readOnlyHint": False}, True),
        ({"readOnlyHint": True}, False),
        ({"destructiveHint": False}, False),
        ({"destructiveHint": True, "readOnlyHint": True}, True),
        ({"destructiveHint": "no", "readOnlyHint": "yes"}, True),
    ],
    ids=json.dumps,
)
@pytest.mark.attack("2.1/11")
def test_a_tool_that_does_not_say_otherwise_may_destroy(annotations: dict[str, Any], destroys: bool) -> None:
    assert is_destructive(KeptTool("s", "t", "s__t", annotations=annotations)) is destroys


@pytest.mark.parametrize(
    "said",
    [
        "sometimes",
        True,
        [],
        {},
        {"always": []},
        {"never": {}},
        {"never": {"tool_names": [1]}},
        {"x": {"tool_names": []}},
    ],
    ids=json.dumps,
)
def test_what_is_no_demand_is_refused(said: Any) -> None:
    with pytest.raises(InvalidRequest, match="require_approval"):
        read_demand(msgspec.Raw(msgspec.json.encode(said)), "hub")
