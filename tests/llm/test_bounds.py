"""How much one request that runs tools may do: what it says itself, and its key."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import openai
import pytest

from registry.identity import RequestLimits
from registry.prices import Price
from tests.llm.test_rounds import ask
from tests.llm.test_toolbox import call, told
from tests.peers.openai_upstream import Turn


@pytest.mark.attack("2.1/41")
def test_the_stricter_of_two_limits_holds_one_by_one() -> None:
    ours = RequestLimits(max_rounds=3, max_usd=1.0, max_total_tokens=7)
    theirs = RequestLimits(max_rounds=5, max_calls=2, max_usd=0.5, max_total_tokens=9)
    assert ours.within(theirs) == theirs.within(ours) == RequestLimits(3, 2, None, 0.5, 7)


@pytest.mark.parametrize("by_key", [True, False], ids=["its key", "the request"])
async def test_calls_are_bounded_and_the_model_is_told(desk: Any, by_key: bool) -> None:
    limits = RequestLimits(max_calls=2)
    three = Turn(calls=tuple(("s__a", f'{{"n":{n}}}') for n in range(3)))
    async with desk(three, call("s__a", n=4), Turn("ok"), **({"request_limits": limits} if by_key else {})) as d:
        d.workshop.add("s", "a", lambda n: f"got {n}")
        answer = await ask(d, extra_body={} if by_key else {"hub": {"max_calls": 2}})
        assert answer.choices[0].message.content == "ok"
        assert [arguments["n"] for _, arguments in d.workshop.called] == [0, 1]
        assert [text.partition(":")[0] for text in told(d.upstream.received[-1])] == [
            "got 0",
            "got 1",
            "Not called",
            "Not called",
        ]


async def test_a_request_cannot_ask_for_more_rounds_than_its_key_may(desk: Any) -> None:
    async with desk(call("s__a"), request_limits=RequestLimits(max_rounds=2)) as d:
        d.workshop.add("s", "a", lambda: str(len(d.workshop.called)))
        with pytest.raises(openai.BadRequestError, match="after 2 rounds"):
            await ask(d, extra_body={"hub": {"max_rounds": 9}})


async def test_a_key_that_may_more_rounds_does_not_make_every_request_take_them(desk: Any) -> None:
    async with desk(call("s__a"), request_limits=RequestLimits(max_rounds=30)) as d:
        d.workshop.add("s", "a", lambda: str(len(d.workshop.called)))
        with pytest.raises(openai.BadRequestError, match="after 8 rounds"):
            await ask(d)


async def test_time_is_bounded(desk: Any) -> None:
    async with desk(call("s__a"), Turn("no")) as d:
        d.workshop.add("s", "a", asyncio.Event().wait)
        with pytest.raises(openai.APIStatusError, match="took too long") as late:
            await ask(d, extra_body={"hub": {"max_seconds": 0.05}})
        assert late.value.status_code == 504
        assert late.value.response.headers["x-should-retry"] == "false"
        assert d.workshop.cancelled.is_set()


@pytest.mark.parametrize(("limit", "rounds"), [(2.5, 3), (1.0, 1), (0.5, 1)])
async def test_cost_is_bounded_before_each_round(desk: Any, limit: float, rounds: int) -> None:
    """A round costs a dollar; what is begun is ended."""
    price = Price(call=1.0)
    async with desk(call("s__a"), request_limits=RequestLimits(max_usd=limit)) as d:
        d.models["m"] = replace(d.models["m"], price=price)
        d.workshop.add("s", "a", lambda: str(len(d.workshop.called)))
        with pytest.raises(openai.BadRequestError, match="USD") as dear:
            await ask(d)
        assert dear.value.code == "too_expensive"
        assert len(d.upstream.received) == rounds


@pytest.mark.parametrize("by_key", [True, False], ids=["its key", "the request"])
@pytest.mark.parametrize(("limit", "rounds"), [(27, 3), (26, 2), (1, 1)])
async def test_tokens_are_bounded_before_each_round(desk: Any, limit: int, rounds: int, by_key: bool) -> None:
    """A round takes 13; what is begun is ended."""
    limits = {"request_limits": RequestLimits(max_total_tokens=limit)} if by_key else {}
    async with desk(call("s__a"), **limits) as d:
        d.workshop.add("s", "a", lambda: str(len(d.workshop.called)))
        with pytest.raises(openai.BadRequestError, match=f"used {rounds * 13} tokens, of at most {limit}") as many:
            await ask(d, extra_body={} if by_key else {"hub": {"max_total_tokens": limit}})
        assert many.value.code == "too_many_tokens"
        assert len(d.upstream.received) == rounds


@pytest.mark.parametrize(
    "said",
    [
        {"max_rounds": 33},
        {"max_calls": 0},
        {"max_calls": True},
        {"max_seconds": 0},
        {"max_seconds": "1"},
        {"max_usd": -1},
        {"max_tokens": 1},
        {"max_total_tokens": 0},
        {"max_total_tokens": 1.5},
        {"max_total_tokens": 2**53 + 1},
        [],
    ],
)
async def test_a_limit_that_is_none_is_refused(desk: Any, said: Any) -> None:
    async with desk(Turn("no")) as d:
        with pytest.raises(openai.BadRequestError, match="hub"):
            await ask(d, extra_body={"hub": said})
        assert d.upstream.received == []
