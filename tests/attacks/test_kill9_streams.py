"""Kill -9 of the hub in the middle of many streams: what clients saw, and what they come back for."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx

from agents.speech import Speech
from tests.peers.a2a_sdk_agents import Agent, open_agent
from tests.processes import HubProcess, hub_process

STREAMS = 50
JSONRPC = Speech("JSONRPC", "1.0")


async def events(answer: httpx.Response) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    """The numbered events of a stream."""
    number = 0
    async for line in answer.aiter_lines():
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            said = json.loads(line[6:])
            assert "result" in said, said
            yield number, said["result"]


def rpc(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


class Follower:
    """A client that keeps what it saw of one task."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, Any]]] = []
        self.works = asyncio.Event()
        self.begun = asyncio.Event()

    @property
    def task_id(self) -> str:
        task_id: str = self.seen[0][1]["task"]["id"]
        return task_id

    async def start(self, http: httpx.AsyncClient, artifacts: int) -> None:
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": f"slow {artifacts}"}]}
        await self.follow(http, rpc("SendStreamingMessage", {"message": message}), {})

    async def come_back(self, http: httpx.AsyncClient) -> None:
        await self.follow(http, rpc("SubscribeToTask", {"id": self.task_id}), {"last-event-id": str(self.seen[-1][0])})

    async def follow(self, http: httpx.AsyncClient, body: dict[str, Any], headers: dict[str, str]) -> None:
        async with http.stream("POST", "/a2a/echo", json=body, headers=headers) as answer:
            async for number, event in events(answer):
                self.seen.append((number, event))
                if "statusUpdate" in event:
                    self.works.set()
                if "artifactUpdate" in event:
                    self.begun.set()

    def texts(self) -> list[str]:
        """All text of the artifact as the client pieced it together."""
        found: list[str] = []
        for _, event in self.seen:
            if "artifactUpdate" in event:
                update = event["artifactUpdate"]
                if not update.get("append"):
                    found.clear()
                found += [part["text"] for part in update["artifact"]["parts"]]
        return found


async def run(http: httpx.AsyncClient, followers: list[Follower], hub: HubProcess, agent: Agent) -> None:
    """Start the streams, let each show something, and kill the hub."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for follower in followers:
            tasks.create_task(cut_off(follower.start(http, 4)))
        for follower in followers:
            await follower.works.wait()
        await agent.release(2)
        for follower in followers:
            await follower.begun.wait()
        hub.send(signal.SIGKILL)


async def cut_off(following: Any) -> None:
    try:
        await following
    except httpx.HTTPError:
        return


async def test_no_event_that_a_client_saw_is_lost_doubled_or_reordered(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(open_agent(JSONRPC))
        yaml = f"agents:\n  echo: {{url: {agent.url}}}\n"
        followers = [Follower() for _ in range(STREAMS)]
        limits = httpx.Limits(max_connections=2 * STREAMS)
        async with hub_process(tmp_path, yaml) as hub:
            secret = await hub.key("app", "agent:*")
            headers = {"authorization": f"Bearer {secret}"}
            async with httpx.AsyncClient(
                base_url=hub.url, headers=headers, timeout=60, limits=limits, trust_env=False
            ) as http:
                await run(http, followers, hub, agent)
            await hub.child.wait()
        await agent.release(1)  # what the agent does meanwhile
        async with (
            hub_process(tmp_path, yaml) as hub,
            httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=60, limits=limits, trust_env=False) as http,
        ):
            async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
                for follower in followers:
                    tasks.create_task(follower.come_back(http))
                await agent.release(1)
            for follower in followers:
                got = await http.post("/a2a/echo", json=rpc("GetTask", {"id": follower.task_id}))
                assert got.json()["result"]["status"]["state"] == "TASK_STATE_COMPLETED"
        for follower in followers:
            numbers = [number for number, _ in follower.seen]
            assert numbers == list(range(1, len(numbers) + 1))
            assert follower.texts() == agent.emitted[follower.task_id]
            assert follower.seen[-1][1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
