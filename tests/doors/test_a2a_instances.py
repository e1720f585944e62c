"""Several instances of one agent: official SDK agents that come and go, behind a real hub."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.server.context import ServerCallContext

from agents import instances
from agents.instances import FAILURES
from agents.speech import SPEECHES, Speech
from tests.conftest import ADMIN_KEY, Hub, OpenHub, open_hub
from tests.peers.a2a_agent import reply, rough_agent, simple_card
from tests.peers.a2a_sdk_agents import Agent, open_agent

REST, GRPC = Speech("HTTP+JSON", "1.0"), Speech("GRPC", "1.0")
ALL = pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: f"{speech.binding}-{speech.version}")


class Fleet:
    """Instances that can be ended one by one."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._ends: dict[str, AsyncExitStack] = {}
        self.agents: list[Agent] = []

    async def start(self, count: int, speech: Speech = REST, **options: Any) -> None:
        for _ in range(count):
            end = await self._stack.enter_async_context(AsyncExitStack())
            agent = await end.enter_async_context(open_agent(speech, **options))
            self._ends[agent.url] = end
            self.agents.append(agent)

    async def end(self, agent: Agent) -> None:
        await self._ends[agent.url].aclose()

    async def maker(self, task: dict[str, Any]) -> Agent:
        """Who made a task."""
        found = [one for one in self.agents if await one.store.get(task["id"], ServerCallContext())]
        assert len(found) == 1
        return found[0]

    @property
    def yaml(self) -> str:
        return f"agents:\n  echo: {{urls: [{', '.join(one.url for one in self.agents)}]}}\n"


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(stack)


@asynccontextmanager
async def client(running: Hub) -> AsyncIterator[httpx.AsyncClient]:
    async with running.http(await running.key("agent:*")) as http:
        yield http


def said(text: str, **members: Any) -> dict[str, Any]:
    return {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}], **members}}


async def send(http: httpx.AsyncClient, text: str, **members: Any) -> dict[str, Any]:
    answer = await http.post("/a2a/echo/message:send", json=said(text, **members))
    assert answer.status_code == 200, answer.text
    return answer.json()["task"]


def makers(fleet: Fleet) -> list[int]:
    """How many messages came to each instance."""
    wanted = {"SendMessage", "SendStreamingMessage"}
    return [sum(call.operation in wanted for call in agent.calls) for agent in fleet.agents]


@ALL
async def test_a_task_and_its_context_stay_where_they_were_made(hub: OpenHub, fleet: Fleet, speech: Speech) -> None:
    await fleet.start(3, speech)
    async with hub(fleet.yaml) as running, client(running) as http:
        asked = [await send(http, "ask") for _ in range(3)]
        assert makers(fleet) == [1, 1, 1]  # each the least busy in its turn
        for task in asked:
            done = await send(http, "yes", taskId=task["id"], contextId=task["contextId"])
            assert done["status"]["state"] == "TASK_STATE_COMPLETED"
            got = await http.get(f"/a2a/echo/tasks/{task['id']}")
            assert got.json()["status"]["state"] == "TASK_STATE_COMPLETED"
            again = await send(http, "complete 1", contextId=task["contextId"])
            assert again["contextId"] == task["contextId"]
            await send(http, "complete 1", referenceTaskIds=[task["id"]])
        assert makers(fleet) == [4, 4, 4]
        listed = (await http.get("/a2a/echo/tasks")).json()
        assert listed["totalSize"] == 9
        assert {task["status"]["state"] for task in listed["tasks"]} == {"TASK_STATE_COMPLETED"}


@pytest.mark.parametrize("speech", [SPEECHES[0], REST, GRPC], ids=str)
async def test_a_restarted_hub_and_another_process_know_where_tasks_and_contexts_are(
    tmp_path: Path, fleet: Fleet, speech: Speech
) -> None:
    await fleet.start(2, speech)
    async with open_hub(tmp_path, fleet.yaml) as running:
        secret = await running.key("agent:*")
        async with running.http(secret) as http:
            tasks = [await send(http, "ask", contextId=f"mine-{number}") for number in range(4)]
            async with open_hub(tmp_path, fleet.yaml) as other, other.http(secret) as there:
                for task in tasks[:2]:
                    await send(there, "yes", taskId=task["id"], contextId=task["contextId"])
    async with open_hub(tmp_path, fleet.yaml) as running, running.http(secret) as http:
        before = makers(fleet)
        for task in tasks[2:]:
            done = await send(http, "yes", taskId=task["id"], contextId=task["contextId"])
            assert done["id"] == task["id"]
        for _ in range(3):
            await send(http, "complete 1", contextId="mine-0")
        after = makers(fleet)
    assert sum(before) == 6
    assert sorted(now - then for then, now in zip(before, after, strict=True)) == [1, 4]


async def test_a_call_that_was_not_sent_goes_to_another_instance(hub: OpenHub, fleet: Fleet) -> None:
    await fleet.start(3)
    async with hub(fleet.yaml) as running, client(running) as http:
        for _ in range(3):
            await send(http, "complete 1")
        await fleet.end(fleet.agents[0])
        for number in range(6):
            await send(http, "complete 1", contextId=f"new-{number}")
        async with http.stream("POST", "/a2a/echo/message:stream", json=said("complete 1")) as answer:
            assert "TASK_STATE_COMPLETED" in (await answer.aread()).decode()
    assert makers(fleet)[0] == 1
    assert sum(makers(fleet)) == 10


async def test_a_call_that_was_sent_is_never_made_again_elsewhere(hub: OpenHub, fleet: Fleet) -> None:
    async def answer(_seen: Any, send: Any) -> None:
        await reply(send, b"", status=503)

    async with rough_agent(answer, simple_card()) as rough:
        await fleet.start(1)
        text = f"agents:\n  echo: {{urls: [{rough.url}, {fleet.agents[0].url}]}}\n"
        async with hub(text) as running, client(running) as http:
            refused = await http.post("/a2a/echo/message:send", json=said("x", contextId="mine"))
            assert refused.status_code == 502
            assert fleet.agents[0].operations == []
            # it may have begun with the context
            assert (await http.post("/a2a/echo/message:send", json=said("x", contextId="mine"))).status_code == 502
            await send(http, "complete 1")
            assert (len(rough.calls), makers(fleet)) == (2, [1])


async def test_what_an_ended_instance_has_is_said_to_be_there_and_goes_nowhere_else(hub: OpenHub, fleet: Fleet) -> None:
    await fleet.start(2)
    async with hub(fleet.yaml) as running, client(running) as http:
        first, _ = [await send(http, "ask") for _ in range(2)]
        ended = await fleet.maker(first)
        await fleet.end(ended)
        for _ in range(FAILURES):
            refused = await http.get(f"/a2a/echo/tasks/{first['id']}")
            assert refused.status_code == 502
        number = fleet.agents.index(ended) + 1
        refused = await http.get(f"/a2a/echo/tasks/{first['id']}")
        assert f"its instance {number}, which has this, cannot be reached" in refused.text
        assert ended.url not in refused.text
        for body in (said("x", contextId=first["contextId"]), said("x", referenceTaskIds=[first["id"]])):
            assert (await http.post("/a2a/echo/message:send", json=body)).status_code == 502
        assert sum(makers(fleet)) == 2
        listed = (await http.get("/a2a/echo/tasks")).json()["tasks"]
        assert {task["status"]["state"] for task in listed} == {"TASK_STATE_INPUT_REQUIRED"}


async def test_a_task_whose_instance_is_no_longer_among_the_urls_goes_nowhere_else(
    tmp_path: Path, fleet: Fleet
) -> None:
    await fleet.start(3)
    async with open_hub(tmp_path, fleet.yaml) as running:
        secret = await running.key("agent:*")
        async with running.http(secret) as http:
            task = await send(http, "ask")
    fleet.agents.remove(await fleet.maker(task))
    async with open_hub(tmp_path, fleet.yaml) as running, running.http(secret) as http:
        refused = await http.get(f"/a2a/echo/tasks/{task['id']}")
        assert (refused.status_code, "the instance that has this is gone" in refused.text) == (502, True)
        assert [one.operations for one in fleet.agents] == [[], []]


async def test_what_was_made_when_the_agent_had_one_url_is_with_the_first(tmp_path: Path, fleet: Fleet) -> None:
    await fleet.start(2)
    async with open_hub(tmp_path, f"agents:\n  echo: {{url: {fleet.agents[0].url}}}\n") as running:
        secret = await running.key("agent:*")
        async with running.http(secret) as http:
            tasks = [await send(http, "ask", contextId=f"mine-{number}") for number in range(2)]
    async with open_hub(tmp_path, fleet.yaml) as running, running.http(secret) as http:
        for task in tasks:
            assert (await http.get(f"/a2a/echo/tasks/{task['id']}")).status_code == 200
            await send(http, "complete 1", contextId=task["contextId"])
    assert makers(fleet) == [4, 0]


async def test_an_agent_that_has_one_url_again_is_asked_for_everything(tmp_path: Path, fleet: Fleet) -> None:
    await fleet.start(2)
    async with open_hub(tmp_path, fleet.yaml) as running:
        secret = await running.key("agent:*")
        async with running.http(secret) as http:
            task = await send(http, "ask")
    maker = await fleet.maker(task)
    yaml = f"agents:\n  echo: {{url: {maker.url}}}\n"
    async with open_hub(tmp_path, yaml) as running, running.http(secret) as http:
        done = await send(http, "yes", taskId=task["id"], contextId=task["contextId"])
        assert done["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_every_operation_on_a_task_goes_to_the_instance_that_made_it(hub: OpenHub, fleet: Fleet) -> None:
    await fleet.start(2, SPEECHES[0], push=True)
    async with hub(fleet.yaml) as running, client(running) as http, asyncio.timeout(30):
        for _ in range(2):
            async with http.stream("POST", "/a2a/echo/message:stream", json=said("slow 2")) as answer:
                lines = answer.aiter_lines()
                while not (line := await anext(lines)).startswith("data:"):
                    pass
                task = json.loads(line.removeprefix("data:"))["task"]
            maker = await fleet.maker(task)
            path = f"/a2a/echo/tasks/{task['id']}"
            async with http.stream("POST", f"{path}:subscribe") as answer:
                assert task["id"] in await anext(answer.aiter_text())
            config = {"url": "https://203.0.114.1/hook"}
            assert (await http.post(f"{path}/pushNotificationConfigs", json=config)).status_code == 200
            assert (await http.post(f"{path}:cancel", json={})).json()["status"]["state"] == "TASK_STATE_CANCELED"
            wanted = {"SubscribeToTask", "CreateTaskPushNotificationConfig", "CancelTask"}
            assert wanted <= set(maker.operations)
            assert all(task["id"] not in one.heard for one in fleet.agents if one is not maker)


async def test_the_next_hub_reads_a_task_on_at_its_instance(tmp_path: Path, fleet: Fleet) -> None:
    await fleet.start(2)
    async with open_hub(tmp_path, fleet.yaml) as running, client(running) as http:
        await send(http, "complete 1")
        async with http.stream("POST", "/a2a/echo/message:stream", json=said("slow 1")) as answer:
            await anext(answer.aiter_lines())
    with closing(sqlite3.connect(tmp_path / "hubbub.db", isolation_level=None)) as database:
        database.execute("UPDATE tasks SET reader = 'a process that was killed'")
    readers = [one for one in fleet.agents if "SendStreamingMessage" in one.operations]
    async with open_hub(tmp_path, fleet.yaml), asyncio.timeout(30):
        while "SubscribeToTask" not in readers[0].operations:
            await asyncio.sleep(0)
        await readers[0].release()
    assert len(readers) == 1
    assert not any("SubscribeToTask" in one.operations for one in fleet.agents if one not in readers)


async def test_a_breaker_opens_after_failures_and_that_is_shown(hub: OpenHub, fleet: Fleet) -> None:
    await fleet.start(2)
    async with (
        hub(fleet.yaml) as running,
        client(running) as http,
        running.http(ADMIN_KEY) as admin,
    ):
        for _ in range(2):
            await send(http, "complete 1")
        await fleet.end(fleet.agents[1])
        for _ in range(2 * FAILURES):
            await send(http, "complete 1")
        shown = (await admin.get("/api/agents/echo")).json()["instances"]
        assert [(one["instance"], one["url"], one["state"]) for one in shown] == [
            (1, fleet.agents[0].url, "closed"),
            (2, fleet.agents[1].url, "open"),
        ]
        ready = (await admin.get("/readyz")).json()["agents"]["echo"]
        assert [one["state"] for one in ready] == ["closed", "open"]
        assert (await http.get("/readyz")).json() == {"status": "ok"}
        await fleet.end(fleet.agents[0])
        for _ in range(FAILURES):
            assert (await http.post("/a2a/echo/message:send", json=said("x"))).status_code == 502
        none = await http.post("/a2a/echo/message:send", json=said("x"))
        assert "none of its instances can be reached" in none.text


async def test_after_a_pause_one_call_tries_and_closes_the_breaker(
    hub: OpenHub, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "PAUSE_S", 0.0)
    await fleet.start(2)
    async with hub(fleet.yaml) as running, client(running) as http, running.http(ADMIN_KEY) as admin:
        for _ in range(2):
            await send(http, "complete 1")
        ended = fleet.agents[1]
        await fleet.end(ended)
        for number in range(2 * FAILURES):
            await send(http, "complete 1", contextId=f"c-{number}")
        assert await states(admin) == ["closed", "half-open"]
        async with open_agent(REST, port=int(ended.url.rpartition(":")[2])) as again:
            for _ in range(2):
                await send(http, "complete 1")
            assert again.operations == ["SendMessage"]
            assert await states(admin) == ["closed", "closed"]


async def states(admin: httpx.AsyncClient) -> list[str]:
    return [one["state"] for one in (await admin.get("/api/agents/echo")).json()["instances"]]


async def test_the_least_busy_instance_is_called(hub: OpenHub, fleet: Fleet) -> None:
    await fleet.start(2)
    async with hub(fleet.yaml) as running, client(running) as http, asyncio.timeout(30):
        waiting = asyncio.create_task(http.post("/a2a/echo/message:send", json=said("wait"), timeout=30))
        while not sum(makers(fleet)):
            await asyncio.sleep(0)
        for _ in range(3):
            await send(http, "complete 1")
        assert sorted(makers(fleet)) == [1, 3]
        for agent in fleet.agents:
            agent.go.set()
        assert (await waiting).status_code == 200


async def test_the_card_comes_from_an_instance_that_answers(hub: OpenHub, fleet: Fleet) -> None:
    await fleet.start(2)
    await fleet.end(fleet.agents[0])
    async with hub(fleet.yaml) as running, client(running) as http:
        card = await http.get("/a2a/echo/.well-known/agent-card.json")
        assert card.status_code == 200
        assert "127.0.0.1" not in card.text.replace(running.url, "")
