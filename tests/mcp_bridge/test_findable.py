"""Prompts among the tools of search mode."""

from __future__ import annotations

import json

import msgspec
import pytest

from mcp_bridge.findable import as_tool_result
from mcp_bridge.search import Chosen, Search
from registry.entries import Prompt, Tool
from registry.errors import UpstreamInvalid
from registry.judged import RawObject, encode, read_object

PROMPT = Prompt(
    server="a",
    name="greet",
    exposed="a__greet",
    grant_name="a__greet",
    description=b'{"name":"greet","arguments":[{"name":"who"}]}',
)
TOOL = Tool(
    server="a",
    name="greet",
    exposed="a__greet",
    grant_name="a__greet",
    description=b'{"name":"greet","inputSchema":{"type":"object"}}',
)


def raw(**members: object) -> RawObject:
    return {name: msgspec.Raw(encode(value)) for name, value in members.items()}


async def test_a_tool_and_a_prompt_of_one_name_are_told_apart_by_kind() -> None:
    search = Search({"a__greet": TOOL}, {"a__greet": PROMPT}, lambda _kind, _name, one: read_object(one.description))
    for kind, member, method in (
        (None, "inputSchema", "tools/call"),
        ("tool", "inputSchema", "tools/call"),
        ("prompt", "arguments", "prompts/get"),
    ):
        asked = {"name": "a__greet"} | ({"kind": kind} if kind else {})
        described = await search.answer(raw(name="describe_tool", arguments=asked))
        assert isinstance(described, dict)
        assert member in json.loads(json.loads(bytes(described["content"]))[0]["text"])
        chosen = await search.answer(raw(name="call_tool", arguments=asked))
        assert isinstance(chosen, Chosen)
        assert chosen.method == method


def test_who_speaks_is_said_where_several_do() -> None:
    ask, answer = ({"type": "text", "text": text} for text in ("a?", "b"))
    alone = as_tool_result(PROMPT, raw(messages=[{"role": "user", "content": ask}], description="d", _meta={"v/x": 1}))
    assert {member: json.loads(bytes(value)) for member, value in alone.items()} == {
        "content": [ask],
        "_meta": {"v/x": 1},
    }
    said = [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
    both = json.loads(bytes(as_tool_result(PROMPT, raw(messages=said))["content"]))
    assert [one["text"] for one in both] == ["user:", "a?", "assistant:", "b"]
    asking = raw(resultType="input_required", inputRequests={})
    assert as_tool_result(PROMPT, asking) is asking


@pytest.mark.parametrize("messages", [None, "x", [1], [{}], [{"role": "user"}]])
def test_a_prompt_that_is_none_is_its_servers_fault(messages: object) -> None:
    with pytest.raises(UpstreamInvalid):
        as_tool_result(PROMPT, raw(messages=messages))
