"""What the Responses API has beside what all platforms have (agents/bridges/responses.py)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.bridges.responses import INCOMPLETE
from tests.bridges.test_bridges import state_of, text_of
from tests.bridges.there import open_there
from tests.peers.a2a_clients import SdkClient, message
from tests.peers.platforms.responses_api import Endpoint, open_endpoint


@asynccontextmanager
async def bench(
    directory: Path, *, with_tokens: bool, background: bool = True
) -> AsyncIterator[tuple[Endpoint, SdkClient]]:
    async with (
        open_endpoint(with_tokens=with_tokens, background=background) as endpoint,
        open_there(directory, endpoint.platform.entry) as (_, client),
    ):
        yield endpoint, client


@pytest.mark.parametrize("with_tokens", [True, False], ids=["azure", "openai"])
async def test_an_approval_is_asked_for_and_only_a_yes_is_one(tmp_path: Path, with_tokens: bool) -> None:
    answers: dict[str, list[dict[str, Any]]] = {
        "True: None": [{"data": {"approve": True}}],
        "True: yes": [{"text": "yes"}],
        "False: yes, but": [{"text": "yes, but"}],
        "False: too dear": [{"data": {"approval_request_id": "mcpr_1", "approve": False, "reason": "too dear"}}],
    }
    async with bench(tmp_path, with_tokens=with_tokens) as (endpoint, client):
        for number, (told, parts) in enumerate(answers.items()):
            task = (await client.send("buy", message_id=f"buy-{number}"))["task"]
            assert state_of({"task": task}) == "INPUT_REQUIRED"
            (asked,) = task["status"]["message"]["parts"]
            assert asked["data"]["arguments"] == {"what": "tea"}
            assert asked["data"]["server_label"] == "shop"
            ids = {"taskId": task["id"], "contextId": task["contextId"], "message_id": f"answer-{number}"}
            done = (await client.send("", parts=parts, **ids))["task"]
            assert text_of(done) == f"You said {told}"
            if not with_tokens:
                assert endpoint.asked[-1]["previous_response_id"] == f"resp_{len(endpoint.responses) - 1}"


async def test_a_stream_that_breaks_is_read_on_and_nothing_is_said_twice(tmp_path: Path) -> None:
    async with bench(tmp_path, with_tokens=True) as (endpoint, client):
        endpoint.cut_after = 2
        task = (await client.send("hello there"))["task"]
        assert (state_of({"task": task}), text_of(task)) == ("COMPLETED", "hello there")
        assert len(endpoint.asked) == 1


async def test_an_answer_that_ended_early_says_so(tmp_path: Path) -> None:
    async with bench(tmp_path, with_tokens=True) as (_, client):
        async with aclosing(client.follow("SendStreamingMessage", message("cut"))) as events:
            seen = [event async for event in events]
        assert state_of(seen[-1]) == "COMPLETED"
        assert f'"{INCOMPLETE}": "max_output_tokens"' in json.dumps(seen)


async def test_a_response_that_is_not_in_the_background_ends_with_its_stream(tmp_path: Path) -> None:
    async with bench(tmp_path, with_tokens=True, background=False) as (endpoint, client):
        assert text_of((await client.send("hello there"))["task"]) == "hello there"
        asked = (await client.send("ask", message_id="m-2"))["task"]
        ids = {"taskId": asked["id"], "contextId": asked["contextId"], "message_id": "m-3"}
        assert text_of((await client.send("blue", **ids))["task"]) == "You said blue"
        endpoint.cut_after = 2
        task = (await client.send("hello there", message_id="m-4"))["task"]
        assert state_of({"task": task}) == "FAILED"
        assert len(endpoint.asked) == 4
