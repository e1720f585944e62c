"""What an AG-UI endpoint may say beside what all platforms do (agents/bridges/ag_ui.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.bridges.history import MAX_BYTES
from tests.bridges.test_bridges import state_of, text_of
from tests.bridges.there import open_there
from tests.conftest import served
from tests.peers.model_service import read
from tests.peers.platforms.platform import event

SAID: tuple[dict[str, Any], ...] = ({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "said"},)


class AgUi:
    """A fake of an AG-UI endpoint, from the events of AG-UI 1.0 (docs.ag-ui.com, read 2026-11): it says what it is told to."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.asked.append((await read(scope, receive)).body)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        said = [{"type": "RUN_STARTED"}, *self.events, {"type": "RUN_FINISHED"}]
        await send({"type": "http.response.body", "body": b"".join(event(one) for one in said)})


async def test_messages_and_calls_of_an_ag_ui_run_grow_side_by_side(tmp_path: Path) -> None:
    endpoint = AgUi()
    async with (
        served(endpoint) as url,
        open_there(tmp_path, f'{{bridge: ag_ui, url: "{url}"}}') as (_, client),
    ):
        endpoint.events = [
            {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m1", "role": "assistant", "delta": "one "},
            {"type": "TOOL_CALL_CHUNK", "toolCallId": "c1", "toolCallName": "look", "parentMessageId": "m2"},
            {"type": "TOOL_CALL_CHUNK", "delta": '{"at"'},
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": "two"},
            {"type": "TOOL_CALL_ARGS", "toolCallId": "c1", "delta": ": 1}"},
            {"type": "TOOL_CALL_RESULT", "toolCallId": "c1", "messageId": "m3", "content": "nothing"},
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": "!"},
        ]
        task = (await client.send("hello"))["task"]
        assert text_of(task) == "one two!"
        endpoint.events = []
        await client.send("again", message_id="m-2", contextId=task["contextId"])
    _, first, second, third, _ = endpoint.asked[1]["messages"]
    assert first == {"id": "m1", "role": "assistant", "content": "one two!"}
    (call,) = second["toolCalls"]
    assert (second["id"], call["id"], json.loads(call["function"]["arguments"])) == ("m2", "c1", {"at": 1})
    assert third == {"id": "m3", "role": "tool", "toolCallId": "c1", "content": "nothing"}


async def test_a_snapshot_is_what_the_next_run_is_told(tmp_path: Path) -> None:
    endpoint = AgUi()
    messages = [
        {"id": f"m{n}", "role": "user" if n % 2 == 0 else "assistant", "content": "é" * 90_000} for n in range(6)
    ]
    async with served(endpoint) as url, open_there(tmp_path, f'{{bridge: ag_ui, url: "{url}"}}') as (_, client):
        endpoint.events = [*SAID, {"type": "MESSAGES_SNAPSHOT", "messages": messages}]
        task = (await client.send("hello"))["task"]
        assert (state_of({"task": task}), text_of(task)) == ("COMPLETED", "said")
        endpoint.events = []
        await client.send("again", message_id="m-2", contextId=task["contextId"])
    *remembered, asked = endpoint.asked[1]["messages"]
    assert remembered == messages[-len(remembered) :], "what was said first is forgotten first"
    assert len(remembered) == 4
    assert asked["content"] == [{"type": "text", "text": "again"}]


async def test_the_next_run_is_told_the_state_as_the_last_one_changed_it(tmp_path: Path) -> None:
    endpoint = AgUi()
    async with served(endpoint) as url, open_there(tmp_path, f'{{bridge: ag_ui, url: "{url}"}}') as (_, client):
        endpoint.events = [
            {"type": "STATE_SNAPSHOT", "snapshot": {"steps": ["look"], "at": 1}},
            {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/steps/-", "value": "go"}]},
            *SAID,
            {"type": "STATE_DELTA", "delta": [{"op": "replace", "path": "/at", "value": 2}]},
        ]
        task = (await client.send("hello"))["task"]
        (told,) = (artifact["parts"] for artifact in task["artifacts"] if "data" in artifact["parts"][0])
        changed = {"steps": ["look", "go"], "at": 2}
        assert [part["data"] for part in told] == [{"steps": ["look"], "at": 1}, changed]
        endpoint.events = [{"type": "STATE_DELTA", "delta": [{"op": "remove", "path": "/nowhere"}]}]
        task = (await client.send("again", message_id="m-2", contextId=task["contextId"]))["task"]
    assert endpoint.asked[1]["state"] == changed
    assert state_of({"task": task}) == "FAILED"
    assert task["status"]["message"]["parts"][0]["text"].endswith("a path leads nowhere")


async def test_what_no_bridge_can_read_is_a_failure_of_its_agent(tmp_path: Path) -> None:
    endpoint = AgUi()
    async with served(endpoint) as url, open_there(tmp_path, f'{{bridge: ag_ui, url: "{url}"}}') as (_, client):
        endpoint.events = [*SAID, {"type": "RUN_FINISHED", "outcome": {"type": "interrupt", "interrupts": 5}}]
        task = (await client.send("hello"))["task"]
        assert (state_of({"task": task}), text_of(task)) == ("FAILED", "said")
        said = task["status"]["message"]["parts"][0]["text"]
        assert said == "there: its bridge cannot read what its platform says"


TOO_LARGE = {
    "an event of its stream has more than 4 MiB": {
        "type": "MESSAGES_SNAPSHOT",
        "messages": [{"id": "m", "role": "user", "content": "x" * 5 * 1024 * 1024}],
    },
    "1 MiB that can be remembered: it is too large": {"type": "STATE_SNAPSHOT", "snapshot": "x" * MAX_BYTES},
}


@pytest.mark.parametrize("reason", TOO_LARGE)
async def test_what_is_too_large_to_be_held_is_a_failure_that_says_so(tmp_path: Path, reason: str) -> None:
    endpoint = AgUi()
    async with served(endpoint) as url, open_there(tmp_path, f'{{bridge: ag_ui, url: "{url}"}}') as (_, client):
        endpoint.events = [*SAID, TOO_LARGE[reason]]
        task = (await client.send("hello"))["task"]
        assert (state_of({"task": task}), text_of(task)) == ("FAILED", "said")
        assert reason in task["status"]["message"]["parts"][0]["text"]
