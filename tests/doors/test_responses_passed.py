"""`/v1/responses` at models whose provider speaks it: passed through, but kept by the hub, under the hub's ids."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from tests.conftest import Hub, OpenHub
from tests.doors.responses_desk import checked, client
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream

USAGE = {
    "input_tokens": 30,
    "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 0},
    "output_tokens": 6,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 36,
}
SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}
THOUGHT = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "sealed-by-them"}
BARE = {"id": "rs_2", "type": "reasoning", "summary": []}
SAID = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}],
}


def upstreams(**members: Any) -> dict[str, Any]:
    """A response as OpenAI writes it, with an id of its own."""
    head = {"id": "resp_theirs", "object": "response", "created_at": 1, "status": "completed", "model": "up-2026"}
    rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "store": False, "error": None}
    return {**head, **rest, "output": [THOUGHT, BARE, SEARCH, SAID], "usage": USAGE, **members}


def events(*more: dict[str, Any]) -> tuple[bytes, ...]:
    """Its stream."""
    begun = upstreams(status="in_progress", output=[], usage=None)
    added = {**SAID, "content": [], "status": "in_progress"}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    found: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": added},
        {"type": "response.content_part.added", **at, "part": part},
        {"type": "response.output_text.delta", **at, "delta": "hi", "logprobs": [], "obfuscation": "x"},
        {"type": "response.output_text.done", **at, "text": "hi", "logprobs": []},
        {"type": "response.content_part.done", **at, "part": {**part, "text": "hi"}},
        {"type": "response.output_item.done", "output_index": 0, "item": SAID},
        *(more or ({"type": "response.completed", "response": upstreams(output=[SAID])},)),
    ]
    return tuple(
        f"event: {one['type']}\ndata: {json.dumps({**one, 'sequence_number': number})}\n\n".encode()
        for number, one in enumerate(found)
    )


@asynccontextmanager
async def passing(hub: OpenHub, *turns: Turn) -> AsyncIterator[tuple[Hub, openai.AsyncOpenAI, OpenAIUpstream, str]]:
    async with openai_upstream(*turns) as upstream:
        yaml = f"models:\n  m: {{provider: openai, model: up, base_url: '{upstream.url}', api_key: sk-upstream-000}}\n"
        async with hub(yaml) as running:
            secret = await running.key("model:m")
            async with client(running.url, secret) as sdk:
                yield running, sdk, upstream, secret


def whole(**members: Any) -> Turn:
    return Turn(error=json.dumps(upstreams(**members)).encode())


async def test_what_only_the_provider_can_do_goes_there_as_it_came(hub: OpenHub) -> None:
    asked: Any = {"input": "hi", "tools": [{"type": "web_search"}], "truncation": "auto", "top_logprobs": 2}
    async with passing(hub, whole()) as (running, sdk, upstream, _):
        response = await sdk.responses.create(model="m", **asked)
        assert [item.type for item in response.output] == ["reasoning", "reasoning", "web_search_call", "message"]
        (received,) = upstream.received
        assert received.path == "/v1/responses"
        assert received.body == {"model": "up", "store": False, **asked}
        (permit,) = [permit for permit in running.gate.permits if permit.kind == "model"]
        assert (permit.usage.input_tokens, permit.usage.cached_tokens, permit.usage.reasoning_tokens) == (30, 20, 5)


async def test_the_providers_id_is_nowhere_and_the_hubs_is_good_for_all(hub: OpenHub) -> None:
    async with passing(hub, whole(), whole()) as (_, sdk, upstream, _secret):
        first = await sdk.responses.create(model="m", input="hi")
        assert "theirs" not in first.to_json()
        assert (await sdk.responses.retrieve(first.id)).to_dict() == first.to_dict()
        second = await sdk.responses.create(model="m", input="more", previous_response_id=first.id)
        assert (second.previous_response_id, second.id != first.id) == (first.id, True)
        sent = upstream.received[1].body
        assert "previous_response_id" not in sent
        told = [(item["type"], item.get("id")) for item in sent["input"]]
        # a thought that only the provider's store could tell is left out
        assert told == [
            ("message", None),
            ("reasoning", "rs_1"),
            ("web_search_call", "ws_1"),
            ("message", "msg_1"),
            ("message", None),
        ]
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.create(model="m", input="more", previous_response_id="resp_theirs")
        assert len(upstream.received) == 2


async def test_a_stream_passes_with_the_hubs_ids_and_is_kept(hub: OpenHub) -> None:
    async with passing(hub, Turn(raw=events())) as (running, sdk, _, secret), running.http(secret) as http:
        answer = await http.post("/v1/responses", json={"model": "m", "input": "hi", "stream": True})
        found = checked(answer.text.splitlines())
        assert "theirs" not in answer.text
        assert '"obfuscation": "x"' in answer.text  # the provider's bytes
        last = found[-1]["response"]
        assert last["hub"]["usage"].keys() == {"cost_usd"}
        assert (await sdk.responses.retrieve(last["id"])).output_text == "hi"
        (permit,) = [permit for permit in running.gate.permits if permit.kind == "model"]
        assert (permit.usage.input_tokens, permit.usage.output_tokens) == (30, 6)


@pytest.mark.parametrize(
    "raw",
    [
        events()[:-1],
        (*events()[:-1], b'event: error\ndata: {"type":"error","code":"server_error","message":"boom"}\n\n'),
    ],
    ids=["cut", "error"],
)
async def test_a_stream_that_breaks_off_fails_once(hub: OpenHub, raw: tuple[bytes, ...]) -> None:
    async with passing(hub, Turn(raw=raw)) as (running, sdk, _, secret), running.http(secret) as http:
        answer = await http.post("/v1/responses", json={"model": "m", "input": "hi", "stream": True})
        lines = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        assert [line["type"] for line in lines].count("response.failed") == 1
        failed = lines[-1]["response"]
        assert failed["error"]["message"]
        assert failed["id"] == lines[0]["response"]["id"]
        assert (await sdk.responses.retrieve(failed["id"])).status == "failed"
        (permit,) = [permit for permit in running.gate.permits if permit.kind == "model"]
        assert running.gate.outcomes[id(permit)] == ["error"]


async def test_nonsense_is_an_http_error(hub: OpenHub) -> None:
    raw = (b'event: response.completed\ndata: {"type":"response.completed"}\n\n',)
    async with passing(hub, Turn(raw=raw), Turn(error=b"[]")) as (_, sdk, _, _):
        for stream in (True, False):
            with pytest.raises(openai.InternalServerError):
                await sdk.responses.create(model="m", input="hi", stream=stream)


async def test_store_false_of_what_passes_is_kept_nowhere(hub: OpenHub) -> None:
    async with passing(hub, whole()) as (running, sdk, upstream, _):
        made = await sdk.responses.create(model="m", input="hi", store=False)
        assert (made.model_dump()["store"], upstream.received[0].body["store"]) == (False, False)
        with running.services.database.engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM kept").scalar() == 0


async def test_a_refusal_of_the_provider_is_an_http_error(hub: OpenHub) -> None:
    error = {"error": {"message": "no such tool", "type": "invalid_request_error", "param": "tools", "code": None}}
    async with passing(hub, Turn(status=400, error=json.dumps(error).encode())) as (_, sdk, _, _):
        with pytest.raises(openai.BadRequestError, match="no such tool"):
            await sdk.responses.create(model="m", input="hi", stream=True)


RAN = {
    "id": "ci_1",
    "type": "code_interpreter_call",
    "status": "completed",
    "container_id": "cntr_theirs",
    "code": "1",
    "outputs": None,
}
CITES = {
    "type": "container_file_citation",
    "container_id": "cntr_theirs",
    "file_id": "cfile_theirs",
    "filename": "plot.png",
    "start_index": 0,
    "end_index": 1,
}
CITED = {**SAID, "content": [{"type": "output_text", "text": "hi", "annotations": [CITES], "logprobs": []}]}
INTERPRETER: Any = {"type": "code_interpreter", "container": {"type": "auto"}}


async def test_what_a_provider_made_is_cited_by_ids_of_the_hub_that_only_its_owner_can_use(hub: OpenHub) -> None:
    async with passing(hub, whole(output=[RAN, CITED]), whole(output=[SAID])) as (running, sdk, upstream, _):
        first = await sdk.responses.create(model="m", input="plot", tools=[INTERPRETER])
        assert "theirs" not in first.to_json()
        container = first.to_dict()["output"][0]["container_id"]  # type: ignore[index]
        cited: Any = first.to_dict()["output"][1]["content"][0]["annotations"][0]  # type: ignore[index]
        assert cited["container_id"] == container
        assert cited["file_id"].startswith("file-")
        await sdk.responses.create(model="m", input="more", previous_response_id=first.id, tools=[INTERPRETER])
        (_, ran, said, _) = upstream.received[-1].body["input"]
        assert ran["container_id"] == "cntr_theirs"
        assert said["content"][0]["annotations"] == [CITES]
        named: Any = [{**INTERPRETER, "container": container}]
        await sdk.responses.create(model="m", input="more", tools=named)
        assert upstream.received[-1].body["tools"][0]["container"] == "cntr_theirs"
        raw: Any = [{**INTERPRETER, "container": "cntr_theirs"}]
        async with client(running.url, await running.key("model:m")) as stranger:
            for tools in (raw, named):
                with pytest.raises(openai.NotFoundError, match="container"):
                    await stranger.responses.create(model="m", input="hi", tools=tools)
            forged: Any = [{"role": "user", "content": "hi"}, RAN]
            with pytest.raises(openai.NotFoundError, match="container"):
                await stranger.responses.create(model="m", input=forged, tools=[INTERPRETER])
            with pytest.raises(openai.BadRequestError, match="prompt"):
                await stranger.responses.create(model="m", prompt={"id": "pmpt_theirs"}, input="hi")
        assert len(upstream.received) == 3


async def test_so_it_is_in_streams(hub: OpenHub) -> None:
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "annotation_index": 0}
    more = (
        {"type": "response.output_text.annotation.added", **at, "annotation": CITES},
        {"type": "response.completed", "response": upstreams(output=[CITED])},
    )
    async with passing(hub, Turn(raw=events(*more))) as (running, _, _, secret):
        body = {"model": "m", "stream": True, "input": "plot", "tools": [INTERPRETER]}
        async with running.http(secret) as http, http.stream("POST", "/v1/responses", json=body) as answer:
            lines = [line async for line in answer.aiter_lines()]
        said = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
        assert "theirs" not in json.dumps(said)
        (added,) = [one["annotation"] for one in said if one["type"].endswith("annotation.added")]
        assert said[-1]["response"]["output"][0]["content"][0]["annotations"] == [added]
