"""What answers say of limits and budgets that are nearly used up, at every door."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import grpc.aio
import httpx
import pytest
from a2a.types import a2a_pb2
from a2a.types.a2a_pb2_grpc import A2AServiceStub

from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.doors.test_limits import (
    CALLS,
    Call,
    chat,
    everything,
    in_session,
    made,
    message,
    respond,
    say,
    use_tool,
)
from tests.peers.mcp_servers import dual_era
from tests.peers.openai_upstream import Turn

HEADER = "hubbub-limit-warning"

WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
IN_BODIES: dict[str, Call] = {
    "streamed model": lambda http: chat(http, **WITH_USAGE),
    "response": respond,
    "streamed response": lambda http: respond(http, stream=True),
    "streamed messages": lambda http: message(http, stream=True),
    "agent as streamed model": lambda http: chat(http, model="agent/echo", **WITH_USAGE),
    **{name: CALLS[name] for name in ("model", "messages", "embeddings", "agent as model")},
}
STREAMED = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
WARNING = "the key's budget of 0.1 USD per day is nearly used up"


async def test_answers_say_that_a_budget_is_nearly_used_up(hub: OpenHub) -> None:
    budget = {"usd": 0.1, "per": "day", "warn_at": 0.6}
    async with everything(hub) as running:
        free = await running.key("model:*", "tool:*", "agent:*")
        for number, (name, call) in enumerate({**CALLS, **IN_BODIES}.items()):
            async with running.http(await made(running, name=f"rita-{number}", budget=budget)) as http:
                answers = [await call(http) for _ in range(4)]
            assert [one.status_code for one in answers] == [200] * 4, answers[0].text
            assert [one.headers.get(HEADER) for one in answers] == [None] * 2 + [WARNING] * 2, name
            said = [f'"limit_warnings":["{WARNING}"]' in one.text for one in answers]
            assert said == [False] * 2 + [name in IN_BODIES] * 2, answers[-1].text
            async with running.http(free) as http:
                answer = await call(http)
                assert HEADER not in answer.headers
                assert "limit_warnings" not in answer.text


async def test_an_answer_with_a_warning_is_given_to_nobody_else(hub: OpenHub) -> None:
    async with everything(hub, cache=", cache: {ttl_s: 60}") as running:
        budget = {"usd": 0.1, "per": "day", "warn_at": 0.1}
        async with running.http(await made(running, budget=budget)) as http:
            answers = [await chat(http), await chat(http)]
            assert [one.headers["x-hub-cache"] for one in answers] == ["miss", "miss"]
            assert [WARNING in one.text for one in answers] == [True, True]


async def test_a_warning_that_a_tool_brings_stands_behind_a_stream_that_has_begun(hub: OpenHub) -> None:
    call = Turn(calls=(("s__echo", '{"text": "x"}'),))
    budget = {"usd": 0.1, "per": "day", "warn_at": 0.4}
    async with everything(hub, turns=(call, Turn("done"))) as running:
        async with running.http(await made(running, budget=budget)) as http:
            answer = await chat(http, stream=True, tools=[{"type": "mcp", "server_label": "s", "server_url": "hub"}])
        assert HEADER not in answer.headers
        assert f'"limit_warnings":["{WARNING}"]' in answer.text


async def test_answers_over_grpc_say_behind_them_that_a_budget_is_nearly_used_up(hub: OpenHub) -> None:
    async with everything(hub, grpc=True) as running, grpc.aio.insecure_channel(str(running.grpc)) as channel:
        stub = A2AServiceStub(channel)
        key = await made(running, budget={"usd": 0.1, "per": "day", "warn_at": 0.6})
        metadata = (("authorization", f"Bearer {key}"), ("a2a-version", "1.0"))
        said = []
        for number in range(5):
            text = a2a_pb2.Message(message_id="m", role=a2a_pb2.ROLE_USER, parts=[a2a_pb2.Part(text="hello")])
            request = a2a_pb2.SendMessageRequest(tenant="echo", message=text)
            call = stub.SendMessage if number != 3 else stub.SendStreamingMessage
            answering = call(request, metadata=metadata, timeout=20)
            if number == 3:
                assert [event async for event in answering]
            said.append(dict(await answering.trailing_metadata()).get(HEADER))
        assert said == [None] * 2 + [WARNING] * 3


@pytest.mark.parametrize("limit", ["calls_per_day", "requests_per_minute"])
async def test_counts_of_calls_warn_where_they_say_so(hub: OpenHub, limit: str) -> None:
    text = f"the key's {limit} of 5 is nearly used up"
    async with everything(hub) as running:
        for number, (name, call) in enumerate(CALLS.items()):
            soft = await made(running, name=f"soft-{number}", limits={limit: 5, "warn_at": 0.6})
            async with running.http(soft) as http:
                answers = [await call(http) for _ in range(4)]
            assert [one.headers.get(HEADER) for one in answers] == [None] * 2 + [text] * 2, name
            assert [text in one.text for one in answers] == [False] * 2 + [name in IN_BODIES] * 2
        async with running.http(await made(running, limits={limit: 5})) as http:
            assert [(await say(http)).headers.get(HEADER) for _ in range(5)] == [None] * 5


async def test_tokens_warn(hub: OpenHub) -> None:
    async with everything(hub) as running:
        for span in ("minute", "day", "month"):
            limits = {f"tokens_per_{span}": 400, "warn_at": 0.5}
            async with running.http(await made(running, name=span, limits=limits)) as http:
                first, second = [await chat(http, max_tokens=tokens) for tokens in (100, 300)]
                assert first.headers.get(HEADER) is None
                assert second.headers[HEADER] == f"the key's tokens_per_{span} of 400 is nearly used up"


async def test_calls_under_way_warn_while_they_are_under_way(hub: OpenHub) -> None:
    holds = [asyncio.Event(), asyncio.Event()]
    turns = [*(Turn("hi", hold_last=hold) for hold in holds), Turn("hi")]
    async with everything(hub, turns=turns) as running:
        secret = await made(running, limits={"concurrent_calls": 4, "warn_at": 0.75})
        async with running.http(secret) as http, asyncio.timeout(20):
            posted = partial(http.stream, "POST", "/v1/chat/completions", json=STREAMED)
            async with posted() as first, posted() as second:
                under_way = await chat(http)
                said = [one.headers.get(HEADER) for one in (first, second, under_way)]
                for hold, held in zip(holds, (first, second), strict=True):
                    hold.set()
                    await held.aread()
            said.append((await chat(http)).headers.get(HEADER))
    warning = "the key's concurrent_calls of 4 are nearly all under way"
    assert said == [None, None, warning, None]


async def test_limits_of_teams_and_users_warn_their_keys(hub: OpenHub) -> None:
    async with everything(hub) as running, running.http(ADMIN_KEY) as admin:
        for level, named in (("team", "alias"), ("user", "name")):
            for limit in ("calls_per_day", "requests_per_minute"):
                body = {named: limit, "limits": {limit: 2, "warn_at": 1}}
                answer = await admin.post(f"/api/{level}s", json=body)
                assert answer.json()["limits"]["warn_at"] == 1, answer.text
                secret = await made(running, name=f"{level}-{limit}", **{level: limit})
                async with running.http(secret) as http:
                    told = [(await say(http)).headers.get(HEADER) for _ in range(2)]
                assert told == [None, f"the {level}'s {limit} of 2 is nearly used up"]


async def test_conversations_warn(hub: OpenHub) -> None:
    limits = {"session": {"calls": 2, "usd": 0.04}, "warn_at": 1}
    warnings = [
        "the key's session calls of 2 is nearly used up in this conversation",
        "the key's session usd of 0.04 is nearly used up in this conversation",
    ]
    async with everything(hub) as running, running.http(await made(running, limits=limits)) as http:
        call = await in_session(http)
        assert [(await call()).headers.get_list(HEADER) for _ in range(2)] == [[], warnings]
        context = (await say(http)).json()["result"]["task"]["contextId"]
        told = [(await say(http, contextId=context)).headers.get_list(HEADER) for _ in range(2)]
        assert told == [[], warnings]


async def test_what_bounds_a_request_warns_whoever_works_for_it(hub: OpenHub) -> None:
    async with dual_era() as server:
        yaml = f"mcpServers: {{s: {{url: '{server.url}', price: {{call: 0.02}}}}}}\n"
        async with hub(yaml) as running:
            await running.services.sync.refresh("s")
            limits = {"max_calls": 4, "max_usd": 0.08, "warn_at": 0.7}
            async with running.http(await made(running, limits=limits)) as http:
                assert HEADER not in (await use_tool(http)).headers
            async with running.http(await made(running, name="worker")) as http:
                http.headers["hubbub-task"] = server.requests[-1]["hubbub-task"]
                told = [(await use_tool(http)).headers.get_list(HEADER) for _ in range(3)]
    calls, usd = "the task's max_calls of 4 is nearly used up", "the task's max_usd of 0.08 is nearly used up"
    assert told == [[], [calls], [calls, usd]]


async def test_limits_of_entries_warn_their_operator_alone(hub: OpenHub, caplog: pytest.LogCaptureFixture) -> None:
    bounded = "limits: {calls_per_day: 4, warn_at: 0.5}"
    async with everything(hub, of_each=bounded) as running:
        secret = await made(running, budget={"usd": 100})
        async with running.http(secret) as http:
            for call in (say, use_tool, chat):
                assert [(await call(http)).headers.get(HEADER) for _ in range(3)] == [None] * 3
    counted = [vars(one)["counter"] for one in caplog.records if one.message == "a limit is nearly used up"]
    assert counted == ["agent echo calls/day", "server s calls/day", "model m calls/day"]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_response_in_the_background_says_what_is_nearly_used_up(hub: OpenHub, is_streamed: bool) -> None:
    warnings = ["the key's calls_per_day of 2 is nearly used up", WARNING]
    bounds = {"budget": {"usd": 0.1, "per": "day", "warn_at": 0.4}, "limits": {"calls_per_day": 2, "warn_at": 1}}
    async with everything(hub) as running, running.http(await made(running, **bounds)) as http:
        found = []
        for _ in range(2):
            answer = await respond(http, background=True, stream=is_streamed)
            assert HEADER not in answer.headers
            found.append(await ended(running, http, answer))
        assert [one.get("hub", {}).get("limit_warnings") for one in found] == [None, warnings]
        assert not running.services.gate.told


async def ended(running: Hub, http: httpx.AsyncClient, answer: httpx.Response) -> Any:
    """The response that an answer is about, when nobody works on it any more."""
    name = answer.json()["id"] if answer.text.startswith("{") else answer.text.split('"id":"', 1)[1].split('"')[0]
    run = running.services.llm.responses._runs.find(name)
    if run is not None and run.task is not None:
        await asyncio.wait([run.task])
    return (await http.get(f"/v1/responses/{name}")).json()
