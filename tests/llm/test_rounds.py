"""Requests with `type: mcp` tools, by the official client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from llm.rounds import LoopLimits
from registry.errors import UpstreamUnavailable
from tests.llm.conftest import PUBLIC_URL
from tests.peers.openai_upstream import USAGE, Turn, chunk

ASK: list[Any] = [{"role": "user", "content": "please"}]
HUB: dict[str, Any] = {"type": "mcp", "server_label": "x", "server_url": "hub", "require_approval": "never"}
OWN: dict[str, Any] = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}


def add(workshop: Any, *names: str, server: str = "s") -> None:
    for name in names:
        workshop.add(server, name, lambda name=name, **arguments: f"{name} got {json.dumps(arguments)}")


async def ask(desk: Any, **members: Any) -> Any:
    return await desk.client.chat.completions.create(**{"model": "m", "messages": ASK, "tools": [HUB], **members})


async def gather(stream: Any) -> tuple[str, list[Any]]:
    chunks = [chunk async for chunk in stream]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), chunks


@pytest.mark.parametrize("stream", [False, True])
async def test_several_rounds_are_run_and_their_usage_summed(desk: Any, stream: bool) -> None:
    turns = [Turn("Let me see.", calls=(("s__a", '{"x":1}'),)), Turn(calls=(("s__b", "{}"),)), Turn("All done")]
    async with desk(*turns) as d:
        add(d.workshop, "a", "b")
        if stream:
            options = {"include_usage": True}
            text, chunks = await gather(await ask(d, stream=True, stream_options=options))
            assert text == "Let me see. All done "
            assert len({chunk.id for chunk in chunks}) == 1
            assert [
                chunk.choices[0].delta.role for chunk in chunks if chunk.choices and chunk.choices[0].delta.role
            ] == ["assistant"]
            ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
            assert ends == ["stop"]
            assert not any(chunk.choices and chunk.choices[0].delta.tool_calls for chunk in chunks)
            usage = chunks[-1].usage
            calls = [call for chunk in chunks if hasattr(chunk, "hub") for call in chunk.hub.get("tool_calls", ())]
        else:
            answer = await ask(d)
            assert answer.choices[0].message.content == "All done"
            assert answer.choices[0].finish_reason == "stop"
            assert answer.model == "m"
            usage, calls = answer.usage, answer.hub["tool_calls"]
        assert usage.total_tokens == 3 * USAGE["total_tokens"]
        assert usage.completion_tokens_details.reasoning_tokens == 3
        assert [(call["server"], call["tool"], call["arguments"]) for call in calls] == [
            ("s", "a", {"x": 1}),
            ("s", "b", {}),
        ]
        assert [call["result"] for call in calls] == ['a got {"x": 1}', "b got {}"]
        sent = d.upstream.received[2].body["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant", "tool"]
        assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]
        assert sent[2]["content"] == 'a got {"x": 1}'
        assert [s.kind for s in d.gate.settled] == ["model", "tool", "model", "tool", "model"]
        assert sum(s.usage.input_tokens or 0 for s in d.gate.settled) == 3 * USAGE["prompt_tokens"]


async def test_first_token_of_a_round_arrives_before_its_last_exists(desk: Any) -> None:
    seen = [asyncio.Event(), asyncio.Event()]
    turns = [Turn("one two", calls=(("s__a", "{}"),), hold_last=seen[0]), Turn("three four", hold_last=seen[1])]
    async with desk(*turns) as d, asyncio.timeout(20):
        add(d.workshop, "a")
        said = ""
        async for chunk in await ask(d, stream=True):
            said += chunk.choices[0].delta.content or ""
            if "one" in said:
                seen[0].set()
            if "three" in said:
                seen[1].set()
        assert said == "one two three four "


async def test_all_calls_of_a_round_run_at_the_same_time(desk: Any) -> None:
    meeting = asyncio.Barrier(3)

    async def meet() -> str:
        await meeting.wait()
        return "met"

    async with desk(Turn(calls=tuple((f"s__t{n}", "{}") for n in range(3))), Turn("ok")) as d, asyncio.timeout(20):
        for n in range(3):
            d.workshop.add("s", f"t{n}", meet)
        answer = await ask(d)
        assert [call["result"] for call in answer.hub["tool_calls"]] == ["met"] * 3


async def test_calls_of_a_round_are_capped(desk: Any) -> None:
    running, most = 0, 0

    async def count() -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return ""

    async with desk(
        Turn(calls=tuple(("s__t", "{}") for _ in range(9))), Turn("ok"), limits=LoopLimits(parallel_calls=2)
    ) as d:
        d.workshop.add("s", "t", count)
        assert len((await ask(d)).hub["tool_calls"]) == 9
        assert most == 2


async def test_failures_of_tools_are_told_to_the_model(desk: Any) -> None:
    def down() -> str:
        raise UpstreamUnavailable("s", "it cannot be reached")

    async def hang() -> str:
        await asyncio.Event().wait()
        return ""

    calls = (
        ("s__err", "{}"),
        ("s__absent", "{}"),
        ("s__ok", "{broken"),
        ("s__down", ""),
        ("s__hang", "{}"),
        ("s__ok", "[]"),
    )
    async with desk(Turn(calls=calls), Turn("sorry"), limits=LoopLimits(tool_s=0.05)) as d, asyncio.timeout(20):
        d.workshop.add("s", "err", lambda: {"content": [{"type": "text", "text": "no such row"}], "isError": True})
        d.workshop.add("s", "ok", lambda **_: "fine")
        d.workshop.add("s", "down", down)
        d.workshop.add("s", "hang", hang)
        answer = await ask(d)
        assert answer.choices[0].message.content == "sorry"
        told = [message["content"] for message in d.upstream.received[1].body["messages"] if message["role"] == "tool"]
        assert told[0] == "no such row"
        assert told[1] == "There is no tool named 's__absent'."
        assert "not a JSON object" in told[2]
        assert told[3] == "s: it cannot be reached"
        assert "did not answer" in told[4]
        assert "not a JSON object" in told[5]
        assert all("error" in call for call in answer.hub["tool_calls"])
        assert not [name for name, _ in d.workshop.called if name == "s__ok"]


async def test_result_that_is_too_large_is_cut_with_a_note(desk: Any) -> None:
    async with desk(Turn(calls=(("s__big", "{}"),)), Turn("ok")) as d:
        d.workshop.add("s", "big", lambda: "x" * 150_000)
        await ask(d)
        told = d.upstream.received[1].body["messages"][-1]["content"]
        assert len(told) < 101_000
        assert "50000 of 150000 characters are left out" in told


@pytest.mark.parametrize("stream", [False, True])
async def test_call_of_the_callers_own_tool_is_returned_and_the_hubs_are_reported(desk: Any, stream: bool) -> None:
    async with desk(Turn("Both.", calls=(("s__a", "{}"), ("mine", '{"q":"é"}')))) as d:
        add(d.workshop, "a")
        if stream:
            _, chunks = await gather(await ask(d, tools=[HUB, OWN], stream=True))
            pieces = [piece for c in chunks for piece in c.choices[0].delta.tool_calls or []]
            assert {piece.index for piece in pieces} == {0}
            assert pieces[0].id
            called = (
                "".join(p.function.name or "" for p in pieces),
                "".join(p.function.arguments or "" for p in pieces),
            )
            reason = chunks[-1].choices[0].finish_reason
            reported = [call for c in chunks if hasattr(c, "hub") for call in c.hub.get("tool_calls", ())]
        else:
            answer = await ask(d, tools=[HUB, OWN])
            (call,) = answer.choices[0].message.tool_calls
            called, reason = (call.function.name, call.function.arguments), answer.choices[0].finish_reason
            reported = answer.hub["tool_calls"]
        assert called == ("mine", '{"q":"é"}')
        assert reason == "tool_calls"
        assert [call["tool"] for call in reported] == ["a"]
        assert len(d.upstream.received) == 1


async def test_streamed_call_of_an_own_tool_without_arguments_is_returned(desk: Any) -> None:
    async with desk(Turn(calls=(("mine", ""),))) as d:
        add(d.workshop, "a")
        _, chunks = await gather(await ask(d, tools=[HUB, OWN], stream=True))
        assert [p.function.name for c in chunks for p in c.choices[0].delta.tool_calls or []] == ["mine"]


@pytest.mark.parametrize("stream", [False, True])
async def test_rounds_are_bounded_by_the_request(desk: Any, stream: bool) -> None:
    async with desk(Turn("again", calls=(("s__a", "{}"),))) as d:
        add(d.workshop, "a")
        with pytest.raises(openai.APIError, match="after 2 rounds"):
            await gather(await ask(d, stream=True, extra_body={"hub": {"max_rounds": 2}})) if stream else await ask(
                d, extra_body={"hub": {"max_rounds": 2}}
            )
        assert len(d.workshop.called) == 2
        assert "hub" not in d.upstream.received[0].body


async def test_forced_tool_choice_holds_in_the_first_round_only(desk: Any) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "s__a"}}):
        async with desk(Turn(calls=(("s__a", "{}"),)), Turn("ok")) as d:
            add(d.workshop, "a")
            await ask(d, tool_choice=choice)
            assert d.upstream.received[0].body["tool_choice"] == choice
            assert "tool_choice" not in d.upstream.received[1].body


@pytest.mark.parametrize(
    ("url", "offered"),
    [
        ("hub", ["s__a", "s__b", "t__a"]),
        ("hub/mcp", ["s__a", "s__b", "t__a"]),
        ("litellm_proxy", ["s__a", "s__b", "t__a"]),
        ("litellm_proxy/mcp/t", ["t__a"]),
        ("hub/mcp/s/", ["s__a", "s__b"]),
        (f"{PUBLIC_URL}/mcp", ["s__a", "s__b", "t__a"]),
        (f"{PUBLIC_URL}/mcp/t", ["t__a"]),
    ],
)
async def test_source_is_named_as_the_hub_knows_it(desk: Any, url: str, offered: list[str]) -> None:
    async with desk(Turn("ok")) as d:
        add(d.workshop, "a", "b")
        add(d.workshop, "a", server="t")
        await ask(d, tools=[{**HUB, "server_url": url}])
        assert [tool["function"]["name"] for tool in d.upstream.received[0].body["tools"]] == offered


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"server_url": "https://elsewhere.example/mcp"}, "https://elsewhere.example/mcp"),
        ({"server_url": "https://hub.example.evil/mcp/s"}, "hub.example.evil"),
        ({"server_url": "hub/mcp/absent"}, "hub/mcp/absent"),
        ({"server_url": "hub/mcp/t"}, "hub/mcp/t"),
        ({"server_url": None}, "server_url"),
        ({"allowed_tools": ["nothing*"]}, "'hub'"),
        ({"allowed_tools": "s__a"}, "allowed_tools"),
        ({"require_approval": "sometimes"}, "require_approval"),
        ({"require_approval": {}}, "require_approval"),
        ({"require_approval": {"never": {"tool_names": "a"}}}, "require_approval"),
        ({"require_approval": {"never": ["a"]}}, "require_approval"),
        ({"require_approval": {"often": {"tool_names": ["a"]}}}, "require_approval"),
        ({"require_approval": {"always": {"tool_names": ["a" * 301]}}}, "require_approval"),
        ({"headers": {"x-mcp-servers": "s"}}, "headers"),
        ({"authorization": "x"}, "authorization"),
    ],
)
async def test_source_that_cannot_be_used_is_a_400_that_names_it(
    desk: Any, members: dict[str, Any], named: str
) -> None:
    async with desk(Turn("no")) as d:
        add(d.workshop, "a")
        add(d.workshop, "a", server="t")
        d.grants[:] = ["model:m", "tool:s__*"]
        with pytest.raises(openai.BadRequestError, match=named.replace("*", ".")):
            await ask(d, tools=[{**HUB, **members}])
        assert not d.upstream.received


async def test_allowed_tools_hold_for_their_own_source(desk: Any) -> None:
    async with desk(Turn("ok")) as d:
        add(d.workshop, "get_a", "get_b", "c")
        add(d.workshop, "get_a", "c", server="t")
        await ask(
            d,
            tools=[
                {**HUB, "server_url": "hub/mcp/s", "allowed_tools": ["get_*"]},
                {**HUB, "server_url": "hub/mcp/t", "allowed_tools": {"tool_names": ["t__c"]}},
            ],
        )
        names = [tool["function"]["name"] for tool in d.upstream.received[0].body["tools"]]
        assert names == ["s__get_a", "s__get_b", "t__c"]


@pytest.mark.attack("2.1/10")
async def test_own_tool_with_the_name_of_a_hub_tool_is_refused(desk: Any) -> None:
    async with desk(Turn("no")) as d:
        add(d.workshop, "a")
        with pytest.raises(openai.BadRequestError, match="s__a"):
            await ask(d, tools=[HUB, {"type": "function", "function": {"name": "s__a"}}])


async def test_tools_are_not_looked_up_for_a_model_that_is_not_granted(desk: Any) -> None:
    async with desk(Turn("no")) as d:
        d.grants[:] = ["tool:*"]
        with pytest.raises(openai.NotFoundError):
            await ask(d, tools=[{**HUB, "server_url": "hub/mcp/absent"}])


async def test_loop_counts_once_against_the_pace_of_the_key(desk: Any) -> None:
    async with desk(Turn(calls=(("s__a", "{}"),)), Turn("ok"), per_minute=1) as d:
        add(d.workshop, "a")
        assert (await ask(d)).choices[0].message.content == "ok"
        with pytest.raises(openai.RateLimitError):
            await ask(d)


async def test_client_that_leaves_cancels_the_tools(desk: Any) -> None:
    running = asyncio.Event()

    async def hang() -> str:
        running.set()
        await asyncio.Event().wait()
        return ""

    async with desk(Turn("wait", calls=(("s__hang", "{}"),))) as d, asyncio.timeout(20):
        d.workshop.add("s", "hang", hang)
        stream = await ask(d, stream=True)
        await running.wait()
        await stream.close()
        await d.workshop.cancelled.wait()
        while len(d.gate.settled) < 2:
            await asyncio.sleep(0)
        assert [(s.kind, s.outcome) for s in d.gate.settled] == [("model", "ok"), ("tool", "cancelled")]


async def test_loop_has_a_deadline(desk: Any) -> None:
    async with (
        desk(Turn("never", hold_last=asyncio.Event()), limits=LoopLimits(total_s=0.05)) as d,
        asyncio.timeout(20),
    ):
        add(d.workshop, "a")
        with pytest.raises(openai.APIStatusError) as caught:
            await ask(d)
        assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")


async def test_a_call_that_is_told_twice_over_in_every_piece_is_one(desk: Any) -> None:
    def piece(arguments: str) -> bytes:
        function = {"name": "s__a", "arguments": arguments}
        call = {"index": 0, "id": "call_0", "type": "function", "function": function}
        return chunk({"model": "m"}, {"content": None, "function_call": function, "tool_calls": [call]})

    raw = (piece('{"x"'), piece(":1}"), chunk({"model": "m"}, {}, "tool_calls"), b"data: [DONE]\n\n")
    async with desk(Turn(raw=raw), Turn("done")) as d:  # as llama-cpp-python streams it
        add(d.workshop, "a")
        text, chunks = await gather(await ask(d, stream=True))
        assert text == "done "
        assert not any(piece.choices and piece.choices[0].delta.function_call for piece in chunks)
        [call] = [call for piece in chunks if hasattr(piece, "hub") for call in piece.hub.get("tool_calls", ())]
        assert (call["arguments"], call["result"]) == ({"x": 1}, 'a got {"x": 1}')
        [given_back] = [
            message for message in d.upstream.received[1].body["messages"] if message["role"] == "assistant"
        ]
        assert (given_back["tool_calls"][0]["function"]["name"], "function_call" in given_back) == ("s__a", False)


@pytest.mark.parametrize(
    "turn", [Turn("x", cut_after=2), Turn(raw=(b"data: garbage\n\n",)), Turn(raw=(b"data: []\n\n",))]
)
async def test_round_that_breaks_ends_the_stream_with_an_error(desk: Any, turn: Turn) -> None:
    async with desk(turn) as d:
        add(d.workshop, "a")
        with pytest.raises(openai.APIError, match="m: "):
            await gather(await ask(d, stream=True))
        assert d.gate.settled[0].outcome == "error"
