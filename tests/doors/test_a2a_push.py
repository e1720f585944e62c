"""Push notifications through the hub: any client's, of any agent's tasks, and no agent sees where they go."""

from __future__ import annotations

from typing import Any

import pytest

from agents.speech import SPEECHES, Speech
from tests.conftest import OpenHub
from tests.peers.a2a_clients import LACKING, Refused, message, open_client
from tests.peers.a2a_sdk_agents import Agent, open_agent
from tests.peers.webhook import Webhook, webhook

CLIENTS = [speech for speech in SPEECHES if speech.binding != "GRPC"]
ALLOW = "hub:\n  egress_allow: [127.0.0.0/8]\n  database: sqlite:///{directory}/hubbub.db\n"


def yaml(directory: Any, agent: Agent) -> str:
    return f"{ALLOW.format(directory=directory)}agents:\n  echo: {{url: {agent.url}}}\n"


async def last(receiver: Webhook, state: str) -> list[Any]:
    """Wait until a notification shows this state; returns all bodies."""
    count = 1
    while not any(state in notice.body.decode() for notice in await receiver.wait(count)):
        count = len(receiver.came) + 1
    return [notice.json for notice in receiver.came]


@pytest.mark.parametrize("agent", SPEECHES, ids=str)
@pytest.mark.parametrize("client", CLIENTS, ids=str)
async def test_an_agent_without_push_gains_it(tmp_path: Any, hub: OpenHub, client: Speech, agent: Speech) -> None:
    async with open_agent(agent) as peer, hub(yaml(tmp_path, peer)) as running, webhook() as receiver:
        headers = {"authorization": f"Bearer {await running.key('agent:*')}"}
        async with open_client(f"{running.url}/a2a/echo/", client, headers=headers) as sdk:
            config = {"url": receiver.url, "token": "mine", "id": "c"}
            sent = message("complete 2", configuration={"taskPushNotificationConfig": config})
            task = (await sdk.ask("SendMessage", sent))["task"]
            bodies = await last(receiver, "COMPLETED" if client.version == "1.0" else "completed")
            assert all(task["id"] in str(body) for body in bodies)
            assert receiver.came[0].headers["x-a2a-notification-token"] == "mine"
        assert receiver.url not in peer.heard
        assert "mine" not in peer.heard


@pytest.mark.parametrize("client", CLIENTS, ids=str)
async def test_a_running_task_is_told_of_to_its_end_whoever_listens(
    tmp_path: Any, hub: OpenHub, client: Speech
) -> None:
    async with open_agent(SPEECHES[0]) as peer, hub(yaml(tmp_path, peer)) as running, webhook() as receiver:
        headers = {"authorization": f"Bearer {await running.key('agent:*')}"}
        async with open_client(f"{running.url}/a2a/echo/", client, headers=headers) as sdk:
            task = (await sdk.send("wait", configuration={"returnImmediately": True}))["task"]
            config = {"taskId": task["id"], "url": receiver.url, "id": "c"}
            made = await sdk.ask("CreateTaskPushNotificationConfig", config)
            assert (made["id"], made["url"]) == ("c", receiver.url)
            named = {"taskId": task["id"], "id": "c"}
            assert (await sdk.ask("GetTaskPushNotificationConfig", named))["url"] == receiver.url
            peer.go.set()
            await last(receiver, "COMPLETED" if client.version == "1.0" else "completed")
            if "DeleteTaskPushNotificationConfig" not in LACKING.get(client, ()):
                listed = await sdk.ask("ListTaskPushNotificationConfigs", {"taskId": task["id"]})
                assert [one["id"] for one in listed["configs"]] == ["c"]
                await sdk.ask("DeleteTaskPushNotificationConfig", named)
                with pytest.raises(Refused):
                    await sdk.ask("GetTaskPushNotificationConfig", named)


async def test_a_configuration_for_an_inner_address_stops_the_message(hub: OpenHub) -> None:
    async with open_agent(SPEECHES[0]) as peer, hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running:
        headers = {"authorization": f"Bearer {await running.key('agent:*')}"}
        async with open_client(f"{running.url}/a2a/echo/", SPEECHES[0], headers=headers) as sdk:
            config = {"url": "http://169.254.169.254/latest/meta-data"}
            with pytest.raises(Refused) as refused:
                await sdk.ask(
                    "SendMessage", message("complete 1", configuration={"taskPushNotificationConfig": config})
                )
            assert refused.value.code == -32602
        assert not peer.calls


@pytest.mark.parametrize("agent", SPEECHES, ids=str)
async def test_an_agent_with_push_tells_the_hub_and_only_the_hub(tmp_path: Any, hub: OpenHub, agent: Speech) -> None:
    async with open_agent(agent, push=True) as peer, hub(yaml(tmp_path, peer)) as running, webhook() as receiver:
        headers = {"authorization": f"Bearer {await running.key('agent:*')}"}
        async with open_client(f"{running.url}/a2a/echo/", SPEECHES[0], headers=headers) as sdk:
            task = (await sdk.send("wait", configuration={"returnImmediately": True}))["task"]
            await sdk.ask(
                "CreateTaskPushNotificationConfig", {"taskId": task["id"], "url": receiver.url, "token": "mine"}
            )
            peer.go.set()
            await last(receiver, "COMPLETED")
            assert (await sdk.ask("GetTask", {"id": task["id"]}))["status"]["state"] == "TASK_STATE_COMPLETED"
        # one look after the callback was accepted, for what came before; the other is the client's
        assert peer.operations == ["SendMessage", "CreateTaskPushNotificationConfig", "GetTask", "GetTask"]
        assert "/a2a/_push/" in peer.heard
        assert receiver.url not in peer.heard
        assert "mine" not in peer.heard
