"""Every client's speech to every agent's speech through the hub, with the official SDK on both sides.

`CLAIMS` is what the table of `docs/a2a.md` prints: the operations that are done here in each cell.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from agents.speech import SPEECHES, Operation, Speech
from tests.conftest import OpenHub
from tests.peers.a2a_clients import LACKING, Refused, SdkClient, open_client
from tests.peers.a2a_sdk_agents import Agent, open_agent

DONE_BY: dict[Operation, str] = {
    "SendMessage": "test_a_message_is_sent_and_its_task_is_got",
    "SendStreamingMessage": "test_a_stream_shows_what_the_agent_sent",
    "GetTask": "test_a_message_is_sent_and_its_task_is_got",
    "ListTasks": "test_a_message_is_sent_and_its_task_is_got",
    "CancelTask": "test_a_task_is_subscribed_to_and_cancelled",
    "SubscribeToTask": "test_a_task_is_subscribed_to_and_cancelled",
    "CreateTaskPushNotificationConfig": "test_push_is_the_hubs_own",
    "GetTaskPushNotificationConfig": "test_push_is_the_hubs_own",
    "ListTaskPushNotificationConfigs": "test_push_is_the_hubs_own",
    "DeleteTaskPushNotificationConfig": "test_push_is_the_hubs_own",
    "GetExtendedAgentCard": "test_the_extended_card_is_the_hubs",
}
"""Where each operation is done."""

CLAIMS: dict[tuple[Speech, Speech], frozenset[Operation]] = {
    (client, agent): frozenset(DONE_BY) - LACKING.get(client, frozenset()) for client in SPEECHES for agent in SPEECHES
}
"""What a client of the first speech does with an agent of the second. What a client's SDK cannot say is not claimed."""

CELLS = [
    pytest.param(client, agent, id=f"{client.binding}-{client.version} to {agent.binding}-{agent.version}")
    for client, agent in CLAIMS
]
matrix = pytest.mark.parametrize(("client", "agent"), CELLS)


@asynccontextmanager
async def cell(hub: OpenHub, client: Speech, agent: Speech, **options: Any) -> AsyncIterator[tuple[SdkClient, Agent]]:
    async with (
        open_agent(agent, **options) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n", grpc=client.binding == "GRPC") as running,
    ):
        headers = {"authorization": f"Bearer {await running.key('agent:*')}"}
        async with open_client(f"{running.url}/a2a/echo/", client, headers=headers) as sdk:
            yield sdk, peer


def texts(task: dict[str, Any]) -> list[str]:
    return [part["text"] for artifact in task.get("artifacts", []) for part in artifact["parts"]]


@matrix
async def test_a_message_is_sent_and_its_task_is_got(hub: OpenHub, client: Speech, agent: Speech) -> None:
    async with cell(hub, client, agent) as (sdk, peer):
        task = (await sdk.send("complete 3"))["task"]
        assert task["status"]["state"] == "TASK_STATE_COMPLETED"
        own = await peer.task(task["id"])
        assert texts(task) == texts(own) == peer.emitted[task["id"]]
        got = await sdk.ask("GetTask", {"id": task["id"]})
        assert (got["id"], got["contextId"], texts(got)) == (task["id"], task["contextId"], texts(own))
        assert (await sdk.send("message"))["message"]["role"] == "ROLE_AGENT"
        if "ListTasks" in CLAIMS[client, agent]:
            listed = await sdk.ask("ListTasks", {})
            assert [one["id"] for one in listed["tasks"]] == [task["id"]]


@matrix
async def test_a_stream_shows_what_the_agent_sent(hub: OpenHub, client: Speech, agent: Speech) -> None:
    async with cell(hub, client, agent) as (sdk, peer):
        events = await sdk.stream("complete 3")
        task_id = events[0]["task"]["id"]
        shown = [
            part["text"]
            for event in events
            if "artifactUpdate" in event
            for part in event["artifactUpdate"]["artifact"]["parts"]
        ]
        assert shown == peer.emitted[task_id]
        assert events[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


@matrix
async def test_a_question_is_answered_in_the_same_task(hub: OpenHub, client: Speech, agent: Speech) -> None:
    async with cell(hub, client, agent) as (sdk, _):
        asked = (await sdk.send("ask"))["task"]
        assert asked["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
        done = (await sdk.send("yes", taskId=asked["id"], contextId=asked["contextId"], message_id="m-2"))["task"]
        assert (done["id"], done["status"]["state"]) == (asked["id"], "TASK_STATE_COMPLETED")


@matrix
async def test_a_task_is_subscribed_to_and_cancelled(hub: OpenHub, client: Speech, agent: Speech) -> None:
    async with cell(hub, client, agent) as (sdk, peer):
        async with aclosing(sdk.follow("SendStreamingMessage", _said("slow 3"))) as events:
            task_id = (await anext(events))["task"]["id"]
            await peer.release()
            async for event in events:
                if "artifactUpdate" in event:
                    break
        async with aclosing(sdk.follow("SubscribeToTask", {"id": task_id})) as again:
            first = await anext(again)
            assert first["task"]["id"] == task_id
            await peer.release()
            async for event in again:
                if "artifactUpdate" in event:
                    break
        cancelled = await sdk.ask("CancelTask", {"id": task_id})
        assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"
        assert "CancelTask" in peer.operations


@matrix
async def test_errors_keep_their_meaning(hub: OpenHub, client: Speech, agent: Speech) -> None:
    async with cell(hub, client, agent) as (sdk, _):
        with pytest.raises(Refused) as unknown:
            await sdk.ask("GetTask", {"id": "nobody-has-it"})
        assert unknown.value.code == -32001
        done = (await sdk.send("complete 1"))["task"]
        with pytest.raises(Refused) as late:
            await sdk.ask("CancelTask", {"id": done["id"]})
        assert late.value.code in {-32002, None}
        failed = (await sdk.send("fail", message_id="m-2"))["task"]
        assert failed["status"]["state"] == "TASK_STATE_FAILED"


@matrix
async def test_parts_of_every_kind_survive(hub: OpenHub, client: Speech, agent: Speech) -> None:
    parts = [
        {"text": "echo"},
        {"raw": "aGVsbG8=", "mediaType": "text/plain", "filename": "a.txt"},
        {"url": "https://example.org/x.png", "mediaType": "image/png"},
        {"data": {"n": 1, "list": [1, 2.5, "x", None, True]}, "metadata": {"m": {"deep": 3}}},
    ]
    async with cell(hub, client, agent) as (sdk, peer):
        sent = _said("echo")
        sent["message"]["parts"] = parts
        task = (await sdk.ask("SendMessage", sent))["task"]
        own = await peer.task(task["id"])
        assert task["artifacts"][0]["parts"] == own["artifacts"][0]["parts"]
        assert task["artifacts"][0]["parts"][1:] == parts[1:]


@matrix
async def test_push_is_the_hubs_own(hub: OpenHub, client: Speech, agent: Speech) -> None:
    """Of agents that have no push at all. The task is over, so nothing is ever sent; what is, is shown by `test_a2a_push`."""
    async with cell(hub, client, agent) as (sdk, peer):
        task_id = (await sdk.send("complete 1"))["task"]["id"]
        config = {"taskId": task_id, "id": "c", "url": "https://203.0.114.1/hook", "token": "mine"}
        made = await sdk.ask("CreateTaskPushNotificationConfig", config)
        assert (made["id"], made["taskId"], made["url"]) == ("c", task_id, config["url"])
        named = {"taskId": task_id, "id": "c"}
        got = await sdk.ask("GetTaskPushNotificationConfig", named)
        assert (got["url"], got.get("token")) == (config["url"], None)
        if "ListTaskPushNotificationConfigs" in CLAIMS[client, agent]:
            listed = await sdk.ask("ListTaskPushNotificationConfigs", {"taskId": task_id})
            assert [one["id"] for one in listed["configs"]] == ["c"]
        if "DeleteTaskPushNotificationConfig" in CLAIMS[client, agent]:
            await sdk.ask("DeleteTaskPushNotificationConfig", named)
            with pytest.raises(Refused):
                await sdk.ask("GetTaskPushNotificationConfig", named)
        assert config["url"] not in peer.heard


@matrix
async def test_the_extended_card_is_the_hubs(hub: OpenHub, client: Speech, agent: Speech) -> None:
    async with cell(hub, client, agent, extended=True) as (sdk, peer):
        card = await sdk.ask("GetExtendedAgentCard", {})
        assert "secret" in [skill["id"] for skill in card["skills"]]
        assert peer.url not in str(card)
        assert any("/a2a/echo/" in one["url"] for one in card["supportedInterfaces"])


@pytest.mark.parametrize("operation", DONE_BY)
def test_each_claim_is_done_where_it_says(operation: Operation) -> None:
    short = {"SendMessage": "sdk.send(", "SendStreamingMessage": "sdk.stream("}
    assert short.get(operation, f'("{operation}", ') in inspect.getsource(globals()[DONE_BY[operation]])


def _said(text: str) -> dict[str, Any]:
    return {"message": {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": text}]}}
