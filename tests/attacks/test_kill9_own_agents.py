"""Kill -9 of the hub while an agent that is made there works: its task ends with a reason, one that waits goes on.

What waits is its caller's answer, or the approval of a tool's call: then nobody has to come back for it.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers.mcp_servers import Peer, dual_era
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream
from tests.processes import HubProcess, hub_process, known_dead

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


async def until(http: httpx.AsyncClient, task_id: str, state: str) -> dict[str, Any]:
    """The task, once it is in this state."""
    async with asyncio.timeout(60):
        while (task := await asked(http, rpc("GetTask", id=task_id)))["status"]["state"] != state:
            await asyncio.sleep(0.1)
    return task


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
        known_dead(tmp_path)
        async with hub_process(tmp_path, yaml) as hub, hub.http() as http:
            http.headers["authorization"] = secret
            going_on = (await asked(http, rpc("SendMessage", "the blue one", taskId=waiting["id"])))["task"]
            assert going_on["status"]["state"] == "TASK_STATE_COMPLETED"
            task = await until(http, task_id, "TASK_STATE_FAILED")
            assert "stopped" in task["status"]["message"]["parts"][0]["text"]
            (told,) = (await asked(http, rpc("ListTasks", status="TASK_STATE_FAILED")))["tasks"]
            assert told["id"] == task_id


@dataclass
class Bank:
    """A tool whose every call needs approval, an agent with that tool, and those whom it takes."""

    yaml: str
    server: Peer
    model: OpenAIUpstream
    directory: Path
    caller: str = ""
    boss: str = ""

    @asynccontextmanager
    async def hub(self) -> AsyncIterator[tuple[HubProcess, httpx.AsyncClient, httpx.AsyncClient]]:
        """A hub over the same database, and clients of it: the caller and who approves."""
        async with hub_process(self.directory, self.yaml) as hub:
            self.caller = self.caller or await hub.key("rita", "agent:helper", "tool:*")
            self.boss = self.boss or await hub.key("boss", "admin:approvals")
            async with hub.http() as admin, asyncio.timeout(30):
                while not (await admin.get("/api/mcp-servers/bank")).json()["tools"]:
                    await asyncio.sleep(0.05)
            async with hub.http(self.caller) as http, hub.http(self.boss) as inbox:
                yield hub, http, inbox


@asynccontextmanager
async def bank(directory: Path, tool: str) -> AsyncIterator[Bank]:
    """A bank of one tool, which the agent's model calls before it says `Paid.`"""
    call = Turn(calls=((f"bank__{tool}", '{"text": "5"}'),))
    async with dual_era(tools=(tool,)) as server, openai_upstream(call, Turn("Paid.")) as model:
        yaml = f"""
models: {{m: {{provider: openai, base_url: '{model.url}', api_key: sk-up}}}}
mcpServers: {{bank: {{url: '{server.url}', require_approval: always}}}}
agents: {{helper: {{model: m, instructions: Pay., tools: ['bank__*']}}}}
"""
        yield Bank(yaml, server, model, directory)


async def decided(inbox: httpx.AsyncClient, decision: str) -> None:
    """Answer the one approval that waits."""
    (found,) = (await inbox.get("/api/approvals")).json()["items"]
    answer = await inbox.post(f"/api/approvals/{found['id']}", json={"decision": decision})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("decision", "made"), [("approve", [("pay", {"text": "5"})]), ("deny", [])])
async def test_a_task_that_waits_for_approval_goes_on_after_a_restart_when_it_was_decided(
    tmp_path: Path, decision: str, made: list[Any]
) -> None:
    async with bank(tmp_path, "pay") as b:
        async with b.hub() as (hub, http, _):
            task = (await asked(http, rpc("SendMessage", "pay")))["task"]
            assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
            hub.send(signal.SIGKILL)
            await hub.child.wait()
        known_dead(tmp_path)
        async with b.hub() as (_, http, inbox):
            assert await asked(http, rpc("GetTask", id=task["id"])) == task
            await decided(inbox, decision)
            done = await until(http, task["id"], "TASK_STATE_COMPLETED")
            assert done["artifacts"][0]["parts"][0]["text"].strip() == "Paid."
        assert b.server.calls == made
        assert len(b.model.received) == 2


async def test_a_task_that_was_cut_off_after_its_approval_has_failed_and_calls_nothing_twice(tmp_path: Path) -> None:
    async with bank(tmp_path, "wait") as b:
        async with b.hub() as (hub, http, inbox), asyncio.timeout(30):
            task = (await asked(http, rpc("SendMessage", "pay")))["task"]
            await decided(inbox, "approve")
            await b.server.waiting.wait()
            hub.send(signal.SIGKILL)
            await hub.child.wait()
        known_dead(tmp_path)
        async with b.hub() as (_, http, inbox):
            failed = await until(http, task["id"], "TASK_STATE_FAILED")
            assert "stopped" in failed["status"]["message"]["parts"][0]["text"]
            assert (await inbox.get("/api/approvals")).json()["items"] == []
        assert len(b.server.calls) == 1
