"""What events of agent engines say beside what all platforms say (agents/bridges/adk_events.py)."""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

from agents.bridges.bridge import TOOL
from tests.bridges.test_bridges import state_of, text_of
from tests.bridges.there import open_there
from tests.peers.a2a_clients import message
from tests.peers.platforms.vertex_engine import open_engine


def said(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"content": {"role": "model", "parts": list(parts)}, **more}


def called(name: str, call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"function_call": {"id": call_id, "name": name, "args": arguments}}


async def test_partials_tools_questions_and_errors_of_events(tmp_path: Path) -> None:
    async with (
        open_engine() as engine,
        open_there(tmp_path, engine.platform.entry) as (_, client),
    ):
        two = called("ask_user", "f1", question="Which?"), called("buy", "f2", what="tea", n=2)
        engine.script = [
            said({"text": "I think", "thought": True}, partial=True),
            said({"text": "one "}, partial=True),
            said({"text": "two"}, partial=True),
            said({"text": "I think", "thought": True}, {"text": "one two"}),
            said(called("look", "f0", where="here")),
            said({"function_response": {"id": "f0", "name": "look", "response": {"result": "nothing"}}}),
            said({"text": " three"}),
            said(*two, long_running_tool_ids=["f1", "f2"], later={"a": [1]}),
        ]
        async with aclosing(client.follow("SendStreamingMessage", message("hello"))) as events:
            seen = [event async for event in events]
        last = seen[-1]["statusUpdate"]
        first, second = last["status"]["message"]["parts"]
        assert state_of(seen[-1]) == "INPUT_REQUIRED"
        assert f'"{TOOL}": {{"name": "look"}}' in json.dumps(seen)
        assert first == {"text": "Which?", "metadata": {"call_id": "f1"}}
        assert second["data"] == {"call_id": "f2", "name": "buy", "arguments": {"what": "tea", "n": 2}}
        ids = {"taskId": last["taskId"], "contextId": last["contextId"]}
        answers = [{"data": {"call_id": "f2", "output": {"bought": True}}}, {"text": "that one"}]
        engine.script = [said({"text": " four"})]
        done = (await client.send("", parts=answers, message_id="m-2", **ids))["task"]
        assert text_of(done) == "one two three four"
        assert [part["function_response"] for part in engine.asked[-1]["message"]["parts"]] == [
            {"id": "f1", "name": "ask_user", "response": {"result": "that one"}},
            {"id": "f2", "name": "buy", "response": {"bought": True}},
        ]
        engine.script = [
            said({"text": "begun"}, partial=True),
            {"error_code": "MAX_TOKENS", "error_message": "too long"},
        ]
        failed = (await client.send("hello", message_id="m-3"))["task"]
        assert (state_of({"task": failed}), text_of(failed)) == ("FAILED", "begun")
        assert "too long" in failed["status"]["message"]["parts"][0]["text"]
        engine.script = [{"code": 498, "message": "the engine fell over"}]
        failed = (await client.send("hello", message_id="m-4"))["task"]
        assert "the engine fell over" in failed["status"]["message"]["parts"][0]["text"]
