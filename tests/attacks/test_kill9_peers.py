"""Kill -9 of a hub beside another one on the same database, and of one whose agents end what is left."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.attacks.test_kill9_streams import JSONRPC, Follower, cut_off, rpc
from tests.peers.a2a_agent import Seen, reply, rough_agent, simple_card, start, task, write
from tests.peers.a2a_sdk_agents import Agent, open_agent
from tests.processes import HubProcess, hub_process

STREAMS = 20


@asynccontextmanager
async def client(hub: HubProcess, secret: str) -> Any:
    limits = httpx.Limits(max_connections=4 * STREAMS)
    headers = {"authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=60, limits=limits, trust_env=False) as http:
        yield http


async def killed(hub: HubProcess) -> None:
    """Kill a hub, and spare the test the seconds until others take it for dead."""
    hub.send(signal.SIGKILL)
    await hub.child.wait()
    with closing(sqlite3.connect(hub.directory / "hubbub.db", isolation_level=None, timeout=20)) as database:
        database.execute("UPDATE hub_processes SET seen_at = 0 WHERE id IN (SELECT reader FROM tasks)")


class Subscriber(Follower):
    """A client that subscribes to a task that another one began; its first event is the task if it says nothing else."""

    async def subscribe(self, http: httpx.AsyncClient, task_id: str, after: int | None) -> None:
        headers = {} if after is None else {"last-event-id": str(after)}
        await self.follow(http, rpc("SubscribeToTask", {"id": task_id}), headers)

    def texts(self) -> list[str]:
        held = self.seen[0][1].get("task", {}).get("artifacts", [])
        return [part["text"] for one in held for part in one["parts"]] + super().texts()

    async def saw(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text not in self.texts() if self.seen else True:
                await asyncio.sleep(0)


async def killed_and_replaced(one: HubProcess, other: httpx.AsyncClient, agent: Agent, task_ids: list[str]) -> None:
    """Kill a hub, and wait until another one reads its tasks on."""
    await killed(one)
    while agent.operations.count("SubscribeToTask") < STREAMS:
        await asyncio.sleep(0)
    # the SDK listens before it takes the snapshot: what comes in between it would show in both
    for task_id in task_ids:
        await other.post("/a2a/echo", json=rpc("GetTask", {"id": task_id}))


async def test_two_hubs_on_one_database_show_the_same_events_also_when_one_is_killed(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(open_agent(JSONRPC))
        yaml = f"agents:\n  echo: {{url: {agent.url}}}\n"
        one = await stack.enter_async_context(hub_process(tmp_path, yaml))
        two = await stack.enter_async_context(hub_process(tmp_path, yaml))
        secret = await one.key("app", "agent:*")
        here, there = [await stack.enter_async_context(client(hub, secret)) for hub in (one, two)]
        leaders = [Subscriber() for _ in range(STREAMS)]
        knowing, new = [Subscriber() for _ in leaders], [Subscriber() for _ in leaders]
        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            for leader in leaders:
                tasks.create_task(cut_off(leader.start(here, 6)))
            for leader in leaders:
                await leader.works.wait()
            await agent.release(2)
            for leader in leaders:
                await leader.saw("part 1 ")
            for leader, first, second in zip(leaders, knowing, new, strict=True):
                tasks.create_task(first.subscribe(there, leader.task_id, 1))
                tasks.create_task(second.subscribe(there, leader.task_id, None))
            await agent.release(1)
            for follower in knowing + new:
                await follower.saw("part 2 ")
            await killed_and_replaced(one, there, agent, [leader.task_id for leader in leaders])
            await agent.release(3)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for leader in leaders:
                tasks.create_task(leader.come_back(there))
        for leader, first, second in zip(leaders, knowing, new, strict=True):
            assert leader.texts() == first.texts() == second.texts() == agent.emitted[leader.task_id]
            assert [number for number, _ in leader.seen] == list(range(1, len(leader.seen) + 1))
            assert first.seen == leader.seen[1:]
            behind = second.seen[0][0]
            assert second.seen[1:] == leader.seen[behind:]
            assert leader.seen[-1][1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


class Frail:
    """An agent that ends a task with the connection that it came by: it forgets it, or cancels it."""

    def __init__(self, *, forgets: bool) -> None:
        self.forgets = forgets
        self.tasks: dict[str, str] = {}
        self.ended = asyncio.Condition()

    async def answer(self, one: Seen, send: Any) -> None:
        asked = one.json
        if asked["method"] == "SendStreamingMessage":
            task_id = asked["params"]["message"]["messageId"]
            self.tasks[task_id] = "TASK_STATE_WORKING"
            await start(send)
            working = task(task_id, "TASK_STATE_WORKING", task_id)
            data = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"task": working}})
            await write(send, f"data: {data}\n\n".encode())
            await one.gone.wait()
            async with self.ended:
                self.tasks[task_id] = "" if self.forgets else "TASK_STATE_CANCELED"
                self.ended.notify_all()
            return
        task_id = asked["params"]["id"]
        answer = {"jsonrpc": "2.0", "id": asked["id"]}
        if asked["method"] != "GetTask":
            await reply(send, {**answer, "error": {"code": -32601, "message": "Method not found"}})
        elif state := self.tasks[task_id]:
            await reply(send, {**answer, "result": task(task_id, state, task_id)})
        else:
            await reply(send, {**answer, "error": {"code": -32001, "message": "Task not found"}})

    async def all_ended(self) -> None:
        async with asyncio.timeout(60), self.ended:
            await self.ended.wait_for(lambda: "TASK_STATE_WORKING" not in self.tasks.values())


async def states(http: httpx.AsyncClient) -> list[str]:
    listed = (await http.get("/a2a/echo/tasks", params={"pageSize": STREAMS})).json()["tasks"]
    return [one["status"]["state"] for one in listed]


@pytest.mark.parametrize("forgets", [True, False], ids=["forgets", "cancels"])
async def test_tasks_of_an_agent_that_survives_no_disconnect_end_with_the_reason(tmp_path: Path, forgets: bool) -> None:
    frail = Frail(forgets=forgets)
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(rough_agent(frail.answer, simple_card("1.0")))
        yaml = f"agents:\n  echo: {{url: {agent.url}}}\n"
        hub = await stack.enter_async_context(hub_process(tmp_path, yaml))
        secret = await hub.key("app", "agent:*")
        followers = [Follower() for _ in range(STREAMS)]
        async with client(hub, secret) as http, asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for n, follower in enumerate(followers):
                message = {"messageId": f"t{n}", "role": "ROLE_USER", "parts": [{"text": "go"}]}
                body = rpc("SendStreamingMessage", {"message": message})
                tasks.create_task(cut_off(follower.follow(http, body, {})))
            while not all(follower.seen for follower in followers):
                await asyncio.sleep(0)
            await killed(hub)
        await frail.all_ended()
        hub = await stack.enter_async_context(hub_process(tmp_path, yaml))
        state = "TASK_STATE_FAILED" if forgets else "TASK_STATE_CANCELED"
        async with client(hub, secret) as http:
            async with asyncio.timeout(60):
                while await states(http) != [state] * STREAMS:
                    pass
            async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
                for follower in followers:
                    tasks.create_task(follower.come_back(http))
        for follower in followers:
            number, last = follower.seen[-1]
            assert (number, last["statusUpdate"]["status"]["state"]) == (2, state)
            if forgets:
                [part] = last["statusUpdate"]["status"]["message"]["parts"]
                assert part["text"] == "its agent has lost it: Task not found"
