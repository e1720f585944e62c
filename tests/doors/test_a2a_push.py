"""Push notifications through the hub: any client's, of any agent's tasks, and no agent sees where they go."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from a2a.compat.v0_3.types import Task as OldTask
from a2a.types import a2a_pb2
from google.protobuf.json_format import MessageToDict, ParseDict

from agents.speech import SPEECHES, Speech
from tests.conftest import OpenHub
from tests.peers.a2a_clients import LACKING, Refused, SdkClient, message, open_client
from tests.peers.a2a_sdk_agents import Agent, open_agent
from tests.peers.webhook import Notice, Webhook, webhook


@asynccontextmanager
async def client_of(hub: OpenHub, agent: Agent, speech: Speech) -> AsyncIterator[SdkClient]:
    """A client through a hub that may send to receivers on loopback."""
    yaml = f"agents:\n  echo: {{url: {agent.url}}}\n"
    async with hub(yaml, setting="egress_allow: [127.0.0.0/8]", grpc=speech.binding == "GRPC") as running:
        headers = {"authorization": f"Bearer {await running.key('agent:*')}"}
        async with open_client(f"{running.url}/a2a/echo/", speech, headers=headers) as sdk:
            yield sdk


def understood(speech: Speech, notice: Notice) -> dict[str, Any]:
    """A notification as the official SDK's model of the client's version reads it, in its JSON again."""
    if speech.version == "1.0":
        assert notice.headers["content-type"] == "application/a2a+json"
        event = ParseDict(notice.json, a2a_pb2.StreamResponse())
        assert event.WhichOneof("payload")
        return MessageToDict(event)
    assert notice.headers["content-type"] == "application/json"
    task = OldTask.model_validate(notice.json)
    return task.model_dump(mode="json", by_alias=True, exclude_none=True)


async def last(receiver: Webhook, state: str) -> list[Any]:
    """Wait until a notification shows this state; returns all bodies."""
    count = 1
    while not any(state in notice.body.decode() for notice in await receiver.wait(count)):
        count = len(receiver.came) + 1
    return [notice.json for notice in receiver.came]


@pytest.mark.parametrize("push", [False, True], ids=["without push", "with push"])
@pytest.mark.parametrize("agent", SPEECHES, ids=str)
@pytest.mark.parametrize("client", SPEECHES, ids=str)
async def test_a_configuration_that_comes_with_a_message_is_the_hubs(
    hub: OpenHub, client: Speech, agent: Speech, push: bool
) -> None:
    async with (
        open_agent(agent, push=push) as peer,
        webhook() as receiver,
        webhook() as streamed,
        client_of(hub, peer, client) as sdk,
    ):
        config = {"url": receiver.url, "token": "mine", "id": "c"}
        sent = message("complete 2", configuration={"taskPushNotificationConfig": config})
        task = (await sdk.ask("SendMessage", sent))["task"]
        done = "COMPLETED" if client.version == "1.0" else "completed"
        bodies = await last(receiver, done)
        assert all(task["id"] in str(body) for body in bodies)
        assert receiver.came[0].headers["x-a2a-notification-token"] == "mine"
        sent = message("complete 2", configuration={"taskPushNotificationConfig": {**config, "url": streamed.url}})
        events = [event async for event in sdk.follow("SendStreamingMessage", sent)]
        task_id = events[0]["task"]["id"]
        bodies = await last(streamed, done)
        assert all(task_id in str(body) for body in bodies)
        read = [understood(client, notice) for notice in (*receiver.came, *streamed.came)]
        if client.version == "0.3":
            assert [part["text"] for part in read[-1]["artifacts"][0]["parts"]] == peer.emitted[task_id]
        assert all(secret not in peer.heard for secret in (receiver.url, streamed.url, "mine"))


@pytest.mark.parametrize("client", SPEECHES, ids=str)
async def test_a_running_task_is_told_of_to_its_end_whoever_listens(hub: OpenHub, client: Speech) -> None:
    async with open_agent(SPEECHES[0]) as peer, webhook() as receiver, client_of(hub, peer, client) as sdk:
        task = (await sdk.send("wait", configuration={"returnImmediately": True}))["task"]
        config = {"taskId": task["id"], "url": receiver.url, "id": "c"}
        made = await sdk.ask("CreateTaskPushNotificationConfig", config)
        assert (made["id"], made["url"]) == ("c", receiver.url)
        named = {"taskId": task["id"], "id": "c"}
        assert (await sdk.ask("GetTaskPushNotificationConfig", named))["url"] == receiver.url
        peer.go.set()
        await last(receiver, "COMPLETED" if client.version == "1.0" else "completed")
        assert all(understood(client, notice) for notice in receiver.came)
        if "DeleteTaskPushNotificationConfig" not in LACKING.get(client, ()):
            listed = await sdk.ask("ListTaskPushNotificationConfigs", {"taskId": task["id"]})
            assert [one["id"] for one in listed["configs"]] == ["c"]
            await sdk.ask("DeleteTaskPushNotificationConfig", named)
            with pytest.raises(Refused):
                await sdk.ask("GetTaskPushNotificationConfig", named)


async def test_a_receiver_checks_the_signature_with_the_keys_that_the_hub_publishes(hub: OpenHub) -> None:
    yaml, setting = "agents:\n  echo: {{url: {}}}\n", "egress_allow: [127.0.0.0/8]"
    async with (
        open_agent(SPEECHES[0]) as peer,
        webhook() as receiver,
        hub(yaml.format(peer.url), setting=setting) as running,
        running.http() as anybody,
    ):
        headers = {"authorization": f"Bearer {await running.key('agent:*')}"}
        async with open_client(f"{running.url}/a2a/echo/", SPEECHES[0], headers=headers) as sdk:
            config = {"taskPushNotificationConfig": {"url": receiver.url}}
            task = (await sdk.ask("SendMessage", message("complete 1", configuration=config)))["task"]
            [notice] = (await receiver.wait(1))[:1]
        token = notice.headers["authorization"].removeprefix("Bearer ")
        keys = jwt.PyJWKSet.from_dict((await anybody.get("/.well-known/jwks.json")).json())
        key = keys[jwt.get_unverified_header(token)["kid"]]
        audience = f"http://{urlsplit(receiver.url).netloc}"
        claims = jwt.decode(token, key, ["ES256"], audience=audience, issuer=running.url)
        assert claims["taskId"] == task["id"]
        assert claims["sha256"] == hashlib.sha256(notice.body).hexdigest()
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(token[:-8] + "AAAAAAAA", key, ["ES256"], audience=audience, issuer=running.url)


@pytest.mark.attack("2.1/39", "2.2/32")
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


@pytest.mark.parametrize("client", SPEECHES, ids=str)
@pytest.mark.parametrize("agent", SPEECHES, ids=str)
async def test_an_agent_with_push_tells_the_hub_and_only_the_hub(hub: OpenHub, client: Speech, agent: Speech) -> None:
    async with open_agent(agent, push=True) as peer, webhook() as receiver, client_of(hub, peer, client) as sdk:
        task = (await sdk.send("wait", configuration={"returnImmediately": True}))["task"]
        config = {"taskId": task["id"], "id": "c", "url": receiver.url, "token": "mine"}
        await sdk.ask("CreateTaskPushNotificationConfig", config)
        peer.go.set()
        await last(receiver, "COMPLETED" if client.version == "1.0" else "completed")
        assert all(understood(client, notice) for notice in receiver.came)
        assert (await sdk.ask("GetTask", {"id": task["id"]}))["status"]["state"] == "TASK_STATE_COMPLETED"
        # one look after the callback was accepted, for what came before; the other is the client's
        assert peer.operations == ["SendMessage", "CreateTaskPushNotificationConfig", "GetTask", "GetTask"]
        assert "/a2a/_push/" in peer.heard
        assert receiver.url not in peer.heard
        assert "mine" not in peer.heard
