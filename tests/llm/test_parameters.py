"""What a provider lacks of a request: refused by name before anything is sent, or left out if the model says so."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from registry.entries import Model
from tests.peers.openai_upstream import Turn

ASK = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


async def post(d: Any, **members: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        body = {"model": "lacking", "messages": ASK, **members}
        return await client.post(f"{d.url}/v1/chat/completions", json=body)


def at(d: Any, provider: str, **members: Any) -> None:
    url = d.upstream.url
    entry = {"name": "lacking", "provider": provider, "model": "up", "base_url": url, "api_key": "k", **members}
    d.models["lacking"] = Model(**entry)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("loop", [False, True], ids=["passed through", "by the loop"])
async def test_parameters_that_a_provider_lacks_are_refused_by_name_before_anything_is_sent(
    desk: Any, stream: bool, loop: bool
) -> None:
    async with desk(Turn("no")) as d:
        at(d, "groq")
        d.workshop.add("clock", "now", lambda: "noon")
        more = {"tools": [{"type": "mcp", "server_url": "hub"}]} if loop else {}
        answer = await post(d, logprobs=True, logit_bias={"1": 2}, seed=7, stream=stream, **more)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "logit_bias")
        assert "groq, which lacks logit_bias, logprobs:" in error["message"]
        assert not d.upstream.received


@pytest.mark.parametrize("loop", [False, True], ids=["passed through", "by the loop"])
async def test_they_are_left_out_where_the_model_says_so(desk: Any, loop: bool) -> None:
    async with desk(Turn("yes")) as d:
        at(d, "groq", drop_params=True)
        d.workshop.add("clock", "now", lambda: "noon")
        more = {"tools": [{"type": "mcp", "server_url": "hub"}]} if loop else {}
        assert (await post(d, logprobs=True, logit_bias={"1": 2}, seed=7, **more)).status_code == 200
        sent = d.upstream.received[0].body
        assert (sent["seed"], "logprobs" in sent, "logit_bias" in sent) == (7, False, False)


async def test_null_asks_for_nothing_and_is_left_out(desk: Any) -> None:
    async with desk(Turn("yes")) as d:
        at(d, "groq")
        assert (await post(d, logprobs=None, seed=None)).status_code == 200
        sent = d.upstream.received[0].body
        assert ("logprobs" in sent, "seed" in sent) == (False, True)


@pytest.mark.parametrize(("asked", "sent"), [({}, 5), ({"max_tokens": 3}, 3)])
async def test_bound_of_tokens_goes_by_the_name_that_the_provider_knows(
    desk: Any, asked: dict[str, int], sent: int
) -> None:
    async with desk(Turn("yes")) as d:
        at(d, "mistral")
        assert (await post(d, max_completion_tokens=5, **asked)).status_code == 200
        body = d.upstream.received[0].body
        assert (body["max_tokens"], "max_completion_tokens" in body) == (sent, False)


@pytest.mark.parametrize(("provider", "content"), [("llama_cpp_python", ""), ("openai", None)])
async def test_a_call_without_a_text_is_given_back_as_the_provider_takes_it(
    desk: Any, provider: str, content: str | None
) -> None:
    async with desk(Turn(calls=(("clock__now", "{}"),)), Turn("noon")) as d:
        at(d, provider)
        d.workshop.add("clock", "now", lambda: "noon")
        answer = await post(d, tools=[{"type": "mcp", "server_url": "hub"}])
        assert answer.status_code == 200
        assert d.upstream.received[1].body["messages"][1]["content"] == content


@pytest.mark.parametrize("own", [True, False], ids=["the caller's", "the hub's"])
async def test_provider_without_tools_is_given_none(desk: Any, own: bool) -> None:
    async with desk(Turn("yes")) as d:
        d.workshop.add("clock", "now", lambda: "noon")
        tools = [TOOL] if own else [{"type": "mcp", "server_url": "hub"}]
        at(d, "perplexity")
        answer = await post(d, tools=tools)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
        assert not d.upstream.received
        at(d, "perplexity", drop_params=True)
        assert (await post(d, tools=tools)).status_code == 200
        assert "tools" not in d.upstream.received[0].body
