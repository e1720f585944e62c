"""Requests without hub tools: what was judged is what is sent, all else goes by as bytes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from tests.peers.openai_upstream import USAGE, Turn, chunk, events, sse

ASK: list[Any] = [{"role": "user", "content": "hello"}]


async def post(desk: Any, body: bytes | dict[str, Any]) -> httpx.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return await client.post(
            f"{desk.url}/v1/chat/completions", content=data, headers={"content-type": "application/json"}
        )


async def test_only_the_model_name_of_a_request_is_changed(desk: Any) -> None:
    async with desk(Turn("hi there")) as d:
        raw = b'{ "model": "m","messages":[{"role":"user",  "content":"\\u00e9 \xc3\xa9"}],"seed":12345678901234567890, "x":1.0}'
        answer = await post(d, raw)
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"] == "hi there"
        sent = d.upstream.received[0]
        assert sent.raw == (
            b'{"model":"up-1","messages":[{"role":"user",  "content":"\\u00e9 \xc3\xa9"}],"seed":12345678901234567890,"x":1.0}'
        )
        assert sent.headers["authorization"] == "Bearer sk-upstream-secret"
        assert (d.gate.settled[0].usage.input_tokens, d.gate.settled[0].usage.output_tokens) == (9, 4)
        assert not d.gate.settled[0].usage.estimated


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","model":"secret","messages":[]}',
        b'{"model":"m","mod\\u0065l":"secret","messages":[]}',
        b'{"model":"m","Model":"secret","messages":[]}',
        b'{"model":"m","streamOptions":{},"messages":[]}',
        b'{"model":"m","stream":true,"stream_options":{"include_usage":true,"include_usage":false},"messages":[]}',
        b'{"model":"m","stream":true,"stream_options":[],"messages":[]}',
        b'{"model":["m"],"messages":[]}',
        b'{"messages":[]}',
        b'{"model":"m","stream":"yes"}',
        b'{"model":"m","tools":[{"type":"mcp","server_url":"hub","server_url":"hub/mcp/x"}]}',
        b'{"model":"m","tools":[{"type":"mcp","serverUrl":"hub","server_url":"hub"}]}',
        b'{"model":"m","tools":[{"type":"function","type":"mcp","server_url":"hub"}]}',
        b'{"model":"m","tools":[{"Type":"mcp","server_url":"hub"}]}',
        b'{"model":"m","tools":[{"type":"MCP","server_url":"hub"}]}',
        b'{"model":"m","tools":[["mcp"]]}',
        b'{"model":"m","hub":{"max_rounds":0}}',
        b"[]",
        b'{"model":"m"',
        b'{"model":"m","messages":' + b"[" * 1000 + b"]" * 1000 + b"}",
        b"\xff",
    ],
)
async def test_request_that_can_be_read_in_two_ways_reaches_nobody(desk: Any, body: bytes) -> None:
    async with desk(Turn("no")) as d:
        answer = await post(d, body)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert not d.upstream.received


async def test_unknown_and_forbidden_models_are_answered_alike(desk: Any) -> None:
    async with desk(Turn("no")) as d:
        d.grants[:] = ["model:other"]
        for name in ("m", "absent", "w/*", "*"):
            with pytest.raises(openai.NotFoundError) as caught:
                await d.client.chat.completions.create(model=name, messages=ASK)
            assert caught.value.code == "model_not_found"
            assert caught.value.body["message"].replace(f"'{name}'", "?") == "No model ? here. (request req_1)"
        assert not d.upstream.received


async def test_wildcard_is_judged_by_the_requested_name(desk: Any) -> None:
    async with desk(Turn("yes")) as d:
        d.grants[:] = ["model:w/good"]
        await d.client.chat.completions.create(model="w/good", messages=ASK)
        assert d.upstream.received[0].body["model"] == "good"
        assert d.gate.settled[0].name == "w/good"
        assert d.upstream.received[0].headers["authorization"] == "Bearer sk-environment-key"
        with pytest.raises(openai.NotFoundError):
            await d.client.chat.completions.create(model="w/bad", messages=ASK)


async def test_models_lists_what_the_key_may_use(desk: Any) -> None:
    async with desk(Turn("yes")) as d:
        d.grants[:] = ["model:m", "model:w/good", "model:nothing"]
        assert [model.id async for model in await d.client.models.list()] == ["m", "w/good"]
        assert (await d.client.models.retrieve("w/good")).id == "w/good"
        with pytest.raises(openai.NotFoundError):
            await d.client.models.retrieve("offline")
        d.grants[:] = ["model:*"]
        assert "w/*" in [model.id async for model in await d.client.models.list()]


@pytest.mark.parametrize("null_usage", [False, True])
async def test_stream_is_counted_and_its_extra_usage_chunk_withheld(desk: Any, null_usage: bool) -> None:
    async with desk(Turn("one two three", null_usage=null_usage)) as d:
        stream = await d.client.chat.completions.create(model="m", messages=ASK, stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three "
        assert all(chunk.choices for chunk in chunks)
        assert d.upstream.received[0].body["stream_options"] == {"include_usage": True}
        assert d.gate.settled[0].usage.output_tokens == USAGE["completion_tokens"]


async def test_usage_chunk_that_was_asked_for_arrives(desk: Any) -> None:
    async with desk(Turn("one two")) as d:
        stream = await d.client.chat.completions.create(
            model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        assert [chunk async for chunk in stream][-1].usage.total_tokens == USAGE["total_tokens"]


async def test_stream_options_are_kept_from_a_provider_that_refuses_them(desk: Any) -> None:
    async with desk(Turn("one two")) as d:
        stream = await d.client.chat.completions.create(
            model="mistral", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        async for _ in stream:
            pass
        assert "stream_options" not in d.upstream.received[0].body
        assert d.gate.settled[0].usage.estimated


async def test_last_event_is_held_back_until_the_first_has_arrived(desk: Any) -> None:
    confirmed = asyncio.Event()
    async with desk(Turn("one two three", hold_last=confirmed)) as d, asyncio.timeout(20):
        stream = await d.client.chat.completions.create(model="m", messages=ASK, stream=True)
        said = ""
        async for event in stream:
            said += event.choices[0].delta.content or ""
            if said.startswith("one"):
                confirmed.set()
        assert said == "one two three "


async def test_stream_cut_at_any_byte_is_passed_whole(desk: Any) -> None:
    body = {"model": "up-1", "stream_options": {"include_usage": True}}
    whole = b"".join(events(Turn("one two"), body))
    for size in (1, 7, 61):
        pieces = tuple(whole[start : start + size] for start in range(0, len(whole), size))
        async with desk(Turn(raw=pieces)) as d:
            answer = await post(d, {"model": "m", "messages": ASK, "stream": True})
            usage = events(Turn("one two"), body)[-2]
            assert answer.content == whole.replace(usage, b"")


@pytest.mark.parametrize("break_it", [{"cut_after": 3}, {"raw": (chunk({"model": "x"}, {"content": "one"}),)}])
async def test_stream_cut_in_the_middle_ends_with_an_error_and_an_estimate(desk: Any, break_it: Any) -> None:
    async with desk(Turn("one two three four", **break_it)) as d:
        answer = await post(d, {"model": "m", "messages": ASK, "stream": True})
        events_ = answer.text.strip().split("\n\n")
        assert json.loads(events_[-1].removeprefix("data: "))["error"]["code"] == "upstream_invalid"
        assert "[DONE]" not in answer.text
        assert d.gate.settled[0].outcome == "error"
        assert d.gate.settled[0].usage.estimated
        assert d.gate.settled[0].usage.output_tokens > 0
    async with desk(Turn("one two three four", **break_it)) as d:
        stream = await d.client.chat.completions.create(model="m", messages=ASK, stream=True)
        with pytest.raises(openai.APIError, match="cut short"):
            async for _ in stream:
                pass


@pytest.mark.parametrize(("model", "key"), [("m", "sk-upstream-secret"), ("w/x", "sk-environment-key")])
@pytest.mark.parametrize("tools", [[], [{"type": "mcp", "server_url": "hub"}]])
async def test_error_in_a_stream_is_told_without_key_and_address(desk: Any, model: str, key: str, tools: Any) -> None:
    async with desk(Turn()) as d:
        d.workshop.add("s", "t", lambda: "")
        host = d.upstream.url.removeprefix("http://").removesuffix("/v1")
        error = sse(
            {"error": {"message": f"overloaded at http://10.0.0.1/x and {host} with {key}", "type": "server_error"}}
        )
        d.upstream.turns[0].raw = (chunk({"model": "x"}, {"content": "one"}), error)
        stream = await d.client.chat.completions.create(
            model=model, messages=ASK, stream=True, **({"tools": tools} if tools else {})
        )
        with pytest.raises(openai.APIError) as caught:
            async for _ in stream:
                pass
        assert caught.value.message == "overloaded at … and … with …"


async def test_nothing_is_passed_on_behind_an_error_in_a_stream(desk: Any) -> None:
    pieces = (chunk({"model": "x"}, {"content": "one"}), sse({"error": {"message": "overloaded"}}), b"data: [DONE]\n\n")
    async with desk(Turn(raw=pieces)) as d:
        answer = await post(d, {"model": "m", "messages": ASK, "stream": True})
        assert "[DONE]" not in answer.text
        assert json.loads(answer.text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["message"]


async def test_client_that_leaves_cancels_the_generation(desk: Any) -> None:
    async with desk(Turn("one two three", hold_last=asyncio.Event())) as d, asyncio.timeout(20):
        stream = await d.client.chat.completions.create(model="m", messages=ASK, stream=True)
        async for _ in stream:
            break
        await stream.close()
        await d.upstream.left.wait()
        while not d.gate.settled:
            await asyncio.sleep(0)
        assert d.gate.settled[0].outcome == "cancelled"
        assert d.gate.settled[0].usage.estimated


@pytest.mark.parametrize(
    ("turn", "status", "code"),
    [
        (Turn(status=401, error=b'{"error":{"message":"bad key sk-upstream-secret"}}'), 502, "upstream_refused"),
        (Turn(status=403, error=b"{}"), 502, "upstream_refused"),
        (Turn(status=404, error=b"<html>"), 502, "upstream_refused"),
        (Turn(status=302, error=b"", headers={"location": "http://127.0.0.1:1/"}), 502, "upstream_refused"),
        (Turn(status=500, error=b"broken"), 502, "upstream_unavailable"),
        (Turn(status=503, error=b"busy"), 503, "upstream_overloaded"),
        (Turn(error=b"<html>", content_type="text/html"), 502, "upstream_invalid"),
        (Turn(error=b"garbage"), 502, "upstream_invalid"),
        (Turn(error=b"[]"), 502, "upstream_invalid"),
    ],
)
@pytest.mark.attack("2.1/21")
async def test_failing_provider_is_named_and_its_secrets_are_not(desk: Any, turn: Turn, status: int, code: str) -> None:
    async with desk(turn) as d:
        answer = await post(d, {"model": "m", "messages": ASK})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.json()["error"]["message"].startswith("m: ")
        assert "sk-upstream" not in answer.text
        assert d.upstream.url not in answer.text
        assert "www-authenticate" not in answer.headers


async def test_limit_of_the_provider_keeps_its_retry_after(desk: Any) -> None:
    async with desk(Turn(status=429, error=b"{}", headers={"retry-after": "7"})) as d:
        with pytest.raises(openai.RateLimitError) as caught:
            await d.client.chat.completions.create(model="m", messages=ASK)
        assert caught.value.response.headers["retry-after"] == "7"


async def test_fault_that_the_provider_found_is_told_in_its_words_without_addresses(desk: Any) -> None:
    async with desk(Turn(status=400)) as d:
        message = f"max_tokens is too large; asked {d.upstream.url}/x with sk-upstream-secret from 10.1.2.3:80"
        error = {
            "message": message,
            "type": "invalid_request_error",
            "param": "max_tokens",
            "code": "too_large",
            "at": 1,
        }
        d.upstream.turns[0].error = json.dumps({"error": error}).encode()
        with pytest.raises(openai.BadRequestError) as caught:
            await d.client.chat.completions.create(model="m", messages=ASK)
        assert caught.value.body == {
            "message": "max_tokens is too large; asked …/x with … from …",
            "type": "invalid_request_error",
            "param": "max_tokens",
            "code": "too_large",
        }


async def test_missing_key_is_named_with_its_model(desk: Any) -> None:
    async with desk(Turn("no")) as d:
        d.models["g"] = d.models["m"].__class__(name="g", provider="groq", model="x", base_url=d.upstream.url)
        with pytest.raises(openai.APIStatusError, match="g: it has no key; set GROQ_API_KEY"):
            await d.client.chat.completions.create(model="g", messages=ASK)
        assert not d.upstream.received


@pytest.mark.attack("2.2/30")
async def test_key_of_the_environment_does_not_go_to_an_address_that_the_operator_did_not_write(desk: Any) -> None:
    async with desk(Turn("no")) as d:
        model = d.models["m"].__class__
        d.models["theirs"] = model(name="theirs", provider="openai", model="x", base_url=d.upstream.url, trusted=False)
        with pytest.raises(openai.APIStatusError) as caught:
            await d.client.chat.completions.create(model="theirs", messages=ASK)
        assert caught.value.code == "address_refused"
        assert not d.upstream.received


async def test_unreachable_provider_is_a_bad_gateway(desk: Any) -> None:
    async with desk(Turn("no")) as d:
        model = d.models["m"].__class__
        d.models["down"] = model(name="down", provider="vllm", model="x", base_url="http://127.0.0.1:1/v1")
        with pytest.raises(openai.APIStatusError) as caught:
            await d.client.chat.completions.create(model="down", messages=ASK)
        assert (caught.value.status_code, caught.value.code) == (502, "upstream_unavailable")


async def test_callers_own_tools_go_on_as_they_came(desk: Any) -> None:
    raw = b'{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"type":{"type":"string"}}}}}]}'
    async with desk(Turn(calls=(("f", "{}"),))) as d:
        answer = await post(d, raw)
        assert answer.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "f"
        assert d.upstream.received[0].raw == raw.replace(b'"m"', b'"up-1"', 1)
