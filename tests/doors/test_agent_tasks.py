"""Calls of agents that take long, as tasks of MCP (extension `io.modelcontextprotocol/tasks`): official A2A agents behind the hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.speech import SPEECHES, Speech
from mcp_bridge import agent_tools
from tests.doors.test_agent_tools import hub_before
from tests.peers.a2a_sdk_agents import Agent
from tests.peers.mcp_follower import ABLE, OVER, Follower
from tests.peers.mcp_hub import META, McpHub, open_mcp_hub

NAME = "agent__research"


@asynccontextmanager
async def following(directory: Path, **options: Any) -> AsyncIterator[tuple[McpHub, Agent, Follower]]:
    """A hub before an agent, and a client of it."""
    async with (
        hub_before(directory, **options) as (hub, agent),
        hub.http(await hub.key("agent:research")) as http,
    ):
        try:
            yield hub, agent, Follower(http)
        finally:
            agent.go.set()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls become tasks as soon as there is an agent's task."""
    monkeypatch.setattr(agent_tools, "PATIENCE_S", 0.0)


@pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: f"{speech.binding} {speech.version}")
@pytest.mark.parametrize("streaming", [True, False])
async def test_a_long_call_becomes_a_task_with_the_result_of_a_short_one(
    tmp_path: Path, speech: Speech, streaming: bool
) -> None:
    async with following(tmp_path, speech=speech, streaming=streaming) as (_, agent, client):
        made = await client.call(NAME, message="wait")
        assert (made["resultType"], made["status"], made["ttlMs"]) == ("task", "working", None)
        working = await client.get(made["taskId"])
        assert (working["status"], working["taskId"]) == ("working", made["taskId"])
        agent.go.set()
        over = await client.until(made["taskId"], *OVER)
        (task_id,) = agent.emitted
        assert task_id not in made["taskId"]
        assert over["resultType"] == "complete"
        assert over["createdAt"].endswith("Z")
        found = over["result"]["structuredContent"]
        assert (found["state"], found["task_id"], found["artifacts"][0]["name"]) == ("completed", task_id, "Result")
        assert "CancelTask" not in agent.operations


async def test_what_ends_soon_or_is_asked_by_who_follows_no_tasks_is_answered_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(tmp_path) as (hub, _, client):
        assert (await client.call(NAME, message="message"))["structuredContent"]["text"] == "hello"
        monkeypatch.setattr(agent_tools, "PATIENCE_S", 600.0)  # how fast an agent is decides nothing here
        assert (await client.call(NAME, message="complete"))["structuredContent"]["state"] == "completed"
        async with hub.http(await hub.key("agent:research")) as http:
            monkeypatch.setattr(agent_tools, "PATIENCE_S", 0.0)
            plain = await Follower(http, meta=META).call(NAME, message="complete")
            assert plain["structuredContent"]["state"] == "completed"


async def test_an_agent_asks_within_its_task_and_goes_on_with_the_answer(tmp_path: Path) -> None:
    async with following(tmp_path) as (_, agent, client):
        task = (await client.call(NAME, message="later"))["taskId"]
        agent.go.set()
        waiting = await client.until(task, "input_required")
        assert (await client.get(task))["inputRequests"] == waiting["inputRequests"]
        ((key, question),) = waiting["inputRequests"].items()
        assert question["params"]["message"] == "[research] which one?"
        answer = {"action": "accept", "content": {"answer": "the blue one"}}
        assert "code" not in await client.update(task, another=answer)
        assert (await client.get(task))["status"] == "input_required"
        done = await client.update(task, **{key: answer})
        assert done == {"resultType": "complete", "_meta": done["_meta"]}
        over = await client.until(task, *OVER)
        assert over["result"]["structuredContent"]["state"] == "completed"
        said = [one.params["message"]["parts"][0]["text"] for one in agent.calls if "message" in one.params]
        assert said == ["later", "the blue one"]


async def test_who_declines_ends_the_task_and_who_cannot_be_asked_is_told_how_to_go_on(tmp_path: Path) -> None:
    async with following(tmp_path) as (hub, agent, client):
        agent.go.set()
        task = (await client.call(NAME, message="later"))["taskId"]
        ((key, _),) = (await client.until(task, "input_required"))["inputRequests"].items()
        await client.update(task, **{key: {"action": "decline"}})
        assert (await client.until(task, *OVER))["status"] == "cancelled"
        assert "CancelTask" in agent.operations
        mute = {**ABLE, "io.modelcontextprotocol/clientCapabilities": {"extensions": {agent_tools.tasks.TASKS: {}}}}
        async with hub.http(await hub.key("agent:research")) as http:
            other = Follower(http, meta=mute)
            made = await other.call(NAME, message="later")
            over = await other.until(made["taskId"], *OVER) if "taskId" in made else {"result": made}
            assert over["result"]["content"][-1]["text"].startswith("[input-required: call agent__research again")


async def test_a_task_is_cancelled_at_its_agent_and_a_failed_one_has_a_result_that_says_so(tmp_path: Path) -> None:
    async with following(tmp_path) as (_, agent, client):
        task = (await client.call(NAME, message="wait"))["taskId"]
        assert (await client.cancel(task))["resultType"] == "complete"
        assert (await client.until(task, *OVER))["status"] == "cancelled"
        assert "CancelTask" in agent.operations


@pytest.mark.attack("2.2/15")
async def test_an_agents_task_is_its_callers_own_and_outlives_the_hub(tmp_path: Path) -> None:
    async with following(tmp_path) as (hub, agent, client):
        task = (await client.call(NAME, message="wait"))["taskId"]
        async with hub.http(await hub.key("agent:research")) as http:
            seen = len(agent.calls)
            for method in ("tasks/get", "tasks/update", "tasks/cancel"):
                assert await Follower(http).refused(task, method) == await Follower(http).refused("none", method)
            assert len(agent.calls) == seen
        secret = await hub.key("agent:research")
        async with hub.http(secret) as http:
            kept = (await Follower(http).call(NAME, message="wait"))["taskId"]
        yaml = f"agents: {{research: {{url: {agent.card_url}}}}}\n"
        async with open_mcp_hub(tmp_path, yaml) as other, other.http(secret) as http:
            assert (await Follower(http).get(kept))["status"] == "working"
            agent.go.set()
            assert (await Follower(http).until(kept, *OVER))["status"] == "completed"


async def test_who_listens_hears_when_an_agents_task_is_over(tmp_path: Path) -> None:
    async with following(tmp_path) as (_, agent, client):
        task = (await client.call(NAME, message="wait"))["taskId"]
        async with asyncio.timeout(20), client.listening(task) as messages:
            assert (await anext(messages))["params"]["notifications"] == {"taskIds": [task]}
            assert (await anext(messages))["params"]["status"] == "working"
            agent.go.set()
            over = (await anext(messages))["params"]
        assert (over["taskId"], over["status"]) == (task, "completed")
        assert over["result"]["structuredContent"]["artifacts"][0]["name"] == "Result"
