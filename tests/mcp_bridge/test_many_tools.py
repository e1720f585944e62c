"""Thousands of tools: what a call does is the same, however many tools there are besides."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Callable

import msgspec

from mcp_bridge.asking import Asked, read_request
from mcp_bridge.search import Chosen
from mcp_bridge.views import Views
from registry.access import Grants
from registry.catalog import Catalog
from registry.entries import Server, Tool
from registry.judged import RawObject, encode

GRANTS = Grants.parse(["tool:*"])


def catalog(servers: int, each: int) -> Catalog:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    tools = [
        Tool(
            server=f"s{server}",
            name=f"tool_{number}",
            exposed=f"s{server}__tool_{number}",
            grant_name=f"s{server}__tool_{number}",
            description=encode(
                {"name": f"tool_{number}", "description": f"Does thing {number}", "inputSchema": schema}
            ),
        )
        for server in range(servers)
        for number in range(each)
    ]
    names = [f"s{server}" for server in range(servers)]
    return Catalog(
        number=1,
        servers={name: Server(name=name, url="http://x") for name in names},
        tools={tool.exposed: tool for tool in tools},
    )


def raw(**members: object) -> RawObject:
    return {name: msgspec.Raw(encode(value)) for name, value in members.items()}


def calls_in(work: Callable[[], object]) -> int:
    """How many functions, Python's and C's, `work` calls."""
    counted = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal counted
        counted += event in {"call", "c_call"}

    gc.disable()  # what others left behind is not this work's
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return counted


def finished(answer: object) -> object:
    """Run a coroutine that waits for nothing."""
    try:
        answer.send(None)  # type: ignore[attr-defined]
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


async def costs(servers: int, each: int) -> dict[str, int]:
    made, views = catalog(servers, each), Views()
    view = views.of(made, GRANTS)
    assert len(view.tools) == servers * each
    await view.search.answer(raw(name="search_tools", arguments={"query": "thing"}))
    name = "s1__tool_3"

    def call() -> None:
        assert isinstance(read_request(views.of(made, GRANTS), "tools/call", raw(name=name, arguments={}), {}), Asked)

    def call_searched() -> None:
        params = raw(name="call_tool", arguments={"name": name, "arguments": {}})
        assert isinstance(finished(views.of(made, GRANTS).search.answer(params)), Chosen)

    def describe() -> None:
        assert finished(views.of(made, GRANTS).search.answer(raw(name="describe_tool", arguments={"name": name})))

    def search() -> None:
        params = raw(name="search_tools", arguments={"query": "thing 3", "limit": 2})
        assert finished(views.of(made, GRANTS).search.answer(params))

    def lists() -> None:
        assert views.of(made, GRANTS).modern("tools/list")
        assert views.of(made, GRANTS).search_list

    for work in (call, call_searched, describe, search, lists):
        work()  # what is remembered is remembered
    return {work.__name__: calls_in(work) for work in (call, call_searched, describe, search, lists)}


async def test_no_call_does_more_among_5000_tools_of_100_servers_than_among_50() -> None:
    few, many = await costs(2, 25), await costs(100, 50)
    assert all(few.values())
    # a call more or less: SQLite hands over a found row sooner or later
    assert {name: many[name] <= count + 2 for name, count in few.items()} == dict.fromkeys(few, True)


async def test_5000_tools_are_searched_by_several_at_once_over_one_index() -> None:
    view = Views().of(catalog(100, 50), GRANTS)
    asked = raw(name="search_tools", arguments={"query": "s77 thing 42", "limit": 1})
    answers = await asyncio.gather(*(view.search.answer(asked) for _ in range(5)))
    for answer in answers:
        assert isinstance(answer, dict)
        (content,) = json.loads(bytes(answer["content"]))
        assert json.loads(content["text"])["found"][0]["name"] == "s77__tool_42"


async def test_a_long_list_says_what_search_mode_would_save() -> None:
    view = Views().of(catalog(100, 50), GRANTS)
    cost = view.cost
    assert cost.tools == 5000
    assert cost.tokens > 100 * (cost.search_tokens or 0) > 0
    assert "mcp_mode: search" in (cost.advice or "")
    assert Views().of(catalog(2, 20), GRANTS).cost.advice is None
    assert Views().of(catalog(2, 50), GRANTS, "s1").cost.search_tokens is None
