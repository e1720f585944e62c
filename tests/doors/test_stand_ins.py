"""Models that stand in are called as their caller might call them: their budgets, limits, rules and guards hold, at every door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import product
from typing import Any, NamedTuple

import httpx
import pytest
from starlette.responses import JSONResponse

from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.doors.test_guards import MAIL, guards, mail
from tests.doors.test_limits import made, shown
from tests.doors.test_policy import rules
from tests.peers.openai_endpoints import Endpoints, openai_endpoints
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream

HI: list[Any] = [{"role": "user", "content": "hi"}]
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/messages": {"messages": HI, "max_tokens": 99},
    "/v1/responses": {"input": "hi", "store": False},
}
DOWN = Turn(status=503, error=b"busy")


class Cast(NamedTuple):
    """A hub with the models `first`, which is down, and `dear` and `spare`, which stand in for it in this order."""

    hub: Hub
    first: OpenAIUpstream
    dear: OpenAIUpstream
    spare: OpenAIUpstream

    def http(self, secret: str) -> httpx.AsyncClient:
        return self.hub.http(secret)

    async def used(self, model: str) -> dict[str, float]:
        """What is used of the limits of a model."""
        counters, models = self.hub.services.counters, self.hub.services.registry.catalog.models
        found = await counters.used(models[model].limits)
        return {limit.name: limit.shown(used) for limit, used, _ in found}

    async def rows(self) -> list[tuple[str, str, int | None, float | None]]:
        """Of each name and outcome the tokens of output and the cost of all calls."""
        async with self.http(ADMIN_KEY) as admin:
            found = (await admin.get("/api/usage?by=name,outcome")).json()["items"]
        return sorted((one["name"], one["outcome"], one["output_tokens"], one["cost_usd"]) for one in found)


@asynccontextmanager
async def cast(
    hub: OpenHub,
    *,
    first: str = "",
    dear: str = "",
    turn: Turn | None = None,
    names: str = "dear, spare",
    more: str = "",
) -> AsyncIterator[Cast]:
    """`first` and `dear` are members of their entries, `turn` what `dear` answers, `names` what stands in."""
    async with AsyncExitStack() as stack:
        turns = (DOWN, turn or Turn("from dear"), Turn("from spare"))
        peers = [await stack.enter_async_context(openai_upstream(one)) for one in turns]
        at = [
            f"provider: deepseek, model: up, api_key: sk-up-000, base_url: '{peer.url}', retries: 0" for peer in peers
        ]
        yaml = (
            f"models:\n  first: {{{at[0]}, fallbacks: [{names}]{first}}}\n  dear: {{{at[1]}{dear}}}\n"
            f"  spare: {{{at[2]}}}\n{more}"
        )
        yield Cast(await stack.enter_async_context(hub(yaml)), *peers)


async def ask(http: httpx.AsyncClient, path: str, *, stream: bool = False, **members: Any) -> httpx.Response:
    return await http.post(path, json={"model": "first", "stream": stream, **ASKED[path], **members})


async def chat(http: httpx.AsyncClient, text: str = "hi", **members: Any) -> httpx.Response:
    return await ask(http, "/v1/chat/completions", messages=[{"role": "user", "content": text}], **members)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", ASKED)
@pytest.mark.attack("2.1/41", defence="registry.gate:Gate.pass_on")
async def test_exactly_as_many_calls_reach_a_stand_in_as_its_budget_pays(
    hub: OpenHub, path: str, *, stream: bool
) -> None:
    dear = ", price: {input: 0, call: 4}, budget: {usd: 10, per: year}"
    async with cast(hub, dear=dear, names="dear") as c, c.http(await c.hub.key("model:first")) as http:
        answers = await asyncio.gather(*(ask(http, path, stream=stream) for _ in range(5)))
        assert sorted(answer.is_success for answer in answers) == [False, False, False, True, True]
        for answer in answers:
            if not answer.is_success:
                assert "first: " in answer.text  # is overloaded, or, asked by others, does nothing but fail
                assert "passed over in its place: dear: Dear's budget of 10 USD per year is used up" in answer.text
            else:
                assert "dear" in answer.text
        assert len(c.dear.received) == 2
        assert await c.used("dear") == {"budget": 8}


@pytest.mark.parametrize(
    "against",
    [
        rules({"name": "not-dear", "effect": "deny", "entries": ["model:dear"]}),
        rules({"name": "not-up", "effect": "deny", "entries": ["model:dear"], "when": "arguments.model == 'up'"}),
        rules({"name": "ask", "effect": "require_approval", "entries": ["model:dear"]}),
        guards(
            no={
                "type": "patterns",
                "deny": ["hi"],
                "action": "block",
                "of": ["arguments"],
                "entries": ["model:dear"],
            }
        ),
        guards(
            see={
                "type": "patterns",
                "deny": ["hi"],
                "action": "require_approval",
                "of": ["arguments"],
                "entries": ["model:dear"],
            }
        ),
    ],
    ids=["hidden", "denied", "to be approved", "blocked", "guard's approval"],
)
@pytest.mark.attack("2.1/16", defence="registry.gate:Gate.pass_on")
async def test_a_stand_in_that_a_rule_or_guard_is_against_is_passed_over(hub: OpenHub, against: str) -> None:
    async with cast(hub, more=against) as c, c.http(await c.hub.key("model:first")) as http:
        for path, stream in product(ASKED, (False, True)):
            answer = await ask(http, path, stream=stream)
            assert answer.status_code == 200, answer.text
            assert "spare" in answer.text
        assert not c.dear.received
        async with c.http(ADMIN_KEY) as admin:
            assert (await admin.get("/api/approvals")).json()[
                "items"
            ] == []  # nobody is asked about what nobody asked for
            refused = (await admin.get("/api/audit?act=refused")).json()["items"]
        assert "model:dear" in {one["object"] for one in refused}


async def test_what_a_stand_in_is_refused_for_is_told_with_the_failure_of_the_asked_model(hub: OpenHub) -> None:
    against = rules({"name": "not-here", "effect": "deny", "entries": ["model:dear"], "reason": "too far away"})
    async with (
        cast(hub, more=against, names="dear") as c,
        c.http(await c.hub.key("model:first")) as http,
    ):
        error = (await chat(http)).json()["error"]["message"]
        assert error.startswith(
            "first: the upstream is overloaded (HTTP 503) (passed over in its place: dear: The hub's "
        )
        assert "rule 'not-here' refuses this call: too far away." in error


async def test_of_a_request_too_long_another_with_a_larger_context_is_asked_when_one_is_refused(hub: OpenHub) -> None:
    larger = ", context_fallbacks: [dear, spare]"
    against = rules({"name": "not-here", "effect": "deny", "entries": ["model:dear"]})
    async with cast(hub, first=larger, names="", more=against) as c, c.http(await c.hub.key("model:first")) as http:
        c.first.turns = [Turn(status=400, error=b'{"error":{"message":"long","code":"context_length_exceeded"}}')]
        assert "from spare" in (await chat(http)).text
        c.spare.turns = [DOWN]
        error = (await chat(http)).json()["error"]
        assert (error["code"], "passed over in its place: dear" in error["message"]) == (
            "context_length_exceeded",
            True,
        )


@pytest.mark.parametrize("path", [*ASKED])
async def test_guards_of_a_stand_in_redact_what_it_is_sent_and_those_of_the_asked_model_still_do(
    hub: OpenHub, path: str
) -> None:
    both = guards(
        mail=mail("redact", "arguments", entries=["model:dear"]),
        asked={
            "type": "patterns",
            "deny": ["whale"],
            "action": "redact",
            "of": ["arguments"],
            "entries": ["model:first"],
        },
    )
    said = f"write of a whale to {MAIL}"
    members: Any = {"input": said} if "responses" in path else {"messages": [{"role": "user", "content": said}]}
    async with cast(hub, more=both) as c, c.http(await c.hub.key("model:first")) as http:
        assert (await ask(http, path, **members)).status_code == 200
        assert c.first.received[0].body["messages"][-1]["content"] == f"write of a [redacted: asked] to {MAIL}"
        assert c.dear.received[0].body["messages"][-1]["content"] == "write of a [redacted: asked] to [redacted: mail]"
        c.dear.turns = [DOWN]
        assert (await ask(http, path, **members)).status_code == 200
        assert c.spare.received[0].body["messages"][-1]["content"] == f"write of a [redacted: asked] to {MAIL}"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("entries", [["model:dear"], ["model:first"]], ids=["its own", "the asked model's"])
async def test_guards_look_at_what_a_stand_in_answers(hub: OpenHub, entries: list[str], *, stream: bool) -> None:
    looking = guards(mail=mail("redact", "results", entries=entries, when="entry.kind == 'model'"))
    turn = Turn(f"write to {MAIL} now")
    async with cast(hub, more=looking, turn=turn) as c, c.http(await c.hub.key("model:first")) as http:
        answer = await chat(http, stream=stream)
        assert answer.status_code == 200
        assert "[redacted: mail]" in answer.text
        assert MAIL not in answer.text


async def test_each_model_that_is_asked_is_a_call_of_its_own_with_its_own_price(hub: OpenHub) -> None:
    every = ", limits: {calls_per_day: 100, tokens_per_day: 100000, concurrent_calls: 1}, budget: {usd: 100, per: year}"
    first, dear = f", price: {{input: 0, call: 50}}{every}", f", price: {{input: 0, call: 4}}{every}"
    async with cast(hub, first=first, dear=dear) as c:
        limits = {"calls_per_day": 50, "tokens_per_day": 10000, "concurrent_calls": 1}
        async with c.http(await made(c.hub, limits=limits, budget={"usd": 60, "per": "year"})) as http:
            assert (await chat(http)).json()["hub"]["usage"]["cost_usd"] == 4
            assert "[DONE]" in (await chat(http, stream=True)).text
        assert await c.rows() == [("dear", "ok", 8, 8.0), ("first", "error", None, None)]
        assert await c.used("first") == {"calls_per_day": 2, "tokens_per_day": 0, "concurrent_calls": 0, "budget": 0}
        assert await c.used("dear") == {"calls_per_day": 2, "tokens_per_day": 26, "concurrent_calls": 0, "budget": 8}
        used = {name: used for name, (used, _) in (await shown(c.hub)).items()}
        assert used == {"calls_per_day": 4, "tokens_per_day": 26, "concurrent_calls": 0, "budget": 8}


async def test_a_stand_in_that_breaks_off_counts_as_it_was_reserved_though_the_other_failure_is_told(
    hub: OpenHub,
) -> None:
    dear = ", price: {input: 0, call: 4}, budget: {usd: 10, per: year}, deadline_s: 0.05"
    turn = Turn("never", hold_last=asyncio.Event())
    async with cast(hub, dear=dear, turn=turn, names="dear") as c, c.http(await c.hub.key("model:first")) as http:
        failed = await chat(http)
        assert (failed.status_code, "first: the upstream is overloaded" in failed.text) == (503, True)
        assert await c.used("dear") == {"budget": 4}
        assert await c.used("first") == {}


async def test_who_leaves_while_a_stand_in_speaks_pays_for_what_came_and_holds_nothing(hub: OpenHub) -> None:
    dear = ", price: {input: 0, output: 1000}, budget: {usd: 10, per: year}, limits: {concurrent_calls: 1}"
    turn = Turn("word " * 40, hold_last=asyncio.Event())
    async with (
        cast(hub, dear=dear, turn=turn, names="dear") as c,
        c.http(await c.hub.key("model:first")) as http,
        asyncio.timeout(20),
    ):
        body = {"model": "first", "stream": True, "messages": HI}
        async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if "word" in line:
                    break
        while [len(one) for one in c.hub.gate.outcomes.values()] != [2]:
            await asyncio.sleep(0)
        assert list(c.hub.gate.outcomes.values()) == [["error", "cancelled"]]
        used = await c.used("dear")
        assert used["concurrent_calls"] == 0
        assert 0 < used["budget"] < 1  # a thousand tokens, which were reserved, are one USD


@pytest.mark.parametrize("budget", [1, 9], ids=["over", "within"])
async def test_a_response_in_the_background_is_bound_by_what_stands_in(hub: OpenHub, budget: int) -> None:
    dear = f", price: {{input: 0, call: 4}}, budget: {{usd: {budget}, per: year}}"
    async with cast(hub, dear=dear, names="dear") as c, c.http(await c.hub.key("model:first")) as http:
        answer = await http.post("/v1/responses", json={"model": "first", "input": "hi", "background": True})
        name = answer.json()["id"]
        async with asyncio.timeout(20):
            while (found := (await http.get(f"/v1/responses/{name}")).json())["status"] in ("queued", "in_progress"):
                await asyncio.sleep(0)
        assert found["status"] == ("completed" if budget == 9 else "failed")
        assert await c.used("dear") == {"budget": 4 if budget == 9 else 0}
        if budget == 1:
            assert "passed over in its place: dear: This call may use 4 USD" in found["error"]["message"]


async def test_what_a_stand_in_answered_is_kept_for_nobody(hub: OpenHub) -> None:
    async with cast(hub, first=", cache: {ttl_s: 600}") as c, c.http(await c.hub.key("model:first")) as http:
        answers = [await chat(http) for _ in range(2)]
        assert [answer.headers["x-hub-cache"] for answer in answers] == ["miss", "miss"]
        c.first.turns = [Turn("well")]
        answers = [await chat(http) for _ in range(2)]
        assert [answer.headers["x-hub-cache"] for answer in answers] == ["miss", "hit"]


@asynccontextmanager
async def endpoints(hub: OpenHub, dear: str = "", more: str = "") -> AsyncIterator[tuple[Hub, Endpoints, Endpoints]]:
    """`first`, which fails, and `dear`, which stands in for it, at services of embeddings, images and audio."""
    async with openai_endpoints() as down, openai_endpoints() as up:
        at = "provider: openai, api_key: sk-up-000, retries: 0, model: up-1, base_url"
        yaml = (
            f"models:\n  first: {{{at}: '{down.url}', fallbacks: [dear]}}\n  dear: {{{at}: '{up.url}'{dear}}}\n{more}"
        )
        async with hub(yaml) as running:
            yield running, down, up


async def embed(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/v1/embeddings", json={"model": "first", "input": "hi"})


async def speak(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/v1/audio/speech", json={"model": "first", "input": "hi", "voice": "alloy"})


async def respond(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/v1/responses", json={"model": "first", "input": "hi", "store": False})


async def transcribe(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/v1/audio/transcriptions", data={"model": "first"}, files={"file": ("a.wav", b"RIFF")})


@pytest.mark.parametrize("call", [embed, speak, respond, transcribe])
@pytest.mark.attack("2.1/41", defence="registry.gate:Gate.pass_on")
async def test_a_budget_holds_where_a_model_stands_in_for_embeddings_images_and_audio(hub: OpenHub, call: Any) -> None:
    dear = ", price: {input: 0, call: 4}, budget: {usd: 10, per: year}, limits: {concurrent_calls: 9}"
    async with endpoints(hub, dear) as (running, down, up), running.http(await running.key("model:first")) as http:
        for expected in (200, 200, 503):
            down.answer = JSONResponse({"error": {"message": "busy"}}, 503)
            answer = await call(http)
            assert answer.status_code == expected, answer.text
        assert "passed over in its place: dear: Dear's budget" in answer.text
        assert len(up.seen) == 2
        used = await running.services.counters.used(running.services.registry.catalog.models["dear"].limits)
        assert {limit.name: limit.shown(many) for limit, many, _ in used} == {"concurrent_calls": 0, "budget": 8}


@pytest.mark.parametrize("call", [embed, speak, respond])
@pytest.mark.parametrize(
    "against",
    [
        rules({"name": "no", "effect": "deny", "entries": ["model:dear"], "when": "arguments.input == 'hi'"}),
        guards(no={"type": "patterns", "deny": ["hi"], "action": "block", "entries": ["model:dear"]}),
    ],
    ids=["rule", "guard"],
)
async def test_rules_and_guards_of_what_stands_in_hold_for_embeddings_audio_and_responses_that_are_passed_on(
    hub: OpenHub, call: Any, against: str
) -> None:
    async with endpoints(hub, more=against) as (running, down, up), running.http(await running.key("model:*")) as http:
        down.answer = JSONResponse({"error": {"message": "busy"}}, 503)
        answer = await call(http)
        assert (answer.status_code, "passed over in its place: dear: The hub's" in answer.text) == (503, True)
        assert not up.seen
