"""What classic agents of Bedrock have beside what all platforms have, and that botocore reads what the hub and the fake write."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.bridges.bedrock_agents import CITATIONS
from agents.bridges.bridge import TOOL
from agents.bridges.eventstream import Broken, Reader
from tests.bridges.test_bridges import state_of, text_of
from tests.bridges.there import open_there
from tests.foreign.environments import WANTED
from tests.peers.a2a_clients import SdkClient, message
from tests.peers.platforms import bedrock_agents as fake
from tests.peers.platforms import brain
from tests.peers.platforms.bedrock_agents import checked_by_botocore

QUESTIONS = [{"data": {"call_id": "0", "approve": True}}, {"data": {"call_id": "1", "output": "3"}}]
ANSWERS: dict[str, list[dict[str, Any]]] = {
    "CONFIRM (None), 3": QUESTIONS,
    "DENY (too dear), too dear": [{"text": "too dear"}],
    "DENY (no tea), 3": [{"data": {"call_id": "0", "approve": False, "reason": "no tea"}}, QUESTIONS[1]],
}
EXCEPTIONS = {
    "throttlingException": "rate limit is reached (HTTP 429): the model says no",
    "accessDeniedException": "HTTP 403",
    "validationException": "the model says no",
}


@asynccontextmanager
async def bench(directory: Path) -> AsyncIterator[tuple[fake.Runtime, SdkClient]]:
    async with fake.open_runtime() as runtime, open_there(directory, runtime.platform.entry) as (_, client):
        yield runtime, client


async def test_several_things_are_asked_at_once_and_each_is_answered(tmp_path: Path) -> None:
    async with bench(tmp_path) as (_, client):
        for number, (told, parts) in enumerate(ANSWERS.items()):
            seen = [
                event
                async for event in client.follow("SendStreamingMessage", message("buy", message_id=f"buy-{number}"))
            ]
            last = seen[-1]["statusUpdate"]
            assert state_of(seen[-1]) == "INPUT_REQUIRED"
            first, second = last["status"]["message"]["parts"]
            assert first["data"]["name"] == "/orders"
            assert first["data"]["arguments"] == {"what": "tea"}
            assert (first["data"]["method"], first["data"]["confirm"]) == ("POST", True)
            assert second == {"text": "How many?", "metadata": {"call_id": "1"}}
            assert f'"{TOOL}": {{"name": "look"}}' in json.dumps(seen)
            assert f'"{CITATIONS}": [{{"generatedResponsePart"' in json.dumps(seen)
            ids = {"taskId": last["taskId"], "contextId": last["contextId"], "message_id": f"answer-{number}"}
            done = (await client.send("", parts=parts, **ids))["task"]
            assert text_of(done) == f"tea{told}"


async def test_what_goes_wrong_within_a_stream_is_told(tmp_path: Path) -> None:
    async with bench(tmp_path) as (runtime, client):
        for number, (kind, told) in enumerate(EXCEPTIONS.items()):
            runtime.script = fake.chunk("begun ") + fake.failed(kind, "the model says no")
            task = (await client.send("hello", message_id=f"m-{number}"))["task"]
            assert (state_of({"task": task}), text_of(task)) == ("FAILED", "begun")
            assert told in task["status"]["message"]["parts"][0]["text"]


async def test_an_agent_that_gives_up_says_why(tmp_path: Path) -> None:
    async with bench(tmp_path) as (runtime, client):
        runtime.script = fake.trace(failureTrace={"failureReason": "no model", "traceId": "t-1"})
        task = (await client.send("hello"))["task"]
        assert state_of({"task": task}) == "FAILED"
        assert "no model" in task["status"]["message"]["parts"][0]["text"]


async def test_a_stream_that_is_cut_or_garbled_is_a_failure_and_text_is_cut_anywhere(tmp_path: Path) -> None:
    async with bench(tmp_path) as (runtime, client):
        whole = fake.chunk("hello")
        for number, script in enumerate((whole[:-3], whole[:-1] + b"x", b"HTTP" * 9)):
            runtime.script = script
            task = (await client.send("hello", message_id=f"m-{number}"))["task"]
            assert state_of({"task": task}) == "FAILED"
        pieces = [base64.b64encode(one).decode() for one in (b"gr\xc3", b"\xbcn")]
        unknown = fake.event("ofAnotherYear", {"a": 1})
        runtime.script = unknown + b"".join(fake.event("chunk", {"bytes": one, "later": [1]}) for one in pieces)
        assert text_of((await client.send("hello"))["task"]) == "grün"


def test_no_cut_and_no_flipped_bit_is_taken_for_a_message() -> None:
    whole = fake.chunk("hello there")
    (read,) = Reader().feed(whole)
    assert read.headers[":event-type"] == "chunk"
    assert json.loads(read.payload) == {"bytes": base64.b64encode(b"hello there").decode()}
    for cut in range(1, len(whole)):
        reader = Reader()
        assert reader.feed(whole[:cut]) == []
        assert reader.is_within
        assert reader.feed(whole[cut:]) == [read]
    for at in range(len(whole)):
        broken = whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
        with pytest.raises(Broken):
            Reader().feed(broken)


@pytest.mark.skipif(WANTED not in {"1", "llm"}, reason="enable with: HUBBUB_FOREIGN=1 make test")
@pytest.mark.timeout(300)
async def test_botocore_reads_what_the_hub_and_the_fake_write(tmp_path: Path) -> None:
    async with bench(tmp_path) as (runtime, client):
        task = (await client.send("buy"))["task"]
        await client.send("", parts=QUESTIONS, taskId=task["id"], contextId=task["contextId"], message_id="m-2")
        png = {"raw": brain.PNG, "mediaType": "image/png", "filename": "dot.png"}
        await client.send("", parts=[{"text": "see"}, png], message_id="m-3")
        await client.send("", parts=[{"url": "s3://bucket/dot.png"}, {"data": [1]}], message_id="m-4")
        runtime.script = fake.trace(failureTrace={"failureReason": "no model", "traceId": "t-1"})
        await client.send("fail", message_id="m-5")
        await client.send("fail", message_id="m-6")
    requests = [
        {
            "method": "POST",
            "url": f"http://{one.headers['host']}{one.path}",
            "headers": one.headers,
            "body": base64.b64encode(one.raw).decode(),
            "named": {"agentId": "AGENT12345", "agentAliasId": "ALIAS12345", "sessionId": one.path.split("/")[-2]},
        }
        for one in runtime.received
    ]
    asked = {
        "service": "bedrock-agent-runtime",
        "signing_name": "bedrock",
        "operation": "InvokeAgent",
        "keys": list(fake.KEYS.values()),
        "requests": requests,
        "events": base64.b64encode(b"".join(runtime.written)).decode(),
    }
    found = await checked_by_botocore(asked)
    assert (len(requests), found["faults"]) == (6, [])
    kinds = [next(iter(one)) for one in found["events"]]
    assert set(kinds) == {"trace", "chunk", "returnControl", "files", "Error"}
    assert len(kinds) == len(runtime.written)
