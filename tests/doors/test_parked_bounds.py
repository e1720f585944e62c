"""What bounds a request bounds its run when that waited for approval, too: with what was used before, wherever it goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openai
import pytest

from llm.bounds import Bounds
from llm.storing import read_run, written_run
from llm.types import Held, Parked, Place, Reply, Used
from registry.access import EVERYTHING
from registry.identity import HUBS_LIMITS, TASK_HEADER_NAME, Principal, RequestLimits
from registry.sealed.secrets import Sealer
from registry.spending.tasks import LASTS_S, Paused, Tasks
from tests.conftest import OpenHub
from tests.doors.responses_desk import open_desk
from tests.doors.test_parked import LOOK, PAY, Desk, opened
from tests.doors.test_responses_approvals import ASKS, CALLS, answer
from tests.peers.openai_upstream import USAGE, Turn

SOME: Any = {"always": {"tool_names": ["pay"]}}
BOTH = Turn(calls=(LOOK, PAY))
WHERE = pytest.mark.parametrize("in_inbox", [False, True], ids=["its caller's request", "the background"])
FLOOR = ", require_approval: [pay]"


async def approved(d: Desk, name: str, *, in_inbox: bool, **members: Any) -> Any:
    """What a run comes to whose one call is approved."""
    if in_inbox:
        assert (await d.decide(name)).status_code == 200
    return await d.ask(SOME, **{**members, "hub": {"approval_id": name}})


@WHERE
async def test_calls_before_an_approval_count_among_those_of_the_request(hub: OpenHub, in_inbox: bool) -> None:
    async with opened(hub, BOTH, Turn("So."), rule=FLOOR if in_inbox else "") as d:
        (waiting,) = (await d.ask(SOME, hub={"max_calls": 1})).hub["approvals"]
        await approved(d, waiting["id"], in_inbox=in_inbox)
        assert "may make 1 tool calls" in str(d.upstream.received[-1].body["messages"][-1])
        assert [name for name, _ in d.bank.calls] == ["look"]


@WHERE
async def test_what_calls_cost_before_an_approval_counts_in_what_a_request_may_cost(
    hub: OpenHub, in_inbox: bool
) -> None:
    rule = ", price: {call: 0.6}" + (FLOOR if in_inbox else "")
    async with opened(hub, BOTH, Turn("So."), rule=rule) as d:
        (waiting,) = (await d.ask(SOME, hub={"max_usd": 1})).hub["approvals"]
        with pytest.raises(openai.BadRequestError, match=r"1\.2.* USD") as dear:
            await approved(d, waiting["id"], in_inbox=in_inbox)
        assert dear.value.code == "too_expensive"
        assert len(d.upstream.received) == 1


@WHERE
async def test_tokens_before_an_approval_count_among_those_that_a_request_may_take(
    hub: OpenHub, in_inbox: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(USAGE, "prompt_tokens", 1900)
    async with opened(hub, BOTH, Turn("So."), rule=FLOOR if in_inbox else "") as d:
        (waiting,) = (await d.ask(SOME, hub={"max_total_tokens": 2000})).hub["approvals"]
        with pytest.raises(openai.RateLimitError, match="max_total_tokens of 2000 is used up"):
            await approved(d, waiting["id"], in_inbox=in_inbox)
        assert len(d.upstream.received) == 1


@pytest.mark.parametrize("bound", [{"max_calls": 1}, {"max_rounds": 1}], ids=str)
async def test_a_response_that_goes_on_has_the_bounds_of_the_one_that_asked(
    hub: OpenHub, bound: dict[str, int]
) -> None:
    async with open_desk(hub, CALLS, CALLS, CALLS, Turn("So.")) as d:
        first = await d.sdk.responses.create(model="m", input="hi", tools=[ASKS], extra_body={"hub": bound})
        more: dict[str, Any] = {"model": "m", "tools": [{**ASKS, "require_approval": "never"}]}
        said: Any = [answer(first.output[-1].id)]
        last = d.sdk.responses.create(
            **more, input=said, previous_response_id=first.id, extra_body={"hub": {"max_rounds": 9, "max_calls": 9}}
        )
        if "max_rounds" in bound:
            with pytest.raises(openai.BadRequestError, match="after 1 rounds"):
                await last
        else:
            assert (await last).output_text.endswith("So.")
        assert len(d.peer.calls) == 1


@WHERE
async def test_a_run_stays_part_of_the_task_that_it_was_part_of(hub: OpenHub, in_inbox: bool) -> None:
    async with opened(hub, BOTH, Turn("So."), rule=FLOOR if in_inbox else "") as d:
        task = Tasks(d.running.services.sealer).begin(RequestLimits(max_calls=1))
        assert task is not None
        header = {"extra_headers": {TASK_HEADER_NAME: task.token}}
        (waiting,) = (await d.ask(SOME, **header)).hub["approvals"]
        await approved(d, waiting["id"], in_inbox=in_inbox)
        assert "max_calls of 1 is used up" in str(d.upstream.received[-1].body["messages"][-1])
        assert [name for name, _ in d.bank.calls] == ["look"]


def test_the_time_of_a_task_stands_still_while_it_waits_unless_another_request_began_it() -> None:
    now = 1000.0
    tasks = Tasks(Sealer([b"a sealing key of thirty-two byte"]), clock=lambda: now)
    limits = RequestLimits(max_calls=3, max_seconds=60)
    key = Principal(id="k", name="k", grants=EVERYTHING, request_limits=limits)
    own = tasks.enter(key, None).task
    assert own is not None
    inherited = tasks.enter(key, own.token.encode()).task
    assert inherited is not None
    now += 20
    paused, other = tasks.pause(own), tasks.pause(inherited)
    now += 3600
    resumed = tasks.resume(key, paused).task
    assert resumed is not None
    assert (resumed.deadline, resumed.limits) == (now + 40, own.limits)
    assert tasks.read(resumed.token.encode()) == resumed  # agents are told the same
    assert tasks.pause(resumed).left_s == 40
    assert tasks.resume(key, other).task == inherited
    now += LASTS_S
    anew = tasks.resume(key, paused).task
    assert anew is not None
    assert anew.limits != own.limits


def test_a_run_that_goes_on_may_do_what_is_left_of_what_it_was_bound_to() -> None:
    hubs = {"rounds": 8, "seconds": 3600.0}
    first = Bounds(RequestLimits(max_calls=2, max_seconds=60, max_total_tokens=99), RequestLimits(max_usd=1), **hubs)
    assert first.take_call() is None
    used = first.used(20.0, 0.25)
    assert used == Used(RequestLimits(8, 2, 60, 1, 99), 1, 20.0, 0.25)
    more = RequestLimits(max_rounds=30, max_calls=9, max_seconds=900, max_usd=9, max_total_tokens=999)
    then = Bounds(more, HUBS_LIMITS, **hubs, before=used)
    assert (then.rounds, then.calls, then.seconds_left) == (8, 2, 40.0)
    assert then.used(5.0, 0.5) == used._replace(seconds=25.0, charged_usd=0.75)
    strict = Bounds(RequestLimits(max_calls=1), RequestLimits(max_seconds=30), **hubs, before=used)
    assert (strict.calls, strict.seconds_left) == (1, 10.0)
    assert strict.take_call() is not None


def test_what_bounds_a_run_is_kept_with_it() -> None:
    reply = Reply("chat", {}, (), (), "stop")
    used = Used(RequestLimits(8, None, 60.5, 0.5, 99), 3, 1.5, 0.25)
    place = Place(2, ["agent:a", "model:m"], ["one"], "talk", Paused("token", 40.0))
    parked = Parked(
        run="r", about=b"", turns=[], reply=reply, held=Held([], []), expires_at=1.0, used=used, place=place
    )
    found = read_run(written_run(parked))
    assert (found.used, found.place) == (used, place)
    assert read_run(written_run(replace(parked, place=Place()))).place == Place(above=[], conversations=[])
