"""Kill -9 of the hub while an agent that is made there works: its task ends with a reason, one that waits goes on."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import httpx

from tests.peers.openai_upstream import Turn, openai_upstream
from tests.processes import hub_process

ASK = Turn(calls=(("ask_user", '{"question": "Which one?"}'),))


def rpc(method: str, text: str | None = None, **params: Any) -> dict[str, Any]:
    if text is not None:
        params = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}], **params}}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def asked(http: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = (await http.post("/a2a/helper", json=body)).json()["result"]
    return result


async def begun(http: httpx.AsyncClient) -> str:
    """The id of a task that was seen at work."""
    async with http.stream("POST", "/a2a/helper", json=rpc("SendStreamingMessage", "count")) as answer:
        task_id = ""
        async for line in answer.aiter_lines():
            event = json.loads(line.removeprefix("data: "))["result"] if line.startswith("data: ") else {}
            task_id = event["task"]["id"] if "task" in event else task_id
            if "artifactUpdate" in event:
                return task_id
    raise AssertionError("it ended")


async def test_a_task_that_was_at_work_has_failed_and_one_that_waits_goes_on(tmp_path: Path) -> None:
    script = ASK, Turn("one two three", hold_last=asyncio.Event()), Turn("blue")
    async with openai_upstream(*script) as upstream:
        yaml = (
            f"models: {{m: {{provider: openai, base_url: {upstream.url}, api_key: sk-up}}}}\n"
            "agents: {helper: {model: m, instructions: Count.}}\n"
        )
        async with hub_process(tmp_path, yaml) as hub, hub.http(await hub.key("rita", "agent:helper")) as http:
            secret = http.headers["authorization"]
            waiting = (await asked(http, rpc("SendMessage", "paint it")))["task"]
            task_id = await begun(http)
            hub.send(signal.SIGKILL)
            await hub.child.wait()
        async with hub_process(tmp_path, yaml) as hub, hub.http() as http:
            http.headers["authorization"] = secret
            going_on = (await asked(http, rpc("SendMessage", "the blue one", taskId=waiting["id"])))["task"]
            assert going_on["status"]["state"] == "TASK_STATE_COMPLETED"
            async with asyncio.timeout(60):
                while (task := await asked(http, rpc("GetTask", id=task_id)))["status"]["state"] != "TASK_STATE_FAILED":
                    await asyncio.sleep(0.2)
            assert "stopped" in task["status"]["message"]["parts"][0]["text"]
            (told,) = (await asked(http, rpc("ListTasks", status="TASK_STATE_FAILED")))["tasks"]
            assert told["id"] == task_id
