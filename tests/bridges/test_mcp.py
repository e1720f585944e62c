"""An MCP server as an agent: the official A2A client before the hub, the official MCP SDK's servers behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from agents.bridges.mcp import PROGRESS
from agents.speech import SPEECHES
from tests.bridges.test_bridges import state_of
from tests.conftest import open_hub
from tests.peers import mcp_asking
from tests.peers.a2a_clients import SdkClient, message, open_client
from tests.peers.mcp_servers import Peer, dual_era, legacy_only
from tests.peers.mcp_tasks import making_tasks


@asynccontextmanager
async def agent(directory: Path, peer: Peer) -> AsyncIterator[SdkClient]:
    """The server as the hub's agent `there`."""
    async with open_hub(directory, f'agents:\n  there: {{bridge: mcp, url: "{peer.url}"}}\n') as hub:
        headers = {"authorization": f"Bearer {await hub.key('agent:there')}"}
        async with open_client(f"{hub.url}/a2a/there/", SPEECHES[0], headers=headers) as client:
            yield client


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return message("", parts=[{"data": {"tool": tool, "arguments": arguments}}])


async def test_its_tools_are_skills_and_a_data_part_calls_one(tmp_path: Path) -> None:
    async with dual_era() as peer, agent(tmp_path, peer) as client:
        assert {skill["id"] for skill in client.card["skills"]} >= {"echo", "wait"}
        task = (await client.ask("SendMessage", call("echo", text="hi")))["task"]
        assert state_of({"task": task}) == "COMPLETED"
        assert peer.calls == [("echo", {"text": "hi"})]
        [artifact] = task["artifacts"]
        assert artifact["parts"] == [{"text": '{"text": "hi"}'}, {"data": {"echoed": {"text": "hi"}}}]


async def test_what_is_no_call_is_refused_with_the_names_of_the_tools(tmp_path: Path) -> None:
    async with dual_era() as peer, agent(tmp_path, peer) as client:
        task = (await client.send("echo hi"))["task"]
        assert state_of({"task": task}) == "FAILED"
        assert "echo, wait, tell" in json.dumps(task["status"]["message"])
        assert peer.calls == []


async def test_a_failed_call_is_a_failure(tmp_path: Path) -> None:
    async with dual_era() as peer, agent(tmp_path, peer) as client:
        task = (await client.ask("SendMessage", call("fail")))["task"]
        assert state_of({"task": task}) == "FAILED"


async def test_progress_is_told_while_the_tool_works(tmp_path: Path) -> None:
    async with dual_era() as peer, agent(tmp_path, peer) as client:
        told = []
        async for event in client.follow("SendStreamingMessage", call("tell")):
            metadata = (event.get("statusUpdate") or {}).get("metadata") or {}
            if PROGRESS in metadata:
                told.append(metadata[PROGRESS]["progress"])
                peer.release.set()
        assert told == [1]


async def test_elicitation_asks_and_its_answer_goes_on_with_the_call(tmp_path: Path) -> None:
    async with dual_era(mcp_asking.asking_server) as peer, agent(tmp_path, peer) as client:
        task = (await client.ask("SendMessage", call("ask")))["task"]
        assert state_of({"task": task}) == "INPUT_REQUIRED"
        assert "Who are you?" in json.dumps(task["status"]["message"]["parts"])
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        done = (await client.send("Ada", message_id="m-2", **ids))["task"]
        assert (state_of({"task": done}), "Ada" in json.dumps(done["artifacts"])) == ("COMPLETED", True)


async def test_a_url_is_asked_for_and_that_it_was_visited_goes_on_with_the_call(tmp_path: Path) -> None:
    async with dual_era(mcp_asking.asking_server) as peer, agent(tmp_path, peer) as client:
        task = (await client.ask("SendMessage", call("visit")))["task"]
        assert state_of({"task": task}) == "INPUT_REQUIRED"
        assert task["status"]["message"]["parts"][0] == {"text": "Sign in https://idp.example/in"}
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        done = (await client.send("done", message_id="m-2", **ids))["task"]
        assert "accept:" in json.dumps(done["artifacts"])


async def test_who_declines_to_visit_a_url_declines(tmp_path: Path) -> None:
    async with dual_era(mcp_asking.asking_server) as peer, agent(tmp_path, peer) as client:
        task = (await client.ask("SendMessage", call("visit")))["task"]
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        done = (await client.send("decline", message_id="m-2", **ids))["task"]
        assert "decline:" in json.dumps(done["artifacts"])


async def test_a_task_of_the_servers_asks_and_ends_as_it_ends_there(tmp_path: Path) -> None:
    async with making_tasks() as (peer, _), agent(tmp_path, peer) as client:
        done = (await client.ask("SendMessage", call("slow_compute", seconds=0, label="pi")))["task"]
        assert (state_of({"task": done}), "computed pi" in json.dumps(done["artifacts"])) == ("COMPLETED", True)
        task = (await client.ask("SendMessage", call("confirm_delete", filename="a.txt")))["task"]
        assert "Delete a.txt?" in json.dumps(task["status"]["message"]["parts"])
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        done = (await client.send("yes", message_id="m-2", **ids))["task"]
        assert "accept a.txt" in json.dumps(done["artifacts"])
        for tool, reason in (("failing_job", "it failed"), ("protocol_error_job", "it crashed")):
            failed = (await client.ask("SendMessage", call(tool)))["task"]
            assert state_of({"task": failed}) == "FAILED"
            assert reason in json.dumps(failed["status"]["message"])


async def test_a_server_that_knows_sessions_only_has_one_for_each_call(tmp_path: Path) -> None:
    async with legacy_only() as peer, agent(tmp_path, peer) as client:
        assert {skill["id"] for skill in client.card["skills"]} >= {"echo", "wait"}
        task = (await client.ask("SendMessage", call("echo", text="hi")))["task"]
        assert task["artifacts"][0]["parts"][1] == {"data": {"echoed": {"text": "hi"}}}
        told = []
        async for event in client.follow("SendStreamingMessage", call("tell")):
            if PROGRESS in ((event.get("statusUpdate") or {}).get("metadata") or {}):
                told.append(event)
                peer.release.set()
        assert len(told) == 1
        opened = [one for one in peer.requests if b'"initialize"' in one.get(":body", b"")]
        assert len(opened) == len([one for one in peer.requests if one[":method"] == "DELETE"]) >= 3


async def test_cancelling_ends_the_call_of_a_server_that_knows_sessions_only(tmp_path: Path) -> None:
    async with legacy_only() as peer, agent(tmp_path, peer) as client, asyncio.timeout(30):
        async with aclosing(client.follow("SendStreamingMessage", call("wait"))) as events:
            task_id = (await anext(events))["task"]["id"]
            await peer.waiting.wait()
            assert state_of({"task": await client.ask("CancelTask", {"id": task_id})}) == "CANCELED"
        await peer.cancelled.wait()
