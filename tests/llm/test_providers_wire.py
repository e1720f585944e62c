"""Each row of the table of providers on the wire: its own address, its key, a stream, and its errors as the hub's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from llm.ports import ModelRequest
from llm.providers.destination import Destinations
from llm.providers.openai import OpenAICompatible
from llm.providers.row import EVERY, Row
from llm.providers.table import KEY_VARIABLES, TABLE, formats_of
from registry.access import Grants
from registry.egress.http import Deadlines, Egress
from registry.entries import Model
from registry.errors import (
    ContentFiltered,
    ContextTooLong,
    NotSupported,
    UpstreamError,
    UpstreamLimited,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamUnavailable,
)
from registry.identity import Principal
from tests.peers.every_host import Answer, EveryHost, every_host
from tests.recording import RecordingGate

STREAM = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'
OWN = "https://customer.example/of/theirs"
"""Where a provider is that gives each customer an address of their own."""
PATHS = {"chat": "/chat/completions", "messages": "/messages", "responses": "/responses"}
CALLER = Principal(id="key_1", name="k", grants=Grants.parse(("model:*",)))


@dataclass
class Way:
    """The way to a row, which ends at the fake of every host."""

    hosts: EveryHost
    provider: OpenAICompatible
    gate: RecordingGate
    model: Model

    @asynccontextmanager
    async def call(self, request: ModelRequest) -> AsyncIterator[Any]:
        with self.gate.admit(CALLER, self.model, request_id="req_1") as permit:
            async with self.provider.call(permit, self.model, request) as answer:
                yield answer

    async def failure(self, status: int, error: dict[str, Any] | None = None, **headers: str) -> UpstreamError:
        body = json.dumps({"error": error}).encode() if error is not None else b""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.hosts.answer = Answer(status, body, {"content-type": "application/json", **named})
        with pytest.raises(UpstreamError) as caught:
            async with self.call(ModelRequest(b"{}", stream=False)):
                pass
        return caught.value


@asynccontextmanager
async def way_to(name: str, directory: Path, **members: Any) -> AsyncIterator[Way]:
    row = TABLE[name]
    base = {"base_url": OWN} if row.base_url is None else {}
    model = Model(**{"name": "m", "provider": name, "model": "up", **base, **members})
    settled: list[Any] = []
    gate = RecordingGate(settled.append)
    gate.settled = settled
    async with every_host(directory) as hosts:
        egress = Egress(Deadlines(connect_s=20, first_byte_s=20), proxy=hosts.url, tls=hosts.authority)
        keys = {variable: f"sk-of-{variable}" for variable in KEY_VARIABLES}
        yield Way(hosts, OpenAICompatible(egress, keys=keys), gate, model)
        await egress.aclose()
    gate.check()


def key_of(row: Row) -> dict[str, str]:
    """The header that carries the key of the row's variable."""
    if row.key_variable is None:
        return {}
    key = f"sk-of-{row.key_variable}"
    return {row.key_header: f"Bearer {key}" if row.key_header == "authorization" else key}


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.formats])
async def test_row_reaches_its_own_address_with_its_key_streams_and_fails_as_the_hub_fails(
    name: str, tmp_path: Path
) -> None:
    row = TABLE[name]
    base = row.base_url or OWN
    async with way_to(name, tmp_path) as way:
        for format_ in row.formats:
            way.hosts.answer = Answer(body=STREAM, headers={"content-type": "text/event-stream"})
            async with way.call(ModelRequest(b'{"stream":true}', stream=True, format=format_)) as answer:
                assert b"".join([chunk async for chunk in answer.chunks()]) == STREAM
            asked = way.hosts.asked.pop()
            below = row.messages_base if format_ == "messages" and row.messages_base else base
            assert asked.url == below + PATHS[format_]
            assert asked.body == b'{"stream":true}'
            key = key_of(row)
            assert {header: asked.headers[header] for header in key} == key
            assert ("authorization" in asked.headers) == ("authorization" in key)

        way.hosts.answer = Answer(body=b'{"id":"1"}')
        async with way.call(ModelRequest(b"{}", stream=False)) as answer:
            assert await answer.read() == b'{"id":"1"}'

        key_value = f"sk-of-{row.key_variable}"
        host = base.partition("://")[2].partition("/")[0]
        said = {"message": f"slow down, {key_value} at {host}", "type": "requests", "code": "rate_limit_exceeded"}
        limited = await way.failure(429, said, retry_after="7")
        assert isinstance(limited, UpstreamLimited)
        assert limited.retry_after == "7"
        assert "slow down" in limited.text
        assert host not in limited.text
        assert row.key_variable is None or key_value not in limited.text
        refused = await way.failure(401, {"message": f"no such key {key_value}", "code": "invalid_api_key"})
        assert (type(refused), "no such key" in refused.text) == (UpstreamRefused, False)
        too_long = {"message": "This model's maximum context length is 8 tokens.", "code": "context_length_exceeded"}
        assert type(await way.failure(400, too_long)) is ContextTooLong
        assert type(await way.failure(529, {"message": "Overloaded"})) is UpstreamOverloaded
        rejected = await way.failure(400, {"message": "no tool here", "code": "bad", "param": "tools"})
        assert type(rejected) is UpstreamRejected
        assert (rejected.status, rejected.detail["message"], rejected.detail["param"]) == (400, "no tool here", "tools")


def test_key_of_the_hub_goes_to_no_address_that_a_user_wrote() -> None:
    destinations = Destinations({"GROQ_API_KEY": "sk-of-the-hub"})
    theirs = Model(name="m", provider="groq", model="up", base_url="https://theirs.example/v1", trusted=False)
    assert "sk-of-the-hub" not in str(destinations.of(theirs))
    assert "sk-of-the-hub" in str(destinations.of(replace(theirs, base_url=None)))


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.key_variable is not None and row.base_url])
def test_missing_key_says_which_variable_to_set(name: str) -> None:
    provider = OpenAICompatible(Egress(Deadlines()), keys={})
    with pytest.raises(UpstreamUnavailable, match=f"set {TABLE[name].key_variable} in"):
        provider.secrets(Model(name="m", provider=name, model="up"))


@pytest.mark.parametrize("name", TABLE)
def test_row_says_where_it_was_read_and_only_what_the_hub_knows(name: str) -> None:
    row = TABLE[name]
    assert row.page.startswith("https://")
    assert date(2026, 1, 1) <= date.fromisoformat(row.seen)
    assert set(row.endpoints) <= set(EVERY)
    assert row.formats or row.endpoints
    assert set(row.formats) <= set(PATHS)
    assert row.base_url is None or row.base_url.startswith(("https://", "http://127.0.0.1:"))
    assert row.base_url is None or not row.base_url.endswith("/")
    assert row.key_header == row.key_header.lower()


def test_there_are_at_least_a_hundred_rows_of_chat() -> None:
    assert sum(bool(row.formats) for row in TABLE.values()) >= 100


WORDINGS = {
    "openai": "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
    "anthropic": "prompt is too long: 210000 tokens > 200000 maximum",
    "anthropic, with its output": "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    "gemini": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "groq": "Please reduce the length of the messages or completion.",
    "cerebras": "Please reduce the length. Current length is 9000 while limit is 8192",
    "xai": "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
    "mistral": "Prompt contains 40000 tokens and is too large for model with 32768 maximum context length",
    "moonshot": "Invalid request: Your request exceeded model token limit: 8192",
    "minimax": "invalid params, context window exceeds limit",
    "zai": "Prompt exceeds max length",
    "dashscope": "Range of input length should be [1, 30720]",
    "llama.cpp": "the request exceeds the available context size, try increasing it",
    "tgi": "`inputs` tokens + `max_new_tokens` must be <= 4096",
    "cohere": "too many tokens: total number of tokens in the prompt cannot exceed 4081",
    "bedrock": "Input is too long for requested model.",
}


@pytest.mark.parametrize("wording", WORDINGS.values(), ids=WORDINGS)
async def test_overrun_of_the_context_window_is_known_by_its_wording(wording: str, tmp_path: Path) -> None:
    async with way_to("openai_compatible", tmp_path) as way:
        found = await way.failure(400, {"message": wording, "type": "x"})
        assert isinstance(found, ContextTooLong)
        assert (found.status, found.detail["code"], found.detail["message"]) == (
            400,
            "context_length_exceeded",
            wording,
        )


@pytest.mark.parametrize(
    "error",
    [
        {"message": "'max_tokens' is too large: 9000. This model supports at most 4096 completion tokens."},
        {"message": "Invalid 'user': string too long. Expected a string with maximum length 64."},
        {"message": "Unknown parameter: 'context'."},
        {"message": "The image is too large."},
    ],
)
async def test_other_faults_are_no_overrun(error: dict[str, Any], tmp_path: Path) -> None:
    async with way_to("openai_compatible", tmp_path) as way:
        assert type(await way.failure(400, error)) is UpstreamRejected


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "The response was filtered", "code": "content_filter"}),
        (400, {"message": "Your request was rejected as a result of our safety system.", "code": None}),
        (403, {"message": "Your input was flagged by our moderation", "code": 403}),
        (400, {"message": "Input data may contain inappropriate content.", "code": "data_inspection_failed"}),
    ],
)
async def test_content_that_a_provider_objects_to_is_told_as_such(
    status: int, error: dict[str, Any], tmp_path: Path
) -> None:
    async with way_to("openai_compatible", tmp_path) as way:
        found = await way.failure(status, error)
        assert isinstance(found, ContentFiltered)
        assert (found.status, found.detail["code"], found.detail["message"]) == (
            400,
            "content_filter",
            error["message"],
        )


async def test_limits_say_how_long_to_wait_and_an_unpaid_account_is_nobodys_to_wait_for(tmp_path: Path) -> None:
    async with way_to("openai_compatible", tmp_path) as way:
        exact = await way.failure(429, {"message": "in org-AbCdEfGh12345"}, retry_after_ms="1500")
        assert isinstance(exact, UpstreamLimited)
        assert (exact.retry_after, "org-" in exact.text) == ("2", False)
        assert type(await way.failure(429, {"message": "pay", "code": "insufficient_quota"})) is UpstreamRefused
        busy = await way.failure(503, None, retry_after="3")
        assert isinstance(busy, UpstreamOverloaded)
        assert busy.retry_after == "3"
        assert type(await way.failure(500)) is UpstreamUnavailable


async def test_provider_without_chat_says_what_it_has() -> None:
    with pytest.raises(NotSupported, match="has embeddings, rerank only"):
        formats_of(Model(name="m", provider="voyage", model="up"))
