"""Anthropic's format at both sides of the hub, by the official client in strict mode."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import anthropic
import httpx
import pytest

from registry.entries import Routing
from registry.errors import UpstreamUnavailable
from tests.llm.messages_desk import messages_desk
from tests.peers.anthropic_upstream import SIGNATURE, USAGE, Said, error, sse
from tests.peers.openai_upstream import USAGE as CHAT_USAGE
from tests.peers.openai_upstream import Turn

ASK: list[Any] = [{"role": "user", "content": "please"}]
HUB: dict[str, Any] = {"type": "mcp", "server_label": "x", "server_url": "hub", "require_approval": "never"}
OWN: dict[str, Any] = {"name": "mine", "input_schema": {"type": "object"}}
SERVER: dict[str, Any] = {"type": "url", "url": "hub/mcp/s", "name": "s"}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
EITHER = pytest.mark.parametrize("model", ["claude", "gpt"])


def add(workshop: Any, *names: str, server: str = "s") -> None:
    for name in names:
        workshop.add(server, name, lambda name=name, **arguments: f"{name} got {json.dumps(arguments)}")


async def ask(desk: Any, *, stream: bool = False, **members: Any) -> Any:
    """Ask by the official client, and have a stream gathered by it."""
    members = {"model": "claude", "max_tokens": 100, "messages": ASK, **members}
    if not stream:
        return await desk.client.beta.messages.create(**members)
    async with desk.client.beta.messages.stream(**members) as events:
        return await events.get_final_message()


async def raw_events(desk: Any, **members: Any) -> list[dict[str, Any]]:
    """The events of a stream, each checked against its name."""
    body = {"model": "claude", "max_tokens": 100, "messages": ASK, "stream": True, **members}
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        answer = await http.post(f"{desk.url}/v1/messages", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for event in answer.text.strip().split("\n\n"):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def kinds(message: Any) -> list[str]:
    return [block.type for block in message.content]


def check_lifecycle(events: list[dict[str, Any]]) -> None:
    """One message; blocks numbered from 0, one open at a time, all closed; one end."""
    events = [event for event in events if event["type"] != "ping"]
    assert events[0]["type"] == "message_start"
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    opened: int | None = None
    count = 0
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert opened is None
            assert event["index"] == count
            opened, count = count, count + 1
        else:
            assert event["index"] == opened
            if event["type"] == "content_block_stop":
                opened = None
            else:
                assert event["type"] == "content_block_delta"
    assert opened is None


@BOTH
async def test_request_of_the_same_format_passes_as_bytes(stream: bool) -> None:
    async with messages_desk(Said("Hello there", thinking="Let me think", redacted=True)) as d:
        more = {"extra_body": {"top_k": 3}, "betas": ["one-2025-01-01", "two"]}
        answer = await ask(d, stream=stream, thinking={"type": "adaptive"}, **more)
        assert kinds(answer) == ["thinking", "redacted_thinking", "text"]
        assert answer.content[0].signature == SIGNATURE
        assert (answer.id, answer.stop_reason) == ("msg_up", "end_turn")
        [sent] = d.claude.received
        assert sent.body["model"] == "claude-up"
        assert (sent.body["top_k"], sent.body["thinking"]) == (3, {"type": "adaptive"})
        assert sent.headers["anthropic-beta"] == "one-2025-01-01,two"
        assert sent.headers["anthropic-version"] == "2026-10-21"  # the SDK's own
        assert not [name for name in sent.headers if name.startswith("x-stainless") or name == "authorization"]
        [settled] = d.gate.settled
        assert (settled.usage.input_tokens, settled.usage.output_tokens) == (10, 7)


@BOTH
@EITHER
async def test_text_is_one_message(stream: bool, model: str) -> None:
    async with messages_desk(Said("Hello there"), turns=(Turn("Hello there"),)) as d:
        add(d.workshop, "a")
        answer = await ask(d, stream=stream, model=model, tools=[HUB])
        assert kinds(answer) == ["text"]
        assert answer.content[0].text.strip() == "Hello there"
        assert (answer.role, answer.model, answer.stop_reason) == ("assistant", model, "end_turn")
        assert answer.id.startswith("msg_")


@BOTH
@EITHER
async def test_three_rounds_are_one_message_with_their_calls_and_results(stream: bool, model: str) -> None:
    said = [
        Said("Let me see.", thinking="First a", calls=(("s__a", {"x": 1}),)),
        Said(thinking="Now b", calls=(("s__b", {}),)),
        Said("All done"),
    ]
    turns = (Turn("Let me see.", calls=(("s__a", '{"x":1}'),)), Turn(calls=(("s__b", "{}"),)), Turn("All done"))
    async with messages_desk(*said, turns=turns) as d:
        add(d.workshop, "a", "b")
        answer = await ask(d, stream=stream, model=model, mcp_servers=[SERVER], betas=["mcp-client-2025-04-04"])
        blocks = [block for block in answer.content if block.type not in ("thinking", "text")]
        assert [block.type for block in blocks] == ["mcp_tool_use", "mcp_tool_result"] * 2
        assert [(b.server_name, b.name, b.input) for b in blocks[::2]] == [("s", "a", {"x": 1}), ("s", "b", {})]
        assert [b.content[0].text for b in blocks[1::2]] == ['a got {"x": 1}', "b got {}"]
        assert [use.id for use in blocks[::2]] == [result.tool_use_id for result in blocks[1::2]]
        assert not any(result.is_error for result in blocks[1::2])
        texts = [block.text.strip() for block in answer.content if block.type == "text"]
        assert texts == ["Let me see.", "All done"]
        assert answer.stop_reason == "end_turn"
        usage = answer.usage
        if model == "claude":
            assert kinds(answer).count("thinking") == 2
            assert usage.cache_read_input_tokens == 3 * USAGE["cache_read_input_tokens"]
            assert usage.cache_creation_input_tokens == 3 * USAGE["cache_creation_input_tokens"]
            assert (usage.input_tokens, usage.output_tokens) == (15, 21)
            assert usage.output_tokens_details.thinking_tokens == 12
            turns_sent = d.claude.received[2].body["messages"]
            assert [turn["role"] for turn in turns_sent] == ["user", "assistant", "user", "assistant", "user"]
            assert turns_sent[1]["content"][0] == {"type": "thinking", "thinking": "First a", "signature": SIGNATURE}
            assert "mcp_servers" not in d.claude.received[0].body
            assert d.claude.received[2].headers["anthropic-beta"] == "mcp-client-2025-04-04"
        else:
            assert (usage.input_tokens, usage.output_tokens) == (27, 12)
        assert [s.kind for s in d.gate.settled] == ["model", "tool", "model", "tool", "model"]


@EITHER
async def test_stream_has_one_lifecycle_over_all_rounds(model: str) -> None:
    said = [Said("a b", calls=(("s__a", {"x": 1}), ("s__b", {}))), Said("c", thinking="so")]
    turns = (Turn("a b", calls=(("s__a", '{"x":1}'), ("s__b", "{}"))), Turn("c"))
    async with messages_desk(*said, turns=turns) as d:
        add(d.workshop, "a", "b")
        events = await raw_events(d, model=model, tools=[HUB])
        check_lifecycle(events)
        usage = events[0]["message"]["usage"]
        assert usage["input_tokens"] == (5 if model == "claude" else 0)
        assert [call["tool"] for call in events[-2]["hub"]["tool_calls"]] == ["a", "b"]
        started = [event["content_block"] for event in events if event["type"] == "content_block_start"]
        assert {block["server_name"] for block in started if block["type"] == "mcp_tool_use"} == {"x"}
        assert [block["name"] for block in started if block["type"] == "mcp_tool_use"] == ["s__a", "s__b"]


@EITHER
async def test_calls_of_a_round_run_at_the_same_time(model: str) -> None:
    meeting = asyncio.Barrier(3)

    async def meet() -> str:
        await meeting.wait()
        return "met"

    names = [f"s__t{n}" for n in range(3)]
    said = Said(calls=tuple((name, {}) for name in names))
    turn = Turn(calls=tuple((name, "{}") for name in names))
    async with messages_desk(said, Said("ok"), turns=(turn, Turn("ok"))) as d, asyncio.timeout(20):
        for n in range(3):
            d.workshop.add("s", f"t{n}", meet)
        answer = await ask(d, model=model, tools=[HUB], stream=True)
        results = [block for block in answer.content if block.type == "mcp_tool_result"]
        assert [block.content[0].text for block in results] == ["met"] * 3
        uses = [block.id for block in answer.content if block.type == "mcp_tool_use"]
        assert sorted(uses) == sorted(block.tool_use_id for block in results)
        assert len(set(uses)) == 3


@BOTH
@EITHER
async def test_own_tools_come_back_beside_the_hubs_and_the_conversation_goes_on(stream: bool, model: str) -> None:
    said = [Said("Both.", calls=(("s__a", {"n": 1}), ("mine", {"q": "é"}))), Said("Thanks")]
    turns = (Turn("Both.", calls=(("s__a", '{"n":1}'), ("mine", '{"q":"é"}'))), Turn("Thanks"))
    async with messages_desk(*said, turns=turns) as d:
        add(d.workshop, "a")
        members = {
            "model": model,
            "mcp_servers": [SERVER],
            "tools": [OWN, {"type": "mcp_toolset", "mcp_server_name": "s"}],
        }
        first = await ask(d, stream=stream, **members)
        assert kinds(first) == ["text", "mcp_tool_use", "tool_use", "mcp_tool_result"]
        assert first.stop_reason == "tool_use"
        own = first.content[2]
        assert (own.name, own.input) == ("mine", {"q": "é"})
        answered = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": own.id, "content": "yes"}]}
        history = [*ASK, {"role": "assistant", "content": first.content}, answered]
        second = await ask(d, stream=stream, **{**members, "messages": history})
        assert second.content[0].text.strip() == "Thanks"
        upstream = d.claude if model == "claude" else d.gpt
        sent = upstream.received[1].body["messages"]
        if model == "claude":
            assert [block["type"] for block in sent[1]["content"]] == ["text", "tool_use", "tool_use"]
            assert [block["name"] for block in sent[1]["content"][1:]] == ["s__a", "mine"]
            assert [block["type"] for block in sent[2]["content"]] == ["tool_result", "tool_result"]
        else:
            assert [call["function"]["name"] for call in sent[1]["tool_calls"]] == ["s__a", "mine"]
            assert [message["content"] for message in sent[2:]] == ['a got {"n": 1}', "yes"]


async def test_conversation_with_hub_calls_can_go_on_without_hub_tools() -> None:
    history = [
        *ASK,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "unsigned", "signature": ""},
                {"type": "mcp_tool_use", "id": "u1", "name": "a", "server_name": "s", "input": {}},
                {"type": "mcp_tool_result", "tool_use_id": "u1", "is_error": False, "content": "42"},
                {"type": "text", "text": "It is 42."},
            ],
        },
        {"role": "user", "content": "Sure?"},
    ]
    async with messages_desk(Said("Yes")) as d:
        answer = await ask(d, messages=history, tools=[OWN])
        assert answer.content[0].text == "Yes"
        sent = d.claude.received[0].body["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "user"]


@BOTH
@EITHER
async def test_failures_of_tools_are_told_to_the_model_and_shown(stream: bool, model: str) -> None:
    def down() -> str:
        raise UpstreamUnavailable("s", "it cannot be reached")

    names = ("s__err", "s__absent", "s__down")
    said = Said(calls=tuple((name, {}) for name in names))
    turn = Turn(calls=tuple((name, "{}") for name in names))
    async with messages_desk(said, Said("sorry"), turns=(turn, Turn("sorry"))) as d:
        d.workshop.add("s", "err", lambda: {"content": [{"type": "text", "text": "no such row"}], "isError": True})
        d.workshop.add("s", "down", down)
        answer = await ask(d, stream=stream, model=model, tools=[HUB])
        shown = {b.name: b.id for b in answer.content if b.type == "mcp_tool_use"}
        told = {b.tool_use_id: b for b in answer.content if b.type == "mcp_tool_result"}
        assert told[shown["s__err"]].content[0].text == "no such row"
        assert told[shown["s__down"]].content[0].text == "s: it cannot be reached"
        assert all(block.is_error for block in told.values())
        assert set(shown) == {"s__err", "s__down"}  # of the third there is no server to name
        assert set(told) == set(shown.values())
        if model == "claude":
            results = d.claude.received[1].body["messages"][-1]["content"]
            assert [block["is_error"] for block in results] == [True] * 3
            assert results[1]["content"] == "There is no tool named 's__absent'."


async def test_images_of_tools_are_given_to_the_model() -> None:
    image = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
    async with messages_desk(Said(calls=(("s__look", {}),)), Said("nice")) as d:
        d.workshop.add("s", "look", lambda: {"content": [{"type": "text", "text": "See"}, image]})
        await ask(d, tools=[HUB])
        [result] = d.claude.received[1].body["messages"][-1]["content"]
        assert [block["type"] for block in result["content"]] == ["text", "image"]
        assert result["content"][1]["source"] == {"type": "base64", "media_type": "image/png", "data": "AAAA"}


async def test_what_models_write_and_servers_list_is_sent_so_that_it_is_taken() -> None:
    schema = {"anyOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": {}, "b": {}}}
    async with messages_desk(Said("\n\n", thinking="so", calls=(("s__a", {}),)), Said("done")) as d:
        d.workshop.add("s", "a", lambda: "", input_schema=schema)
        answer = await ask(d, tools=[HUB], stream=True)
        assert answer.content[-1].text == "done"
        [tool] = d.claude.received[0].body["tools"]
        assert tool["input_schema"] == {"type": "object", "properties": {"a": {}, "b": {}}}


@BOTH
@pytest.mark.parametrize("door", ["messages", "chat"])
async def test_model_of_one_format_stands_in_for_one_of_the_other(stream: bool, door: str) -> None:
    down = Turn(status=500, error=b"{}")
    async with messages_desk(Said("Here instead"), turns=(down,)) as d:
        routing = Routing(retries=0, fallbacks=("claude",))
        d.models["gpt"] = replace(d.models["gpt"], routing=routing)
        if door == "messages":
            answer = await ask(d, model="gpt", stream=stream)
            text = answer.content[0].text
        elif stream:
            chunks = [c async for c in await d.chat.chat.completions.create(model="gpt", messages=ASK, stream=True)]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        else:
            text = (await d.chat.chat.completions.create(model="gpt", messages=ASK)).choices[0].message.content
        assert text == "Here instead"
        assert (len(d.gpt.received), len(d.claude.received)) == (1, 1)


async def test_forced_choice_holds_in_the_first_round_only() -> None:
    async with messages_desk(Said(calls=(("s__a", {}),)), Said("done")) as d:
        add(d.workshop, "a")
        choice = {"type": "tool", "name": "s__a", "disable_parallel_tool_use": True}
        await ask(d, tools=[HUB], tool_choice=choice)
        assert [sent.body["tool_choice"] for sent in d.claude.received] == [
            choice,
            {"type": "auto", "disable_parallel_tool_use": True},
        ]


@pytest.mark.parametrize(
    ("servers", "tools", "offered"),
    [
        ([SERVER], [], ["s__a", "s__b"]),
        ([{**SERVER, "url": "https://hub.example/mcp/s/"}], [], ["s__a", "s__b"]),
        ([{**SERVER, "url": "litellm_proxy/mcp/s"}], [], ["s__a", "s__b"]),
        ([{**SERVER, "tool_configuration": {"allowed_tools": ["a"]}}], [], ["s__a"]),
        ([{**SERVER, "tool_configuration": {"enabled": False}}], [HUB], ["s__a", "s__b", "t__a"]),
        ([SERVER], [{"type": "mcp_toolset", "mcp_server_name": "s"}], ["s__a", "s__b"]),
        ([SERVER], [{"type": "mcp_toolset", "mcp_server_name": "s", "configs": {"a": {"enabled": False}}}], ["s__b"]),
        (
            [SERVER],
            [
                {
                    "type": "mcp_toolset",
                    "mcp_server_name": "s",
                    "default_config": {"enabled": False},
                    "configs": {"a": {"enabled": True}, "b": {"defer_loading": True}},
                }
            ],
            ["s__a"],
        ),
        ([{**SERVER, "url": "hub", "name": "all"}], [], ["s__a", "s__b", "t__a"]),
        ([], [{**HUB, "server_url": "hub/mcp/t"}], ["t__a"]),
    ],
)
async def test_tools_of_the_hub_are_named_in_each_way_of_the_format(servers: Any, tools: Any, offered: Any) -> None:
    async with messages_desk() as d:
        add(d.workshop, "a", "b")
        add(d.workshop, "a", server="t")
        await ask(d, mcp_servers=servers, tools=[*tools, OWN])
        [sent] = d.claude.received
        assert [tool["name"] for tool in sent.body["tools"]] == ["mine", *offered]
        assert sent.body["tools"][1]["input_schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"model": None}, "model"),
        ({"mcp_servers": [{**SERVER, "url": "elsewhere"}]}, "not served here"),
        ({"mcp_servers": [{**SERVER, "authorization_token": "x"}]}, "authorization"),
        ({"mcp_servers": [SERVER, SERVER]}, "two MCP servers"),
        ({"mcp_servers": [{**SERVER, "type": "stdio"}]}, "type 'url'"),
        ({"mcp_servers": [{**SERVER, "URL": "x"}]}, "write 'url'"),
        ({"mcp_servers": [{**SERVER, "tool_configuration": {"allowed_tools": "a"}}]}, "list of names"),
        ({"mcp_servers": [{**SERVER, "tool_configuration": []}]}, "must be an object"),
        ({"mcp_servers": [{**SERVER, "tool_configuration": {"enabled": 1}}]}, "true or false"),
        ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "s"}]}, "no server named 's'"),
        ({"tools": [{"type": "MCP_toolset"}]}, "write 'mcp_toolset'"),
        (
            {"mcp_servers": [SERVER], "tools": [{"type": "mcp_toolset", "mcp_server_name": "s", "configs": {"a": 1}}]},
            "configs",
        ),
        ({"mcp_servers": [SERVER], "tools": [{"type": "mcp_toolset", "mcp_server_name": "s"}] * 2}, "two toolsets"),
        ({"tools": [{**HUB, "server_url": "hub/mcp/absent"}]}, "has no tools"),
        ({"tools": [HUB, {**OWN, "name": "s__a"}]}, "rename yours"),
        ({"tools": [HUB, {"input_schema": {}}]}, "needs a name"),
        ({"tools": [HUB], "max_tokens": None}, "max_tokens"),
        ({"tools": [HUB], "messages": None}, "messages"),
        ({"hub": {"max_rounds": 99}}, "max_rounds"),
        ({"model": "gpt", "top_k": 3}, "top_k"),
        ({"model": "gpt", "tools": [{"type": "bash_20250124", "name": "bash"}]}, "bash_20250124"),
    ],
)
async def test_bad_requests_say_what_is_wrong(members: dict[str, Any], text: str) -> None:
    body = {"model": "claude", "max_tokens": 100, "messages": ASK, **members}
    async with messages_desk() as d, httpx.AsyncClient(trust_env=False) as http:
        add(d.workshop, "a")
        sent = {name: value for name, value in body.items() if value is not None}
        answer = await http.post(f"{d.url}/v1/messages", json=sent)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert text in answer.json()["error"]["message"]
        assert answer.json()["request_id"] == "req_1"
        assert not d.claude.received
        assert not d.gpt.received


@pytest.mark.parametrize(
    ("said", "caught", "kind"),
    [
        (
            Said(status=400, error=("invalid_request_error", "too long")),
            anthropic.BadRequestError,
            "invalid_request_error",
        ),
        (Said(status=404, error=("not_found_error", "no model")), anthropic.NotFoundError, "not_found_error"),
        (Said(status=401, error=("authentication_error", "bad key")), anthropic.APIStatusError, "api_error"),
        (Said(status=429, error=("rate_limit_error", "slow")), anthropic.RateLimitError, "rate_limit_error"),
        (Said(status=529, error=("overloaded_error", "Overloaded")), anthropic.APIStatusError, None),
        (Said(status=500, error=("api_error", "oops")), anthropic.InternalServerError, None),
    ],
)
@pytest.mark.parametrize("tools", [[], [HUB]], ids=["passed", "loop"])
async def test_errors_of_the_provider_are_the_callers_to_read(said: Said, caught: Any, kind: Any, tools: Any) -> None:
    async with messages_desk(said) as d:
        add(d.workshop, "a")
        with pytest.raises(caught) as raised:
            await ask(d, tools=tools)
        if kind is not None:
            assert raised.value.type == kind
        assert "sk-ant" not in str(raised.value)


@pytest.mark.parametrize("tools", [[], [HUB]], ids=["passed", "loop"])
async def test_error_in_the_stream_of_the_provider_ends_the_callers(tools: Any) -> None:
    async with messages_desk(Said("well", error=("overloaded_error", "Overloaded"))) as d:
        add(d.workshop, "a")
        events = await raw_events(d, tools=tools)
        assert events[-1]["type"] == "error"
        assert events[-1]["error"]["type"] == "overloaded_error"
        assert "overloaded" in events[-1]["error"]["message"].lower()
        assert events[-1]["request_id"] == "req_1"
        with pytest.raises(anthropic.APIStatusError, match="overloaded"):
            await ask(d, tools=tools, stream=True)


@pytest.mark.parametrize("tools", [[], [HUB]], ids=["passed", "loop"])
@pytest.mark.parametrize(
    "said",
    [
        Said("one two three", cut_after=4),
        Said(raw=(sse({"type": "message_start", "message": {}}),)),
        Said(raw=(sse({"type": "message_start", "message": {}}), sse({"type": "error", "error": {}}))),
    ],
)
async def test_stream_that_is_cut_ends_with_an_error(said: Said, tools: Any) -> None:
    async with messages_desk(said) as d:
        add(d.workshop, "a")
        events = await raw_events(d, tools=tools)
        assert events[-1]["type"] == "error"
        assert events[-1]["error"]["message"].startswith("claude: ")
        assert d.gate.settled[0].outcome == "error"


@pytest.mark.parametrize(
    "raw", [b"data: garbage\n\n", b"data: []\n\n", b'data: {"type":"content_block_delta","index":3}\n\n']
)
async def test_stream_that_is_none_ends_with_an_error(raw: bytes) -> None:
    async with messages_desk(Said(raw=(raw,))) as d:
        add(d.workshop, "a")
        with pytest.raises(anthropic.APIStatusError, match="claude: "):
            await ask(d, tools=[HUB], stream=True)


@pytest.mark.parametrize("raw", [b"[]", b"{}", b'{"content":[1]}', b"{"])
async def test_whole_answer_that_is_none_is_an_error(raw: bytes) -> None:
    async with messages_desk(Said(raw=(raw,))) as d:
        add(d.workshop, "a")
        with pytest.raises(anthropic.InternalServerError, match="claude: "):
            await ask(d, tools=[HUB])


@BOTH
async def test_error_after_tools_ran_says_not_to_try_again(stream: bool) -> None:
    said = [Said(calls=(("s__a", {}),)), Said(status=500, error=("api_error", "oops"))]
    async with messages_desk(*said) as d:
        add(d.workshop, "a")
        d.client = d.client.with_options(max_retries=3)
        with pytest.raises(anthropic.APIStatusError) as raised:
            await ask(d, tools=[HUB], stream=stream)
        assert stream or raised.value.response.headers["x-should-retry"] == "false"
        assert [name for name, _ in d.workshop.called] == ["s__a"]


@EITHER
async def test_first_token_of_a_round_arrives_before_its_last_exists(model: str) -> None:
    seen = [asyncio.Event(), asyncio.Event()]
    said = [Said("one two", calls=(("s__a", {}),), hold_last=seen[0]), Said("three four", hold_last=seen[1])]
    turns = (Turn("one two", calls=(("s__a", "{}"),), hold_last=seen[0]), Turn("three four", hold_last=seen[1]))
    async with messages_desk(*said, turns=turns) as d, asyncio.timeout(20):
        add(d.workshop, "a")
        heard = ""
        stream = await d.client.beta.messages.create(model=model, max_tokens=9, messages=ASK, tools=[HUB], stream=True)
        async for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                heard += event.delta.text
            if "one" in heard:
                seen[0].set()
            if "three" in heard:
                seen[1].set()
        assert heard.split() == ["one", "twothree", "four"] or heard.split() == ["one", "two", "three", "four"]


async def test_client_that_leaves_cancels_the_tools() -> None:
    running = asyncio.Event()

    async def hang() -> str:
        running.set()
        await asyncio.Event().wait()
        return ""

    async with messages_desk(Said("wait", calls=(("s__hang", {}),))) as d, asyncio.timeout(20):
        d.workshop.add("s", "hang", hang)
        stream = await d.client.beta.messages.create(
            model="claude", max_tokens=9, messages=ASK, tools=[HUB], stream=True
        )
        await running.wait()
        await stream.close()
        await d.workshop.cancelled.wait()


@BOTH
@pytest.mark.parametrize(
    ("said", "turn", "reason"),
    [
        (Said("x", stop_reason="max_tokens"), None, "max_tokens"),
        (Said("x", stop_reason="stop_sequence", stop_sequence="."), None, "stop_sequence"),
        (Said("x", stop_reason="refusal"), None, "refusal"),
        (Said("x", stop_reason="pause_turn"), None, "pause_turn"),
    ],
)
async def test_reasons_to_stop_survive_the_loop(stream: bool, said: Said, turn: Turn | None, reason: str) -> None:
    async with messages_desk(said) as d:
        add(d.workshop, "a")
        answer = await ask(d, stream=stream, tools=[HUB])
        assert answer.stop_reason == reason
        assert answer.stop_sequence == said.stop_sequence


async def test_tokens_are_counted_by_the_provider_or_estimated() -> None:
    async with messages_desk() as d:
        add(d.workshop, "a")
        counted = await d.client.messages.count_tokens(model="claude", messages=ASK)
        assert (counted.input_tokens, d.claude.received[0].path) == (42, "/v1/messages/count_tokens")
        for members in ({"model": "gpt"}, {"model": "claude", "tools": [HUB]}):
            estimate = await d.client.beta.messages.count_tokens(messages=ASK, **members)
            assert estimate.input_tokens > 5
            assert estimate.hub == {"estimated": True}
        assert len(d.claude.received) == 1
        assert not d.gpt.received


async def test_claude_code_is_understood_by_a_model_of_the_other_format() -> None:
    headers = {
        "authorization": "Bearer sk-test",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
        "anthropic-dangerous-direct-browser-access": "true",
        "x-app": "cli",
        "x-stainless-lang": "js",
    }
    body = {
        "model": "gpt",
        "max_tokens": 32_000,
        "system": [{"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "tools": [{"name": "Bash", "description": "Run", "input_schema": {"type": "object"}}],
        "metadata": {"user_id": "user_1"},
        "thinking": {"type": "enabled", "budget_tokens": 31_999},
        "context_management": {"edits": []},
        "stream": True,
    }
    async with messages_desk(turns=(Turn("Sure", calls=(("Bash", '{"command":"ls"}'),)),)) as d:
        async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
            answer = await http.post(f"{d.url}/v1/messages?beta=true", json=body)
        assert answer.status_code == 200
        events = [json.loads(part.split("data: ")[1]) for part in answer.text.strip().split("\n\n")]
        check_lifecycle(events)
        started = [event["content_block"] for event in events if event["type"] == "content_block_start"]
        assert [(block["type"], block.get("name")) for block in started] == [("text", None), ("tool_use", "Bash")]
        assert events[-2]["delta"]["stop_reason"] == "tool_use"
        sent = d.gpt.received[0]
        assert sent.body["reasoning_effort"] == "high"
        assert "anthropic-beta" not in sent.headers


async def test_headers_that_are_no_lists_of_names_are_refused() -> None:
    async with messages_desk() as d:
        with pytest.raises(anthropic.BadRequestError, match="anthropic-beta"):
            await d.client.messages.create(
                model="claude", max_tokens=9, messages=ASK, extra_headers={"anthropic-beta": "a{b"}
            )


@BOTH
async def test_chat_reaches_a_model_of_anthropics_format(stream: bool) -> None:
    said = [Said("Let me see.", thinking="hm", calls=(("s__a", {"x": 1}),)), Said(calls=(("mine", {"q": 1}),))]
    own = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}
    async with messages_desk(*said) as d:
        add(d.workshop, "a")
        members: Any = {
            "model": "claude",
            "messages": [{"role": "system", "content": "Be brief."}, *ASK],
            "tools": [HUB, own],
            "reasoning_effort": "high",
            "stop": "END",
        }
        if stream:
            options = {"include_usage": True}
            chunks = [
                c async for c in await d.chat.chat.completions.create(**members, stream=True, stream_options=options)
            ]
            choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
            text = "".join(choice.delta.content or "" for choice in choices)
            calls = [call for choice in choices for call in choice.delta.tool_calls or ()]
            name, arguments = calls[0].function.name, "".join(call.function.arguments or "" for call in calls)
            reason, usage = next(choice.finish_reason for choice in choices if choice.finish_reason), chunks[-1].usage
            thoughts = "".join(getattr(choice.delta, "reasoning_content", None) or "" for choice in choices)
            assert (text, thoughts) == ("Let me see.", "hm")
        else:
            answer = await d.chat.chat.completions.create(**members)
            [call] = answer.choices[0].message.tool_calls
            name, arguments = call.function.name, call.function.arguments
            reason, usage = answer.choices[0].finish_reason, answer.usage
        assert (name, json.loads(arguments), reason) == ("mine", {"q": 1}, "tool_calls")
        assert (usage.prompt_tokens, usage.completion_tokens) == (20, 14)
        assert usage.prompt_tokens_details.cached_tokens == 4
        assert usage.completion_tokens_details.reasoning_tokens == 8
        assert (
            d.claude.received[0].headers["anthropic-version"] == "2023-06-01"
        )  # the last that has sampling parameters
        first, second = (sent.body for sent in d.claude.received)
        assert (first["system"], first["stop_sequences"]) == ("Be brief.", ["END"])
        assert first["output_config"] == {"effort": "high"}
        assert first["max_tokens"] > 1000
        assert second["messages"][1]["content"][0]["signature"] == SIGNATURE
        assert second["messages"][2]["content"][0]["tool_use_id"] == second["messages"][1]["content"][2]["id"]


async def test_what_anthropics_format_cannot_say_is_refused_at_the_chat_door() -> None:
    async with messages_desk() as d:
        with pytest.raises(Exception, match="seed"):
            await d.chat.chat.completions.create(model="claude", messages=ASK, seed=3)
        assert not d.claude.received


async def test_same_request_gives_the_same_calls_and_usage_at_both_doors() -> None:
    said = [Said(calls=(("s__a", {"x": 1}), ("s__b", {}))), Said("done")]
    counts = []
    for door in ("messages", "chat"):
        async with messages_desk(*said) as d:
            add(d.workshop, "a", "b")
            if door == "messages":
                hub = (await ask(d, tools=[HUB])).hub
            else:
                hub = (await d.chat.chat.completions.create(model="claude", messages=ASK, tools=[HUB])).hub  # type: ignore[list-item]
            calls = [(call["server"], call["tool"], call["arguments"], call["result"]) for call in hub["tool_calls"]]
            counts.append((calls, [(s.kind, s.name, s.usage) for s in d.gate.settled]))
    assert counts[0] == counts[1]


def test_error_of_the_fake_is_of_the_documented_form() -> None:
    assert error("api_error", "x")["error"] == {"type": "api_error", "message": "x"}
    assert CHAT_USAGE["prompt_tokens"] == 9


async def test_a_conversation_with_calls_goes_on_without_tools() -> None:
    """Anthropic refuses calls of tools that are not defined; OpenAI's clients may leave the definitions out."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    history: list[Any] = [
        {"role": "user", "content": "Is it raining?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "yes"},
    ]
    async with messages_desk(Said("Take an umbrella")) as desk:
        answer = await desk.chat.chat.completions.create(model="claude", messages=history)
        assert answer.choices[0].message.content == "Take an umbrella"
        assert desk.claude.received[0].body["tools"] == [{"name": "weather", "input_schema": {"type": "object"}}]
