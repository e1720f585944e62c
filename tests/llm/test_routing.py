"""Several deployments of a model, retries and models that stand in: real servers, and a clock that passes by pauses only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest

from registry.declared.declare import ENTRIES
from registry.declared.entry_shapes import ModelShape
from registry.entries import Model, Routing
from tests.llm.messages_desk import messages_desk
from tests.llm.test_pass_through import ASK, post
from tests.peers.anthropic_upstream import Said
from tests.peers.openai_upstream import OpenAIUpstream, Turn, chunk, openai_upstream, sse

DOWN = Turn(status=503, error=b"busy")
LIMITED = Turn(status=429, error=b"{}")
TOO_LONG = Turn(status=400, error=b'{"error":{"message":"too long","code":"context_length_exceeded"}}')


def model(name: str, **members: Any) -> Model:
    """An entry as hub.yaml would declare it."""
    made = ENTRIES["models"](name, ModelShape.model_validate(members), {}, "file", True)
    assert isinstance(made, Model)
    return made


def at(upstream: OpenAIUpstream, name: str = "up", **members: Any) -> dict[str, Any]:
    return {"provider": "openai", "model": name, "base_url": upstream.url, "api_key": "sk-of-this-place", **members}


@asynccontextmanager
async def upstreams(*turns: Turn) -> AsyncIterator[list[OpenAIUpstream]]:
    """A scripted service for each of `turns`."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(openai_upstream(turn)) for turn in turns]


async def said(desk: Any, name: str, **options: Any) -> str:
    answer = await desk.client.chat.completions.create(model=name, messages=ASK, **options)
    return str(answer.choices[0].message.content)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tools", [[], [{"type": "mcp", "server_url": "hub"}]])
async def test_a_failed_deployment_is_passed_over_at_once_and_in_silence(desk: Any, stream: bool, tools: Any) -> None:
    async with desk() as d, upstreams(DOWN, Turn("from the second")) as (first, second):
        d.workshop.add("s", "t", lambda: "")
        d.models["both"] = model("both", deployments=[at(first, "one", weight=1e-9), at(second, "two")])
        d.time.chance = 0.0
        body = {"model": "both", "messages": ASK, "stream": stream, **({"tools": tools} if tools else {})}
        answer = await post(d, body)
        assert answer.status_code == 200
        assert "second" in answer.text
        assert (answer.headers["x-hub-deployment"], answer.headers["x-hub-attempts"]) == ("openai/two", "2")
        assert first.received[0].body["model"] == "one"
        assert second.received[0].body["model"] == "two"
        assert not d.time.pauses
        if tools and not stream:
            (told,) = answer.json()["hub"]["usage"]["rounds"]
            assert (told["model"], told["deployment"], told["attempts"]) == ("both", "openai/two", 2)
        (row,) = d.gate.settled
        assert (row.kind, row.name, row.outcome) == ("model", "both", "ok")
        assert d.gate.permits[0].requests == 2


@pytest.mark.parametrize("turn", [DOWN, LIMITED, Turn(status=529, error=b"{}")])
async def test_what_passes_is_tried_again_after_growing_waits(desk: Any, turn: Turn) -> None:
    async with desk(turn, turn, Turn("at last")) as d:
        assert await said(d, "m") == "at last"
        first, second = d.time.pauses
        assert 0.25 <= first <= 0.5
        assert first < second <= 1.0
        assert len(d.upstream.received) == 3
        (row,) = d.gate.settled
        assert row.outcome == "ok"


async def test_an_answer_of_a_model_that_was_asked_twice_says_so_and_others_say_nothing(desk: Any) -> None:
    async with desk(DOWN, Turn("well")) as d:
        assert (await post(d, {"model": "m", "messages": ASK})).headers["x-hub-attempts"] == "2"
        assert "x-hub-attempts" not in (await post(d, {"model": "m", "messages": ASK})).headers


async def test_retries_end_with_the_failure_itself(desk: Any) -> None:
    async with desk(DOWN) as d:
        d.models["often"] = model("often", **at(d.upstream), retries=4)
        with pytest.raises(openai.APIStatusError, match="often: the upstream is overloaded") as caught:
            await said(d, "often")
        assert caught.value.status_code == 503
        assert len(d.upstream.received) == 5
        assert len(d.time.pauses) == 4


@pytest.mark.parametrize(
    "turn",
    [
        Turn(status=400, error=b'{"error":{"message":"no"}}'),
        Turn(status=401, error=b"{}"),
        Turn(error=b"<html>", content_type="text/html"),
    ],
)
async def test_what_another_attempt_does_not_mend_is_told_at_once(desk: Any, turn: Turn) -> None:
    async with desk(turn) as d:
        with pytest.raises(openai.APIStatusError):
            await said(d, "m")
        assert len(d.upstream.received) == 1
        assert not d.time.pauses


async def test_a_request_that_is_wrong_is_nobodys_to_stand_in_for(desk: Any) -> None:
    async with desk() as d, upstreams(Turn(status=400, error=b'{"error":{"message":"no"}}')) as (first,):
        d.models["first"] = model("first", **at(first), fallbacks=["offline"])
        with pytest.raises(openai.BadRequestError):
            await said(d, "first")


async def test_nothing_is_tried_again_once_the_answer_has_begun(desk: Any) -> None:
    broken = Turn(raw=(chunk({"model": "x"}, {"content": "one"}), sse({"error": {"message": "overloaded"}})))
    async with desk() as d, upstreams(broken, Turn("no")) as (first, second):
        d.models["both"] = model("both", deployments=[at(first), at(second, weight=1e-9)], fallbacks=["offline"])
        d.time.chance = 0.0
        answer = await post(d, {"model": "both", "messages": ASK, "stream": True})
        assert "overloaded" in answer.text
        assert not second.received


async def test_a_provider_that_wants_a_short_wait_gets_it_and_a_long_one_is_told(desk: Any) -> None:
    async with desk(Turn(status=429, error=b"{}", headers={"retry-after": "3"}), Turn("after three")) as d:
        assert await said(d, "m") == "after three"
        assert d.time.pauses == [3.0]
        d.upstream.turns = [Turn(status=429, error=b"{}", headers={"retry-after": "60"})]
        with pytest.raises(openai.RateLimitError) as caught:
            await said(d, "m")
        assert caught.value.response.headers["retry-after"] == "60"
        assert d.time.pauses == [3.0]


async def test_no_wait_goes_beyond_the_deadline(desk: Any) -> None:
    async with desk(Turn(status=429, error=b"{}", headers={"retry-after": "3"}), Turn("too late")) as d:
        d.models["hasty"] = model("hasty", **at(d.upstream), deadline_s=2)
        with pytest.raises(openai.RateLimitError):
            await said(d, "hasty")
        assert len(d.upstream.received) == 1


async def test_a_deployment_that_does_not_begin_by_the_deadline_leaves_the_request_to_its_stand_in(desk: Any) -> None:
    async with desk(Turn("never", hold_last=asyncio.Event())) as d, asyncio.timeout(20):
        d.models["slow"] = model("slow", **at(d.upstream), deadline_s=0.05, fallbacks=["offline"])
        answer = await post(d, {"model": "slow", "messages": ASK})
        assert answer.headers["x-hub-deployment"] == "offline/offline"
        await d.upstream.left.wait()
        d.models["alone"] = model("alone", **at(d.upstream), deadline_s=0.05)
        failed = await post(d, {"model": "alone", "messages": ASK})
        assert (failed.status_code, failed.json()["error"]["code"]) == (504, "upstream_timeout")


async def test_other_models_stand_in_and_the_grant_of_the_asked_one_suffices(desk: Any) -> None:
    async with desk() as d, upstreams(DOWN, Turn(status=401, error=b"{}"), Turn("third")) as (first, second, third):
        d.models["second"] = model("second", **at(second))
        d.models["third"] = model("third", **at(third, "3"))
        d.models["first"] = model("first", **at(first), retries=0, fallbacks=["gone", "second", "third"])
        d.grants[:] = ["model:first"]
        assert await said(d, "first") == "third"
        assert third.received[0].body["model"] == "3"
        rows = [(row.name, row.outcome) for row in d.gate.settled]
        assert rows == [("first", "error"), ("second", "error"), ("third", "ok")]
        with pytest.raises(openai.NotFoundError):
            await said(d, "third")


async def test_tools_are_called_by_the_model_that_stood_in_and_rounds_stand_where_the_first_did(desk: Any) -> None:
    """As the `tree` of conditions has it."""
    calling = Turn(calls=(("s__t", "{}"),))
    async with desk() as d, upstreams(DOWN, calling) as (first, second):
        d.workshop.add("s", "t", lambda: "")
        first.turns = [DOWN, calling, Turn("done")]
        d.models["second"] = model("second", **at(second))
        d.models["first"] = model("first", **at(first), retries=0, fallbacks=["second"])
        assert await said(d, "first", tools=[{"type": "mcp", "server_url": "hub"}]) == "done"
        where = [(permit.entry_name, permit.tree().callers) for permit in d.gate.permits]
        assert where == [
            ("second", ()),
            ("s__t", ("model:second",)),
            ("first", ()),
            ("s__t", ("model:first",)),
            ("first", ()),
        ]


async def test_when_nobody_answers_the_failure_of_the_asked_model_is_told(desk: Any) -> None:
    async with desk() as d, upstreams(LIMITED, DOWN) as (first, second):
        d.models["second"] = model("second", **at(second), retries=0)
        d.models["first"] = model("first", **at(first), retries=0, fallbacks=["second"])
        with pytest.raises(openai.RateLimitError, match="first: "):
            await said(d, "first")
        assert second.received


@pytest.mark.parametrize("tools", [[], [{"type": "mcp", "server_url": "hub"}]])
async def test_a_request_too_long_for_a_model_goes_to_one_with_a_larger_context(desk: Any, tools: Any) -> None:
    async with desk() as d, upstreams(TOO_LONG, Turn("long"), Turn("other")) as (small, large, other):
        d.workshop.add("s", "t", lambda: "")
        d.models["large"] = model("large", **at(large))
        d.models["other"] = model("other", **at(other))
        d.models["small"] = model("small", **at(small), fallbacks=["other"], context_fallbacks=["large"])
        assert await said(d, "small", **({"tools": tools} if tools else {})) == "long"
        assert not other.received
        d.models["alone"] = model("alone", **at(small), fallbacks=["other"])
        with pytest.raises(openai.BadRequestError, match="too long"):
            await said(d, "alone")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("failing", ["gpt", "claude"])
async def test_a_model_of_another_format_stands_in_and_the_caller_does_not_notice(failing: str, stream: bool) -> None:
    down, other = Turn(status=503, error=b"{}"), {"gpt": "claude", "claude": "gpt"}[failing]
    said = Said(status=529, error=("overloaded_error", "busy")) if failing == "claude" else Said("from claude")
    async with messages_desk(said, turns=(down if failing == "gpt" else Turn("from gpt"),)) as d:
        found = d.models[failing]
        place = replace(found, deployment=f"{failing} 1")
        routing = Routing(retries=0, fallbacks=(other,))
        d.models[failing] = replace(found, deployments=(place,), routing=routing)
        body = {"model": failing, "max_tokens": 9, "messages": ASK, "stream": stream}
        async with httpx.AsyncClient(trust_env=False, timeout=20, base_url=d.url) as http:
            for path in ("/v1/chat/completions", "/v1/messages"):
                answer = await http.post(path, json=body)
                assert answer.status_code == 200, answer.text
                assert "from" in answer.text
                assert other in answer.text.replace('"model": "', "").replace('"model":"', "")
                assert answer.headers["x-hub-deployment"].endswith(f"/{other}-up")
        assert [row.name for row in d.gate.settled] == [failing, other] * 2


async def test_a_deployment_that_had_enough_is_left_alone_until_then(desk: Any) -> None:
    limited = Turn(status=429, error=b"{}", headers={"retry-after": "30"})
    async with desk() as d, upstreams(limited, Turn("second")) as (first, second):
        d.models["both"] = model("both", deployments=[at(first), at(second)], routing="least_busy")
        assert [await said(d, "both") for _ in range(4)] == ["second"] * 4
        assert len(first.received) == 1
        d.time.now += 31
        first.turns = [Turn("first")]
        assert {await said(d, "both") for _ in range(2)} == {"first", "second"}


async def test_a_deployment_that_does_nothing_but_fail_is_tried_by_one_call_at_a_time(desk: Any) -> None:
    async with desk() as d, upstreams(DOWN, Turn("second")) as (first, second):
        d.models["both"] = model("both", deployments=[at(first), at(second)])
        d.time.chance = 0.0  # the first, if it can be asked
        for _ in range(10):
            await said(d, "both")
        assert len(first.received) == 3
        d.time.now += 11
        hold = asyncio.Event()
        first.turns = [Turn("first", hold_last=hold)]
        async with asyncio.timeout(20):
            probe = asyncio.create_task(said(d, "both"))
            await first.came(4)
            assert [await said(d, "both") for _ in range(3)] == ["second"] * 3
            hold.set()
            assert await probe == "first"
        assert await said(d, "both") == "first"


async def test_limits_of_a_deployment_hold_and_who_finds_none_is_told_when(desk: Any) -> None:
    async with desk() as d, upstreams(Turn("one"), Turn("two")) as (first, second):
        few = {"limits": {"requests_per_minute": 2}}
        d.models["both"] = model("both", deployments=[at(first, **few), at(second, **few)], retries=0)
        for _ in range(4):
            await said(d, "both")
        assert (len(first.received), len(second.received)) == (2, 2)
        with pytest.raises(openai.RateLimitError, match="both: it has all the requests") as caught:
            await said(d, "both")
        assert caught.value.response.headers["retry-after"] == "30"
        d.time.now += 30
        await said(d, "both")


async def test_a_short_wait_for_a_place_is_waited(desk: Any) -> None:
    async with desk() as d, upstreams(Turn("one")) as (first,):
        d.models["paced"] = model("paced", deployments=[at(first, limits={"requests_per_minute": 30})])
        for _ in range(31):
            await said(d, "paced")
        assert d.time.pauses == [pytest.approx(2.0)]


async def test_tokens_of_answers_count_against_the_limit_of_tokens(desk: Any) -> None:
    async with desk() as d, upstreams(Turn("one"), Turn("two")) as (first, second):
        limited = at(first, limits={"tokens_per_minute": 27})
        d.models["both"] = model("both", deployments=[limited, at(second)])
        d.time.chance = 0.0  # the first, if it can be asked
        for _ in range(4):
            await said(d, "both")
        assert len(first.received) == 3  # of 13 tokens each; by their size they would be estimated at more


async def test_calls_at_a_time_are_counted_until_their_answers_end(desk: Any) -> None:
    hold = asyncio.Event()
    async with desk() as d, upstreams(Turn("a b", hold_last=hold)) as (first,), asyncio.timeout(20):
        d.models["one"] = model("one", deployments=[at(first, limits={"concurrency": 1})], retries=0)
        stream = await d.client.chat.completions.create(model="one", messages=ASK, stream=True)
        with pytest.raises(openai.RateLimitError):
            await said(d, "one")
        await stream.close()
        while not d.gate.settled:
            await asyncio.sleep(0)
        hold.set()
        assert await said(d, "one") == "a b"


async def test_a_long_conversation_stays_where_its_beginning_is_cached(desk: Any) -> None:
    async with desk() as d, upstreams(Turn("one"), Turn("two")) as (first, second):
        d.models["both"] = model("both", deployments=[at(first), at(second)], routing="least_busy")
        begun: list[Any] = [{"role": "system", "content": "Be kind. " * 1000}, *ASK]
        for number in range(4):
            more = [{"role": "user", "content": str(number)}]
            await d.client.chat.completions.create(model="both", messages=begun + more)
        assert sorted((len(first.received), len(second.received))) == [0, 4]
        for _ in range(2):
            await said(d, "both")  # too short for any cache
        assert min(len(first.received), len(second.received)) == 1
        home, other = (first, second) if len(first.received) > 2 else (second, first)
        home.turns = [DOWN]
        await d.client.chat.completions.create(model="both", messages=begun)
        assert len(other.received) == 2
        home.turns = [Turn("well again")]
        await d.client.chat.completions.create(model="both", messages=begun)
        assert len(other.received) == 3  # its beginning is cached there now


async def test_a_wildcard_runs_at_several_places_under_the_name_that_was_asked(desk: Any) -> None:
    async with desk() as d, upstreams(DOWN, Turn("two")) as (first, second):
        d.models["any/*"] = model("any/*", deployments=[at(first, "*"), at(second, "x-*", weight=1e-9)])
        d.time.chance = 0.0
        answer = await post(d, {"model": "any/big", "messages": ASK})
        assert (first.received[0].body["model"], second.received[0].body["model"]) == ("big", "x-big")
        assert answer.headers["x-hub-deployment"] == "openai/x-big"
        for name in ("a", "b", "c"):
            await said(d, f"any/{name}")
        assert len(first.received) == 3  # what fails is left alone under all names
        odd = await post(d, {"model": "any/b\r\nx-evil: 1", "messages": ASK})
        assert odd.headers["x-hub-deployment"] == "openai/x-b??x-evil:?1"
        assert "x-evil" not in odd.headers


async def test_a_deployment_that_lacks_what_is_asked_is_passed_over(desk: Any) -> None:
    async with desk() as d, upstreams(Turn("no"), Turn("yes")) as (first, second):
        lacking = at(first, provider="perplexity")
        d.models["both"] = model("both", deployments=[lacking, at(second, weight=1e-9)])
        d.time.chance = 0.0
        answer = await post(d, {"model": "both", "messages": ASK, "logit_bias": {"1": 1}})
        assert answer.headers["x-hub-deployment"] == "openai/up"
        assert not first.received
        d.models["one"] = model("one", deployments=[lacking])
        refused = await post(d, {"model": "one", "messages": ASK, "logit_bias": {"1": 1}})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logit_bias")


async def test_headers_and_keys_of_a_deployment_are_its_own(desk: Any) -> None:
    async with desk() as d, upstreams(DOWN, Turn("two")) as (first, second):
        one = at(first, headers={"x-team": "1"})
        d.models["both"] = model("both", deployments=[one, at(second, api_key="sk-of-the-second", weight=1e-9)])
        d.time.chance = 0.0
        await said(d, "both")
        assert first.received[0].headers["x-team"] == "1"
        assert "x-team" not in second.received[0].headers
        assert second.received[0].headers["authorization"] == "Bearer sk-of-the-second"


async def test_failures_name_neither_keys_nor_addresses_of_any_deployment(desk: Any) -> None:
    async with desk() as d, upstreams(DOWN, DOWN) as (first, second):
        d.models["both"] = model("both", deployments=[at(first), at(second)], retries=0)
        answer = await post(d, {"model": "both", "messages": ASK})
        assert json.loads(answer.text)["error"]["message"].startswith("both: ")
        assert "127.0.0.1" not in answer.text
        assert "sk-of" not in answer.text
