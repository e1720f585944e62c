"""Two teams of two keys each, and a key without a team, at an agent whose setting is `share: team`.

What one key of a team makes, the other uses in every operation; to everybody else it is not there, byte for byte.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc.aio
import pytest

from agents.speech import SPEECHES, Operation, Speech
from registry.identity import KeySpec
from tests.attacks.test_tenants_in_every_speech import (
    CONFIGURED,
    HOOK,
    JSONRPC,
    NO_INLINE_TASK,
    TASK_FIELDS,
    Tenant,
    filled,
    message,
)
from tests.conftest import ADMIN_KEY, Hub, OpenHub, open_hub
from tests.peers.a2a_sdk_agents import Agent, open_agent
from tests.peers.webhook import webhook

OTHERS = ("bella", "boris", "solo")
TEAMS = {"anna": "red", "albert": "red", "bella": "blue", "boris": "blue", "solo": None}
SETTING = "egress_allow: [127.0.0.0/8]"


class Scene(NamedTuple):
    hub: Hub
    agent: Agent
    keys: dict[str, Tenant]

    async def asks(self, who: str, operation: Operation, params: dict[str, Any]) -> dict[str, Any]:
        """The result, over JSON-RPC; `{"error": …}` when there is none. Of a stream the first."""
        answer = await self.keys[who].ask(JSONRPC, operation, params)
        found = json.loads(answer.body.split("data: ", 1)[-1].split("\n\n", 1)[0])
        return found.get("result") or {"error": found["error"]["message"]}

    async def sees(self, who: str, task_id: str) -> bool:
        """Whether a key gets a task."""
        found = await self.asks(who, "GetTask", {"id": task_id})
        assert found.get("id") == task_id or found["error"].startswith("No task"), found
        return "id" in found

    async def lists(self, who: str) -> set[str]:
        return {task["id"] for task in (await self.asks(who, "ListTasks", {}))["tasks"]}

    async def makes(self, who: str, word: str = "ask", **members: Any) -> dict[str, Any]:
        """A new task."""
        said = {**message(**members)["message"], "parts": [{"text": word}]}
        sent = {"message": said, "configuration": {"returnImmediately": True}}
        task: dict[str, Any] = (await self.asks(who, "SendMessage", sent))["task"]
        return task

    async def moves(self, who: str, team: str | None) -> None:
        async with self.hub.http(ADMIN_KEY) as admin:
            moved = await admin.patch(f"/api/keys/{who}", json={"team": team})
            assert (moved.status_code, moved.json()["team"]) == (200, team), moved.text


def yaml(agent: Agent, share: str | None = "team") -> str:
    return f"agents:\n  echo: {{url: '{agent.url}', share: {share or 'null'}}}\n"


@asynccontextmanager
async def keys_of(hub: Hub, secrets: dict[str, str]) -> AsyncIterator[dict[str, Tenant]]:
    async with AsyncExitStack() as stack:
        assert hub.grpc
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(hub.grpc))
        yield {
            name: Tenant(await stack.enter_async_context(hub.http(secret)), channel, secret)
            for name, secret in secrets.items()
        }


async def made_keys(hub: Hub) -> dict[str, str]:
    for alias in ("red", "blue"):
        await hub.services.teams.create(alias)
    return {
        name: (await hub.services.keys.create(KeySpec(name=name, allow=("agent:*",), team=team)))[1]
        for name, team in TEAMS.items()
    }


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    async with open_agent(JSONRPC) as agent:
        yield agent


@pytest.fixture
async def scene(hub: OpenHub, agent: Agent) -> AsyncIterator[Scene]:
    async with (
        hub(yaml(agent), setting=SETTING, grpc=True) as running,
        keys_of(running, await made_keys(running)) as keys,
    ):
        yield Scene(running, agent, keys)


async def test_a_colleague_does_everything_with_a_task(scene: Scene) -> None:
    task = await scene.makes("anna")
    named = {"taskId": task["id"], "contextId": task["contextId"]}
    assert await scene.sees("albert", task["id"])
    assert await scene.lists("albert") == await scene.lists("anna") == {task["id"]}
    subscribe = {"jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask", "params": {"id": task["id"]}}
    async with scene.keys["albert"].http.stream("POST", "/a2a/echo", json=subscribe) as events:
        assert task["id"] in await anext(line async for line in events.aiter_lines() if line.startswith("data:"))
    referring = await scene.makes("albert", "complete 1", referenceTaskIds=[task["id"]])
    done = await scene.asks("albert", "SendMessage", message(**named))
    assert (done["task"]["id"], done["task"]["status"]["state"]) == (task["id"], "TASK_STATE_COMPLETED")
    again = await scene.makes("albert", contextId=task["contextId"])
    streamed = await scene.asks("anna", "SendStreamingMessage", message(taskId=again["id"]))
    assert again["id"] in json.dumps(streamed)
    waiting = await scene.makes("anna", "wait")
    cancelled = await scene.asks("albert", "CancelTask", {"id": waiting["id"]})
    assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"
    everything = {task["id"], referring["id"], again["id"], waiting["id"]}
    assert await scene.lists("anna") == await scene.lists("albert") == everything


@pytest.mark.parametrize("speech", SPEECHES, ids=str)
@pytest.mark.attack("2.1/14")
async def test_a_task_is_not_there_for_another_team_nor_for_a_key_without_one(scene: Scene, speech: Speech) -> None:
    tasks = [(await scene.makes("anna", word))["id"] for word in ("complete 1", "ask")]
    for who in OTHERS:
        own = (await scene.makes(who))["id"]
        for operation, params in TASK_FIELDS:
            if speech in NO_INLINE_TASK and "{id}" in str(params.get("configuration")):
                continue
            for task in tasks:
                answers = [
                    await scene.keys[who].ask(speech, operation, filled(params, one, own), asked=one)
                    for one in (task, str(uuid.uuid4()))
                ]
                assert answers[0] == answers[1], (who, operation)
    assert await scene.lists("anna") == set(tasks)


@pytest.mark.parametrize("speech", [SPEECHES[1], SPEECHES[2]], ids=str)
async def test_sharing_is_the_same_over_the_other_bindings(scene: Scene, speech: Speech) -> None:
    task = await scene.makes("anna")
    ask = scene.keys["albert"].ask
    for operation, params in (("GetTask", {"id": task["id"]}), ("ListTasks", {}), ("CancelTask", {"id": task["id"]})):
        answer = await ask(speech, operation, params)  # type: ignore[arg-type]
        assert task["id"] in answer.text, operation
    for who in OTHERS:
        assert task["id"] not in (await scene.keys[who].ask(speech, "ListTasks", {})).text


@pytest.mark.parametrize("who", OTHERS)
async def test_a_context_is_shared_in_its_team_only(scene: Scene, who: str) -> None:
    context_id = (await scene.makes("anna"))["contextId"]
    refused = await scene.asks(who, "SendMessage", message(contextId=context_id))
    assert refused["error"].startswith("No context")
    assert (await scene.makes("albert", contextId=context_id))["contextId"] == context_id


@pytest.mark.attack("2.1/39")
async def test_a_push_configuration_is_its_makers_only(scene: Scene) -> None:
    task_id = (await scene.makes("anna"))["id"]
    config = {"taskId": task_id, "id": CONFIGURED, "url": HOOK, "token": "annas"}
    named = {"taskId": task_id, "id": CONFIGURED}
    await scene.asks("anna", "CreateTaskPushNotificationConfig", config)
    assert (await scene.asks("albert", "ListTaskPushNotificationConfigs", {"taskId": task_id}))["configs"] == []
    assert "error" in await scene.asks("albert", "GetTaskPushNotificationConfig", named)
    await scene.asks("albert", "CreateTaskPushNotificationConfig", {**config, "url": f"{HOOK}/albert"})
    await scene.keys["albert"].ask(JSONRPC, "DeleteTaskPushNotificationConfig", named)
    assert (await scene.asks("anna", "GetTaskPushNotificationConfig", named))["url"] == HOOK


async def test_news_of_a_colleagues_task_end_when_the_key_leaves_the_team(scene: Scene) -> None:
    async with webhook() as annas, webhook() as alberts:
        task_id = (await scene.makes("anna", "wait"))["id"]
        for who, hook in (("anna", annas), ("albert", alberts)):
            config = {"taskId": task_id, "id": who, "url": hook.url}
            made = await scene.asks(who, "CreateTaskPushNotificationConfig", config)
            assert made["url"] == hook.url
        await scene.moves("albert", "blue")
        scene.agent.go.set()
        count = 1
        while not any(b"COMPLETED" in notice.body for notice in await annas.wait(count)):
            count = len(annas.came) + 1
        waiting = (
            "SELECT count(*) FROM push_outbox o JOIN push_configs c ON c.id = o.config WHERE c.config_id = 'albert'"
        )
        count_waiting = scene.hub.services.database.read(
            lambda session: session.connection().exec_driver_sql(waiting).scalar_one()
        )
        assert await count_waiting == 0
        assert not any(b"COMPLETED" in notice.body for notice in alberts.came)


@pytest.mark.parametrize("how", ["leaves the team", "is revoked", "is narrowed"])
@pytest.mark.attack("2.1/14", defence="agents.watching:Watching._check")
async def test_who_listens_to_a_colleagues_task_hears_no_more_of_it_when_the_key(scene: Scene, how: str) -> None:
    task_id = (await scene.makes("anna", "wait"))["id"]
    body = {"jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask", "params": {"id": task_id}}
    async with scene.keys["albert"].http.stream("POST", "/a2a/echo", json=body) as answer:
        lines = answer.aiter_lines()
        while "WORKING" not in (said := await anext(lines)):
            assert "error" not in said
        if how == "leaves the team":
            await scene.moves("albert", "blue")
        else:
            async with scene.hub.http(ADMIN_KEY) as admin:
                if how == "is revoked":
                    assert (await admin.delete("/api/keys/albert")).status_code == 204
                else:
                    assert (await admin.patch("/api/keys/albert", json={"allow": ["model:*"]})).status_code == 200
        scene.agent.go.set()
        rest = "".join([line async for line in lines])
        assert "COMPLETED" not in rest
        assert "error" in rest


async def test_without_the_setting_nothing_is_shared_and_what_was_private_stays_so(hub: OpenHub, agent: Agent) -> None:
    async with hub() as running:
        secrets = await made_keys(running)
    async with hub(yaml(agent, None), grpc=True) as running, keys_of(running, secrets) as keys:
        scene = Scene(running, agent, keys)
        private = (await scene.makes("anna"))["id"]
        assert not await scene.sees("albert", private)
        assert await scene.lists("albert") == set()
    async with hub(yaml(agent), grpc=True) as running, keys_of(running, secrets) as keys:
        scene = Scene(running, agent, keys)
        assert not await scene.sees("albert", private)
        assert await scene.sees("anna", private)


async def test_sharing_ends_at_once_with_the_setting_and_survives_a_restart(hub: OpenHub, agent: Agent) -> None:
    entry = {"name": "echo", "url": agent.url, "share": "team"}
    async with hub(grpc=True, setting=SETTING) as running, running.http(ADMIN_KEY) as admin:
        assert (await admin.post("/api/agents", json=entry)).json()["share"] == "team"
        secrets = await made_keys(running)
        async with keys_of(running, secrets) as keys:
            task_id = (await Scene(running, agent, keys).makes("anna"))["id"]
    async with (
        hub(grpc=True, setting=SETTING) as running,
        running.http(ADMIN_KEY) as admin,
        keys_of(running, secrets) as keys,
    ):
        scene = Scene(running, agent, keys)
        assert await scene.sees("albert", task_id)
        own = await scene.makes("albert", contextId=(await scene.asks("anna", "GetTask", {"id": task_id}))["contextId"])
        await admin.patch("/api/agents/echo", json={"share": None})
        assert not await scene.sees("albert", task_id)
        assert await scene.lists("albert") == {own["id"]}
        assert await scene.sees("albert", own["id"])
        assert await scene.sees("anna", task_id)
        assert not await scene.sees("anna", own["id"])


async def test_what_a_key_made_stays_with_it_and_with_the_team_it_was_in(scene: Scene) -> None:
    before = await scene.makes("anna")
    await scene.moves("anna", "blue")
    assert [await scene.sees(who, before["id"]) for who in TEAMS] == [True, True, False, False, False]
    in_old_context = await scene.makes("anna", contextId=before["contextId"])
    assert [await scene.sees(who, in_old_context["id"]) for who in TEAMS] == [True, True, False, False, False]
    after = await scene.makes("anna")
    assert [await scene.sees(who, after["id"]) for who in TEAMS] == [True, False, True, True, False]
    await scene.moves("anna", None)
    assert [await scene.sees(who, after["id"]) for who in TEAMS] == [True, False, True, True, False]


async def test_a_renamed_team_is_the_same_and_one_made_anew_under_its_alias_inherits_nothing(scene: Scene) -> None:
    task_id = (await scene.makes("anna"))["id"]
    async with scene.hub.http(ADMIN_KEY) as admin:
        renamed = await admin.patch("/api/teams/red", json={"alias": "crimson"})
        assert renamed.json()["alias"] == "crimson"
        assert await scene.sees("albert", task_id)
        assert (await admin.get("/api/keys/albert")).json()["team"] == "crimson"
        assert (await admin.post("/api/teams", json={"alias": "red"})).status_code == 201
        await scene.moves("bella", "red")
        assert not await scene.sees("bella", task_id)
        await scene.moves("anna", None)
        assert (await admin.delete("/api/teams/crimson")).status_code == 204
        assert (await admin.get("/api/keys/albert")).status_code == 404
        assert (await admin.post("/api/teams", json={"alias": "crimson"})).status_code == 201
        await scene.moves("bella", "crimson")
        await scene.moves("anna", "crimson")
        assert not await scene.sees("bella", task_id)
        assert await scene.sees("anna", task_id)


async def test_a_move_is_obeyed_by_another_process(tmp_path: Path, agent: Agent) -> None:
    async with (
        open_hub(tmp_path, yaml(agent), grpc=True) as first,
        open_hub(tmp_path, yaml(agent), grpc=True) as second,
    ):
        secrets = await made_keys(first)
        async with keys_of(first, secrets) as here, keys_of(second, secrets) as there:
            near, far = Scene(first, agent, here), Scene(second, agent, there)
            task_id = (await near.makes("anna"))["id"]
            assert await far.sees("albert", task_id)
            await near.moves("albert", "blue")
            async with asyncio.timeout(10):  # within a second on a quiet machine: the poll is every 200 ms
                while await far.sees("albert", task_id):
                    pass
