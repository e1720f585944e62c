"""The peers themselves, without a hub: each SDK client talks to the SDK agent of its own speech.

What is lost here is lost by the SDK; a test through the hub may not expect more than that, nor less.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import httpx
import pytest

from agents.speech import SPEECHES, Speech
from tests.conftest import served
from tests.peers.a2a_clients import LACKING, Refused, SdkClient, message, open_client
from tests.peers.a2a_sdk_agents import open_agent

every_speech = pytest.mark.parametrize("speech", SPEECHES, ids=" ".join)


def texts(task: dict) -> str:
    """All text of a task's artifacts."""
    return "".join(part.get("text", "") for one in task.get("artifacts", ()) for part in one["parts"])


async def until_working(events) -> str:
    """Read events up to the first that says working; returns the task's id."""
    async for event in events:
        if event.get("statusUpdate", {}).get("status", {}).get("state") == "TASK_STATE_WORKING":
            return event["statusUpdate"]["taskId"]
    raise AssertionError("it never worked")


@every_speech
async def test_card_offers_this_speech_and_no_other(speech: Speech) -> None:
    async with open_agent(speech) as agent, open_client(agent.url, speech) as client:
        offered = client.card["supportedInterfaces"]
        assert [(one["protocolBinding"], one["protocolVersion"][:3]) for one in offered] == [speech]
        async with httpx.AsyncClient(trust_env=False) as http:
            card = (await http.get(agent.card_url)).json()
        assert ("supportedInterfaces" in card) is (speech.version == "1.0")


@every_speech
@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("complete 3", "COMPLETED"),
        ("ask", "INPUT_REQUIRED"),
        ("auth", "AUTH_REQUIRED"),
        ("fail", "FAILED"),
        ("reject", "REJECTED"),
    ],
)
async def test_script_ends_in_its_state(speech: Speech, text: str, state: str) -> None:
    async with open_agent(speech) as agent, open_client(agent.url, speech) as client:
        task = (await client.send(text))["task"]
        assert task["status"]["state"] == f"TASK_STATE_{state}"
        assert texts(task) == "".join(agent.emitted.get(task["id"], []))
        own = await agent.task(task["id"])
        assert own["status"]["state"] == task["status"]["state"]


@every_speech
async def test_stream_shows_the_task_each_chunk_and_the_end(speech: Speech) -> None:
    async with open_agent(speech) as agent, open_client(agent.url, speech) as client:
        events = await client.stream("complete 3")
        kinds = [next(iter(event)) for event in events]
        assert kinds == ["task", "statusUpdate", *["artifactUpdate"] * 3, "statusUpdate"]
        assert events[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
        assert agent.operations == ["SendStreamingMessage"]
        assert not agent.disconnects


@every_speech
async def test_message_is_answered_without_a_task(speech: Speech) -> None:
    async with open_agent(speech) as agent, open_client(agent.url, speech) as client:
        assert (await client.send("message"))["message"]["parts"] == [{"text": "hello"}]
        assert [next(iter(event)) for event in await client.stream("message")] == ["message"]


@every_speech
@pytest.mark.parametrize("interruption", ["ask", "auth"])
async def test_follow_up_completes_an_interrupted_task(speech: Speech, interruption: str) -> None:
    async with open_agent(speech) as agent, open_client(agent.url, speech) as client:
        asked = (await client.send(interruption))["task"]
        done = (await client.send("that one", taskId=asked["id"], contextId=asked["contextId"]))["task"]
        assert done["id"] == asked["id"]
        assert done["status"]["state"] == "TASK_STATE_COMPLETED"


@every_speech
async def test_cancel_ends_a_waiting_task(speech: Speech) -> None:
    async with open_agent(speech) as agent, open_client(agent.url, speech) as client:
        started = await client.send("wait", configuration={"returnImmediately": True})
        cancelled = await client.ask("CancelTask", {"id": started["task"]["id"]})
        assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"
        assert agent.operations == ["SendMessage", "CancelTask"]


@every_speech
async def test_waiting_task_goes_on_when_it_may(speech: Speech) -> None:
    async with open_agent(speech) as agent, open_client(agent.url, speech) as client:
        asking = asyncio.create_task(client.send("wait"))
        agent.go.set()
        assert (await asking)["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


@every_speech
async def test_slow_task_outlives_its_reader_and_is_joined_again(speech: Speech) -> None:
    async with open_agent(speech) as agent, asyncio.timeout(30):
        async with (  # the SDK's gRPC client leaves a stream only with its channel
            open_client(agent.url, speech) as client,
            aclosing(client.follow("SendStreamingMessage", message("slow 3"))) as events,
        ):
            task_id = await until_working(events)
            await agent.release()
            first = await anext(events)
            assert first["artifactUpdate"]["artifact"]["parts"] == [{"text": "part 0 "}]
        await agent.wires[-1].left.wait()
        async with (
            open_client(agent.url, speech) as client,
            aclosing(client.follow("SubscribeToTask", {"id": task_id})) as events,
        ):
            assert texts((await anext(events))["task"]) == "part 0 "
            await agent.release(2)
            rest = [event async for event in events]
        assert [next(iter(event)) for event in rest] == ["artifactUpdate", "artifactUpdate", "statusUpdate"]
        assert texts(await agent.task(task_id)) == "part 0 part 1 part 2 " == "".join(agent.emitted[task_id])


@every_speech
async def test_client_that_leaves_is_noticed(speech: Speech) -> None:
    async with open_agent(speech) as agent, asyncio.timeout(30):
        async with open_client(agent.url, speech) as client:
            asking = asyncio.create_task(client.send("wait"))
            while not agent.calls:
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
        await agent.wires[-1].left.wait()
        assert agent.disconnects == [agent.wires[-1]]
        agent.go.set()


@every_speech
async def test_get_shows_as_much_history_as_was_asked_for(speech: Speech) -> None:
    async with open_agent(speech) as agent, open_client(agent.url, speech) as client:
        task_id = (await client.send("history 3"))["task"]["id"]
        assert len((await client.ask("GetTask", {"id": task_id}))["history"]) == 4
        assert len((await client.ask("GetTask", {"id": task_id, "historyLength": 2}))["history"]) == 2


async def test_list_shows_the_tasks_of_an_agent_of_1_0() -> None:
    for speech in [one for one in SPEECHES if one not in LACKING]:
        async with open_agent(speech) as agent, open_client(agent.url, speech) as client:
            ids = {(await client.send("complete 1"))["task"]["id"] for _ in range(3)}
            listed = await client.ask("ListTasks", {"pageSize": 2})
            assert listed["totalSize"] == 3
            assert {task["id"] for task in listed["tasks"]} < ids


@every_speech
async def test_unknown_task_is_not_found(speech: Speech) -> None:
    async with open_agent(speech) as agent, open_client(agent.url, speech) as client:
        with pytest.raises(Refused) as refused:
            await client.ask("GetTask", {"id": "nobody"})
        lost = speech == Speech("HTTP+JSON", "0.3")  # the SDK's server sends it so that its client reads a wrong path
        assert refused.value.code == (-32601 if lost else -32001)


@every_speech
async def test_agent_lacks_what_it_was_told_to_lack(speech: Speech) -> None:
    async with (
        open_agent(speech, lacking={"SubscribeToTask"}) as agent,
        open_client(agent.url, speech) as client,
    ):
        task_id = (await client.send("ask"))["task"]["id"]
        with pytest.raises(Refused):
            [event async for event in client.follow("SubscribeToTask", {"id": task_id})]
        assert agent.operations == ["SendMessage", "SubscribeToTask"]


@every_speech
async def test_echo_returns_files_data_and_metadata(speech: Speech) -> None:
    parts = [
        {"text": "echo"},
        {"data": {"n": 7, "list": [1, {"deep": True}]}},
        {"raw": "aGVsbG8=", "mediaType": "text/plain", "filename": "hello.txt"},
        {"url": "https://example.invalid/f.pdf", "mediaType": "application/pdf", "filename": "f.pdf"},
    ]
    async with open_agent(speech) as agent, open_client(agent.url, speech) as client:
        sent = message("", parts=parts, metadata={"trip": 3})
        task = (await client.ask("SendMessage", sent))["task"]
        assert task["artifacts"][0]["parts"] == parts
        assert task["artifacts"][0]["metadata"]["message"] == {"trip": 3}


@every_speech
async def test_every_header_body_and_extension_that_reached_it_is_in_what_it_heard(speech: Speech) -> None:
    async with (
        open_agent(speech) as agent,
        open_client(agent.url, speech, headers={"Authorization": "Bearer sk-secret"}) as client,
    ):
        await client.ask("SendMessage", message("complete 1 with words"), extensions=["https://example.invalid/ext"])
        assert agent.calls[0].headers["authorization"] == "Bearer sk-secret"
        for word in ("sk-secret", "with words", "https://example.invalid/ext"):
            assert word in agent.heard


async def configs_of(client: SdkClient, task_id: str) -> list[dict]:
    return (await client.ask("ListTaskPushNotificationConfigs", {"taskId": task_id})).get("configs", [])


@every_speech
async def test_agent_with_push_posts_to_the_configured_address_in_its_own_version(speech: Speech) -> None:
    posted: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def webhook(scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        body = (await receive())["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        posted.put_nowait((headers, body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with (
        served(webhook) as hook,
        open_agent(speech, push=True) as agent,
        open_client(agent.url, speech) as client,
        asyncio.timeout(30),
    ):
        task_id = (await client.send("wait", configuration={"returnImmediately": True}))["task"]["id"]
        config = {"taskId": task_id, "id": "one", "url": f"{hook}/here", "token": "t-1"}
        created = await client.ask("CreateTaskPushNotificationConfig", config)
        assert created["url"] == config["url"]
        got = await client.ask("GetTaskPushNotificationConfig", {"taskId": task_id, "id": "one"})
        assert got["token"] == "t-1"
        agent.go.set()
        headers, body = await posted.get()
        assert headers["x-a2a-notification-token"] == "t-1"
        assert (b'"kind"' in body) is (speech.version == "0.3")
        if "ListTaskPushNotificationConfigs" not in LACKING.get(speech, ()):
            assert [one["id"] for one in await configs_of(client, task_id)] == ["one"]
            await client.ask("DeleteTaskPushNotificationConfig", {"taskId": task_id, "id": "one"})
            assert await configs_of(client, task_id) == []


@every_speech
async def test_agent_without_push_says_so(speech: Speech) -> None:
    async with open_agent(speech) as agent, open_client(agent.url, speech) as client:
        task_id = (await client.send("ask"))["task"]["id"]
        with pytest.raises(Refused) as refused:
            await client.ask("CreateTaskPushNotificationConfig", {"taskId": task_id, "url": "http://127.0.0.1:9/"})
        assert refused.value.code in {-32003, None}


@every_speech
async def test_extended_card_has_one_more_skill(speech: Speech) -> None:
    async with open_agent(speech, extended=True) as agent, open_client(agent.url, speech) as client:
        card = await client.ask("GetExtendedAgentCard")
        assert [skill["id"] for skill in card["skills"]] == ["do", "secret"]


@pytest.mark.parametrize(
    ("speech", "path", "body"),
    [
        (Speech("JSONRPC", "0.3"), "/rpc", {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "x"}}),
        (Speech("JSONRPC", "1.0"), "/rpc", {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": "x"}}),
    ],
)
async def test_agent_does_not_know_the_methods_of_the_other_version(speech: Speech, path: str, body: dict) -> None:
    async with open_agent(speech) as agent, httpx.AsyncClient(base_url=agent.url, trust_env=False) as http:
        answer = await http.post(path, json=body, headers={"A2A-Version": speech.version})
        assert answer.json()["error"]["code"] == -32601
        assert agent.calls == []
