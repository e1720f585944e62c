"""Events of things that go on side by side, which come between one another: what is said of each is said once, and of nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agents.speech import SPEECHES
from tests.bridges.test_bridges import state_of, text_of
from tests.conftest import open_hub, served
from tests.peers.a2a_clients import SdkClient, open_client
from tests.peers.model_service import read
from tests.peers.platforms.platform import event
from tests.peers.platforms.vertex_engine import open_engine


@asynccontextmanager
async def client_of(directory: Path, entry: str) -> AsyncIterator[SdkClient]:
    async with (
        open_hub(directory, f"agents:\n  there: {entry}\n") as hub,
        open_client(
            f"{hub.url}/a2a/there/",
            SPEECHES[0],
            headers={"authorization": f"Bearer {await hub.key('agent:there')}"},
        ) as client,
    ):
        yield client


def by(author: str, text: str, **more: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": text}]}
    return {"author": author, "branch": f"both.{author}", "content": content, **more}


async def test_agents_of_an_engine_that_speak_side_by_side_are_heard_once_each(tmp_path: Path) -> None:
    async with open_engine() as engine, client_of(tmp_path, engine.platform.entry) as client:
        engine.script = [
            by("one", "a", partial=True),
            by("two", "1", partial=True),
            by("one", "b", partial=True),
            {"author": "one", "actions": {"state_delta": {"n": 1}}},
            by("one", "ab"),
            by("two", "2", partial=True),
            by("one", "c"),
            by("two", "12"),
        ]
        task = (await client.send("hello"))["task"]
        assert (state_of({"task": task}), text_of(task)) == ("COMPLETED", "a1b2c")


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
        client_of(tmp_path, f'{{bridge: ag_ui, url: "{url}"}}') as client,
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
