"""Tasks that nobody reads, in a real hub that is started again on its database."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import httpx

from agents.speech import SPEECHES
from tests.conftest import OpenHub
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.webhook import webhook


def yaml(directory: Path, url: str) -> str:
    own = f"hub: {{database: 'sqlite:///{directory}/hubbub.db', egress_allow: [127.0.0.0/8]}}\n"
    return f"{own}agents:\n  echo: {{url: {url}}}\n"


def said(text: str, **configuration: Any) -> dict[str, Any]:
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}]}
    return {"message": message, "configuration": {"returnImmediately": True, **configuration}}


def sql(directory: Path, statement: str) -> list[Any]:
    """Look into the database of a hub that does not run."""
    with closing(sqlite3.connect(directory / "hubbub.db", isolation_level=None)) as database:
        return database.execute(statement).fetchall()


async def in_state(http: httpx.AsyncClient, state: str) -> list[str]:
    """Wait until a task is in this state; returns the ids of those that are."""
    async with asyncio.timeout(20):
        while True:
            listed = (await http.get("/a2a/echo/tasks")).json()["tasks"]
            if found := [task["id"] for task in listed if task["status"]["state"] == state]:
                return found


async def test_a_task_that_its_agent_lost_ends_as_failed_with_the_reason(tmp_path: Path, hub: OpenHub) -> None:
    """Both were started again: the hub was killed, and the agent keeps its tasks in memory."""
    async with open_agent(SPEECHES[0]) as agent, hub(yaml(tmp_path, agent.url)) as running:
        secret = await running.key("agent:*")
        async with (
            running.http(secret) as http,
            http.stream("POST", "/a2a/echo/message:stream", json=said("slow 3")) as answer,
        ):
            assert await anext(answer.aiter_lines()) == "id: 1"
    [(task_id,)] = sql(tmp_path, "SELECT task_id FROM tasks")
    sql(tmp_path, "UPDATE tasks SET reader = 'a process that was killed'")
    async with (
        open_agent(SPEECHES[0]) as agent,
        hub(yaml(tmp_path, agent.url)) as running,
        running.http(secret) as http,
    ):
        assert await in_state(http, "TASK_STATE_FAILED") == [task_id]
        came = await http.post(f"/a2a/echo/tasks/{task_id}:subscribe", headers={"last-event-id": "1"})
        assert "TASK_STATE_FAILED" in came.text
        assert "its agent has lost it" in came.text


async def test_a_task_that_is_told_of_is_read_on_by_the_next_hub(tmp_path: Path, hub: OpenHub) -> None:
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(open_agent(SPEECHES[0]))
        receiver = await stack.enter_async_context(webhook())
        text = yaml(tmp_path, agent.url)
        async with hub(text) as running, running.http(await running.key("agent:*")) as http:
            config = {"url": receiver.url}
            answer = await http.post("/a2a/echo/message:send", json=said("wait", taskPushNotificationConfig=config))
            assert answer.status_code == 200
            await receiver.wait(1)
        async with hub(text):
            agent.go.set()
            async with asyncio.timeout(20):
                while not any("COMPLETED" in notice.body.decode() for notice in receiver.came):
                    await receiver.wait(len(receiver.came) + 1)
