"""Answers that are given again to exactly the same request, on real servers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from llm import exact_cache
from tests.conftest import ADMIN_KEY, OpenHub
from tests.llm.messages_desk import messages_desk
from tests.llm.test_pass_through import ASK
from tests.peers.anthropic_upstream import Said
from tests.peers.openai_upstream import Turn, chunk, openai_upstream

ONE, TWO = Turn("one of many"), Turn("two of many")


async def post(desk: Any, body: Any, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return await client.post(f"{desk.url}/v1/chat/completions", json=body, headers=headers)


def keeping(desk: Any) -> None:
    desk.models["m"] = replace(desk.models["m"], cache_s=600)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_request_gets_the_same_answer_and_nobody_is_asked(desk: Any, stream: bool) -> None:
    async with desk(ONE, TWO) as d:
        keeping(d)
        body = {"model": "m", "messages": ASK, "stream": stream}
        first, again = await post(d, body), await post(d, body)
        assert (first.headers["x-hub-cache"], again.headers["x-hub-cache"]) == ("miss", "hit")
        assert first.content == again.content
        assert b"one" in again.content
        assert first.headers["content-type"] == again.headers["content-type"]
        assert len(d.upstream.received) == 1
        hit = d.gate.settled[1]
        assert (hit.name, hit.outcome) == ("m", "cached")
        assert (hit.usage.input_tokens, hit.usage.output_tokens, hit.usage.cost_usd) == (0, 0, 0.0)


@pytest.mark.parametrize(
    "other",
    [{"temperature": 1}, {"stream": True}, {"messages": [{"role": "user", "content": "hello!"}]}, {"user": "else"}],
)
async def test_any_other_request_is_another(desk: Any, other: dict[str, Any]) -> None:
    async with desk(ONE, TWO) as d:
        keeping(d)
        body = {"model": "m", "messages": ASK}
        await post(d, body)
        assert (await post(d, body | other)).headers["x-hub-cache"] == "miss"


async def test_who_wants_a_new_answer_gets_it_and_leaves_it_to_the_next(desk: Any) -> None:
    async with desk(ONE, TWO) as d:
        keeping(d)
        body = {"model": "m", "messages": ASK}
        await post(d, body)
        fresh = await post(d, body, **{"cache-control": "No-Cache"})
        assert "two" in fresh.text
        assert "two" in (await post(d, body)).text
        assert len(d.upstream.received) == 2


async def test_failures_and_streams_that_break_are_not_kept(desk: Any) -> None:
    broken = Turn(raw=(chunk({"model": "x"}, {"content": "half"}),))
    async with desk(Turn(status=400, error=b'{"error":{"message":"no"}}'), broken, ONE) as d:
        keeping(d)
        body = {"model": "m", "messages": ASK, "stream": True}
        assert (await post(d, body)).status_code == 400
        assert "half" in (await post(d, body)).text
        assert "one" in (await post(d, body)).text
        assert len(d.upstream.received) == 3


@pytest.mark.parametrize("name", ["claude", "gpt"])
async def test_anthropics_door_gives_its_answers_again_too_for_the_same_betas(name: str) -> None:
    async with messages_desk(Said("one"), Said("two"), turns=(Turn("one"), Turn("two"))) as d:
        d.models[name] = replace(d.models[name], cache_s=600)
        body = {"model": name, "max_tokens": 9, "messages": ASK, "stream": True}
        async with httpx.AsyncClient(trust_env=False, timeout=20, base_url=d.url) as http:
            first, again = [await http.post("/v1/messages", json=body) for _ in range(2)]
            other = await http.post("/v1/messages", json=body, headers={"anthropic-beta": "more-2026-01-01"})
        assert first.content == again.content
        assert [one.headers["x-hub-cache"] for one in (first, again, other)] == ["miss", "hit", "miss"]
        assert [row.outcome for row in d.gate.settled] == ["ok", "cached", "ok"]


async def test_what_may_run_tools_of_the_hub_is_not_kept(desk: Any) -> None:
    async with desk(ONE, TWO) as d:
        keeping(d)
        d.workshop.add("s", "t", lambda: "")
        body = {"model": "m", "messages": ASK, "tools": [{"type": "mcp", "server_url": "hub"}]}
        for _ in range(2):
            assert "x-hub-cache" not in (await post(d, body)).headers
        assert len(d.upstream.received) == 2


async def test_a_changed_entry_forgets_what_it_answered(desk: Any) -> None:
    async with desk(ONE, TWO) as d:
        keeping(d)
        body = {"model": "m", "messages": ASK}
        await post(d, body)
        d.models["m"] = replace(d.models["m"], model="another")
        assert "two" in (await post(d, body)).text


async def test_answers_are_those_of_a_key_or_of_its_team_and_of_who_may_ask(hub: OpenHub) -> None:
    async with openai_upstream(ONE, TWO, Turn("three")) as upstream:
        yaml = f"""
        models:
          m: {{provider: openai, base_url: "{upstream.url}", api_key: k, cache: {{ttl_s: 600}}}}
        """
        async with hub(yaml) as running, running.http(ADMIN_KEY) as admin:
            assert (await admin.post("/api/teams", json={"alias": "red"})).status_code == 201
            body = {"model": "m", "messages": ASK}

            async def said(key: str) -> str:
                async with running.http(key) as http:
                    return (await http.post("/v1/chat/completions", json=body)).text

            alone = await running.key("model:m")
            red = [await running.key("model:m", team="red") for _ in range(2)]
            assert "one" in await said(alone)
            assert ["two" in await said(key) for key in red] == [True, True]
            assert "one" in await said(alone)
            assert "model_not_found" in await said(await running.key("tool:*", team="red"))
            assert len(upstream.received) == 2
            usage = (await admin.get("/api/usage?by=outcome")).json()["items"]
            assert {row["outcome"]: (row["calls"], row["errors"]) for row in usage} == {"ok": (2, 0), "cached": (2, 0)}


async def test_answers_end_with_their_time_and_give_way_to_newer_ones(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(ONE) as d:
        keeping(d)
        body = {"model": "m", "messages": ASK}
        await post(d, body)
        monkeypatch.setattr(exact_cache, "MAX_BYTES", 2 * exact_cache.OVERHEAD_BYTES)
        await post(d, body | {"user": "another"})
        assert (await post(d, body)).headers["x-hub-cache"] == "miss"
        d.models["m"] = replace(d.models["m"], cache_s=-1.0)
        for _ in range(2):
            assert (await post(d, body)).headers["x-hub-cache"] == "miss"
