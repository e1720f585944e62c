"""The A2A door, driven by the official client against agents of the official SDK, and by hand against rough ones."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, create_client
from a2a.helpers import get_stream_response_text, new_text_message
from a2a.types import (
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    ListTasksRequest,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskState,
)
from a2a.utils.errors import TaskNotFoundError

from tests.conftest import Hub, OpenHub
from tests.peers.a2a_agent import reply, rough_agent, sdk_agent, simple_card, start, task, write

VERSIONS = ["1.0", "0.3"]


def yaml(url: str, name: str = "echo", **members: str) -> str:
    lines = "".join(f"\n    {member}: {value}" for member, value in members.items())
    return f"agents:\n  {name}:\n    url: {url}{lines}\n"


async def connect(hub: Hub, http: httpx.AsyncClient, version: str = "1.0", *, streaming: bool = True) -> Any:
    card = await A2ACardResolver(http, f"{hub.url}/a2a/echo").get_agent_card()
    kept = [one for one in card.supported_interfaces if one.protocol_version == version]
    del card.supported_interfaces[:]
    card.supported_interfaces.extend(kept)
    return await create_client(card, ClientConfig(streaming=streaming, httpx_client=http))


def message(text: str, **members: Any) -> SendMessageRequest:
    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER, **members))


def rpc(method: str, params: Any, request_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def said(text: str, **members: Any) -> dict[str, Any]:
    return {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}], **members}}


@pytest.mark.parametrize("version", VERSIONS)
async def test_official_client_streams_through_the_hub(hub: OpenHub, version: str) -> None:
    async with (
        sdk_agent() as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        client = await connect(running, http, version)
        events = [event async for event in client.send_message(message("one two three"))]
        assert events[0].HasField("task")
        assert "".join(get_stream_response_text(event) for event in events if event.HasField("artifact_update")) == (
            "one two three "
        )
        assert events[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED


@pytest.mark.parametrize("version", VERSIONS)
async def test_official_client_sends_gets_continues_and_cancels(hub: OpenHub, version: str) -> None:
    async with (
        sdk_agent() as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        client = await connect(running, http, version, streaming=False)
        [answer] = [event async for event in client.send_message(message("ask"))]
        asked = answer.task
        assert asked.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        got = await client.get_task(GetTaskRequest(id=asked.id))
        assert got.id == asked.id
        [answer] = [
            event async for event in client.send_message(message("ask", task_id=asked.id, context_id=asked.context_id))
        ]
        assert answer.task.id == asked.id
        cancelled = await client.cancel_task(CancelTaskRequest(id=asked.id))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED


@pytest.mark.parametrize("version", VERSIONS)
async def test_stream_that_is_left_goes_on_and_can_be_subscribed_to(hub: OpenHub, version: str) -> None:
    async with (
        sdk_agent() as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        client = await connect(running, http, version)
        stream = client.send_message(message("hold last"))
        first = await anext(stream)
        await stream.aclose()
        subscription = client.subscribe(SubscribeToTaskRequest(id=first.task.id))
        snapshot = await anext(subscription)
        assert snapshot.task.id == first.task.id
        agent.echo.confirmed.set()
        rest = [event async for event in subscription]
        assert rest[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
        assert agent.echo.finished.is_set()
        assert not [one for one in agent.calls if "ancel" in one.json["method"]]


async def test_stream_that_is_left_is_closed_at_the_agent_and_nothing_more(hub: OpenHub) -> None:
    closed = asyncio.Event()

    async def answer(seen: Any, send: Any) -> None:
        await start(send)
        result = {"task": task("1", "TASK_STATE_WORKING")}
        await write(send, b"data: " + json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode() + b"\n\n")
        await seen.gone.wait()
        closed.set()

    async with (
        rough_agent(answer, simple_card()) as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        async with http.stream("POST", "/a2a/echo", json=rpc("SendStreamingMessage", said("x"))) as streamed:
            await anext(streamed.aiter_bytes())
        async with asyncio.timeout(10):
            await closed.wait()
        assert [one.json["method"] for one in agent.calls] == ["SendStreamingMessage"]


async def test_list_shows_what_the_ledger_knows_of_a_task_that_the_agent_lost(hub: OpenHub) -> None:
    async def answer(seen: Any, send: Any) -> None:
        if seen.json["method"] == "SendMessage":
            await reply(send, {"jsonrpc": "2.0", "id": 1, "result": {"task": task("1")}})
        else:
            await reply(send, {"jsonrpc": "2.0", "id": 1, "error": {"code": -32001, "message": "lost"}})

    async with (
        rough_agent(answer, simple_card()) as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        await http.post("/a2a/echo", json=rpc("SendMessage", said("x")))
        listed = (await http.post("/a2a/echo", json=rpc("ListTasks", {}))).json()["result"]
        assert listed["tasks"] == [
            {
                "id": "1",
                "contextId": "c",
                "status": {"state": "TASK_STATE_COMPLETED", "timestamp": "2026-01-01T00:00:00.000Z"},
            }
        ]


@pytest.mark.parametrize(
    ("tail", "events"),
    [(b"", 1), (b": bye", 1), (b"data: {}", 2), (b"data: DONE\n\n", 2), (b"event: end\n\n", 1)],
    ids=["nothing", "comment", "half", "garbage", "no data"],
)
async def test_odd_ends_of_streams(hub: OpenHub, tail: bytes, events: int) -> None:
    async def answer(seen: Any, send: Any) -> None:
        await start(send)
        result = {"kind": "task", "id": "1", "contextId": "c", "status": {"state": "working"}}
        await write(send, b"data: " + json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode() + b"\r\n\r\n")
        await send({"type": "http.response.body", "body": tail})

    async with (
        rough_agent(answer, simple_card()) as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        answered = await http.post("/a2a/echo", json=rpc("message/stream", said("x")))
        assert answered.text.count("data: ") == events


async def test_direct_message_passes_and_its_context_is_the_callers(hub: OpenHub) -> None:
    async with sdk_agent() as agent, hub(yaml(agent.url)) as running:
        mine, other = await running.key("agent:*"), await running.key("agent:*")
        async with running.http(mine) as http, running.http(other) as stranger:
            answer = (await http.post("/a2a/echo", json=rpc("SendMessage", said("reply")))).json()
            context_id = answer["result"]["message"]["contextId"]
            body = rpc("SendMessage", said("reply", contextId=context_id))
            assert (await stranger.post("/a2a/echo", json=body)).json()["error"]["code"] == -32001
            assert "result" in (await http.post("/a2a/echo", json=body)).json()


@pytest.mark.parametrize("version", VERSIONS)
async def test_stream_comes_while_the_upstream_holds_back_its_end(hub: OpenHub, version: str) -> None:
    async with (
        sdk_agent() as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        client = await connect(running, http, version)
        async with asyncio.timeout(20):
            async for event in client.send_message(message("hold this back")):
                if event.HasField("artifact_update"):
                    agent.echo.confirmed.set()
        assert agent.echo.confirmed.is_set()


@pytest.mark.attack("2.1/14", "2.2/33", "2.2/36", defence="agents.ledger:Ledger._opens")
async def test_task_of_somebody_else_is_answered_like_an_unknown_one(hub: OpenHub) -> None:
    async with sdk_agent() as agent, hub(yaml(agent.url)) as running:
        mine, other = await running.key("agent:*"), await running.key("agent:*")
        async with running.http(mine) as http, running.http(other) as stranger:
            made = (await http.post("/a2a/echo", json=rpc("SendMessage", said("ask")))).json()
            owned = made["result"]["task"]["id"]
            before = len(agent.calls)
            requests: list[tuple[str, Any]] = [
                ("GetTask", lambda one: {"id": one}),
                ("CancelTask", lambda one: {"id": one}),
                ("SendMessage", lambda one: said("x", taskId=one)),
                ("SendMessage", lambda one: said("x", referenceTaskIds=[one])),
                ("SubscribeToTask", lambda one: {"id": one}),
                ("SendStreamingMessage", lambda one: said("x", taskId=one)),
                ("tasks/get", lambda one: {"id": one}),
                ("tasks/cancel", lambda one: {"id": one}),
                ("tasks/resubscribe", lambda one: {"id": one}),
            ]
            for method, params in requests:
                answers = [
                    await stranger.post("/a2a/echo", json=rpc(method, params(one))) for one in (owned, "0" * len(owned))
                ]
                texts = [
                    answer.text.replace(owned, "ID")
                    .replace("0" * len(owned), "ID")
                    .replace(answer.headers["x-request-id"], "R")
                    for answer in answers
                ]
                assert texts[0] == texts[1], method
                assert '"code":-32001' in texts[0], method
            assert len(agent.calls) == before


@pytest.mark.attack("2.2/36")
async def test_two_agents_may_both_mint_the_same_task_id(hub: OpenHub) -> None:
    async def answer(seen: Any, send: Any) -> None:
        await reply(send, {"jsonrpc": "2.0", "id": 1, "result": {"task": task("1")}})

    async with rough_agent(answer, simple_card()) as one, rough_agent(answer, simple_card()) as two:
        text = yaml(one.url, "one") + yaml(two.url, "two").removeprefix("agents:\n")
        async with hub(text) as running:
            first, second = await running.key("agent:one"), await running.key("agent:two")
            for key, name in ((first, "one"), (second, "two")):
                async with running.http(key) as http:
                    made = await http.post(f"/a2a/{name}", json=rpc("SendMessage", said("x")))
                    assert made.json()["result"]["task"]["id"] == "1"


async def test_upstream_that_shows_somebody_elses_task_is_not_believed(hub: OpenHub) -> None:
    async def answer(seen: Any, send: Any) -> None:
        result = {"task": task("1", context_id=seen.json["params"]["message"]["messageId"])}
        if seen.json["method"] == "SendMessage":
            await reply(send, {"jsonrpc": "2.0", "id": 1, "result": result})
        else:
            await start(send)
            await write(send, b"data: " + json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode() + b"\n\n")

    async with rough_agent(answer, simple_card()) as agent, hub(yaml(agent.url)) as running:
        mine, other = await running.key("agent:*"), await running.key("agent:*")
        async with running.http(mine) as http, running.http(other) as stranger:
            await http.post("/a2a/echo", json=rpc("SendMessage", said("x", messageId="mine")))
            whole = await stranger.post("/a2a/echo", json=rpc("SendMessage", said("x", messageId="theirs")))
            assert whole.json()["error"]["code"] == -32006
            stream = await stranger.post("/a2a/echo", json=rpc("SendStreamingMessage", said("x", messageId="t2")))
            assert json.loads(stream.text.removeprefix("data: "))["error"]["code"] == -32006


async def test_list_shows_the_callers_own_tasks_page_by_page(hub: OpenHub) -> None:
    async with sdk_agent() as agent, hub(yaml(agent.url)) as running:
        mine, other = await running.key("agent:*"), await running.key("agent:*")
        async with running.http(mine) as http, running.http(other) as stranger:
            client = await connect(running, http, streaming=False)
            theirs = await connect(running, stranger, streaming=False)
            for text in ("a", "b", "ask"):
                [_ async for _ in client.send_message(message(text))]
            [_ async for _ in theirs.send_message(message("c"))]
            first = await client.list_tasks(ListTasksRequest(page_size=2, include_artifacts=True))
            assert (len(first.tasks), first.total_size, first.page_size) == (2, 3, 2)
            assert first.tasks[0].status.state == TaskState.TASK_STATE_INPUT_REQUIRED
            assert first.tasks[1].artifacts[0].parts[0].text == "b "
            second = await client.list_tasks(ListTasksRequest(page_size=2, page_token=first.next_page_token))
            assert len(second.tasks) == 1
            assert not second.tasks[0].artifacts
            assert second.next_page_token == ""
            done = await client.list_tasks(ListTasksRequest(status=TaskState.TASK_STATE_COMPLETED))
            assert done.total_size == 2
            one = await client.list_tasks(ListTasksRequest(context_id=first.tasks[1].context_id))
            assert [found.id for found in one.tasks] == [first.tasks[1].id]
            bad = await http.post("/a2a/echo", json=rpc("ListTasks", {"pageSize": 101}))
            assert bad.json()["error"]["code"] == -32602
            # the official client leaves "A2A-Version: 1.0" on the HTTP client it was given
            old = await http.post("/a2a/echo", json=rpc("tasks/list", {}), headers={"a2a-version": "0.3"})
            assert [found["kind"] for found in old.json()["result"]["tasks"]] == ["task"] * 3


DECIDING = [
    '{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"a","id":"b"}}',
    '{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"a","ID":"b"}}',
    '{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"a"},"params":{"id":"b"}}',
    '{"jsonrpc":"2.0","id":1,"method":"GetTask","method":"CancelTask","params":{"id":"a"}}',
    '{"jsonrpc":"2.0","id":1,"method":"GetTask","Method":"CancelTask","params":{"id":"a"}}',
    '{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"a","name":"tasks/b"}}',
    '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"taskId":"a","task_id":"b"}}}',
    '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"taskId":"a","t\\u0061skId":"b"}}}',
    '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"context_id":"b"}}}',
    '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"CONTEXTID":"b"}}}',
    '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"reference_task_ids":["b"]}}}',
    '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{},"message":{"taskId":"b"}}}',
    '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{},"Message":{"taskId":"b"}}}',
    '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{},'
    '"configuration":{"task_push_notification_config":{"url":"http://x"}}}}',
    '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{},'
    '"configuration":{},"Configuration":{"taskPushNotificationConfig":{"url":"http://x"}}}}',
    '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{},"tenant":"other"}}',
    '[{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"a"}}]',
    '{"jsonrpc":"2.0","id":{},"method":"GetTask","params":{"id":"a"}}',
    '{"jsonrpc":"1.0","id":1,"method":"GetTask","params":{"id":"a"}}',
    '{"jsonrpc":"2.0","id":1,"method":"GetTask","params":[]}',
    '{"jsonrpc":"2.0","id":1,"method":"GetTask"}',
    '{"jsonrpc":"2.0","id":1,',
    "[" * 1000,
]


async def test_ambiguous_and_malformed_requests_never_reach_the_agent(hub: OpenHub) -> None:
    async with (
        sdk_agent() as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        for body in DECIDING:
            answer = await http.post("/a2a/echo", content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 200, body
            assert answer.json()["error"]["code"] in {-32700, -32600, -32602}, body
        assert not agent.calls


@pytest.mark.parametrize("request_id", ["7", 7, 9007199254740993, None, "ü"])
async def test_request_id_keeps_its_type_and_value_and_integers_survive(hub: OpenHub, request_id: Any) -> None:
    async def answer(seen: Any, send: Any) -> None:
        result = {"message": {"messageId": "x", "metadata": {"n": 9007199254740993}}}
        await reply(send, {"jsonrpc": "2.0", "id": "wrong", "result": result})

    async with (
        rough_agent(answer, simple_card()) as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        sent = rpc("SendMessage", said("x", metadata={"n": 9007199254740993}), request_id)
        got = (await http.post("/a2a/echo", json=sent)).json()
        assert got["id"] == request_id
        assert type(got["id"]) is type(request_id)
        assert got["result"]["message"]["metadata"]["n"] == 9007199254740993
        assert agent.calls[-1].json == sent


@pytest.mark.attack("2.1/18")
async def test_callers_credentials_stay_and_the_operators_go_up(hub: OpenHub) -> None:
    async def answer(seen: Any, send: Any) -> None:
        body = {"jsonrpc": "2.0", "id": 1, "result": {"message": {"messageId": "x"}}}
        await reply(send, body, headers={"a2a-extensions": "urn:x", "set-cookie": "a=b", "www-authenticate": "Basic"})

    async with rough_agent(answer, simple_card()) as agent:
        text = yaml(agent.url, headers='{Authorization: "Bearer upstream"}')
        async with hub(text) as running, running.http(await running.key("agent:*")) as http:
            traced = {
                "cookie": "c=d",
                "x-api-key": "k",
                "traceparent": "00-1-2-01",
                "x-other": "o",
                "a2a-version": "1.0",
            }
            answered = await http.post(
                "/a2a/echo/", json=rpc("SendMessage", said("x")), headers={**traced, "a2a-extensions": "urn:x"}
            )
            assert answered.headers["a2a-extensions"] == "urn:x"
            assert not {"set-cookie", "www-authenticate"} & answered.headers.keys()
            sent = agent.calls[-1].headers
            assert sent["authorization"] == "Bearer upstream"
            assert (sent["traceparent"], sent["a2a-extensions"], sent["a2a-version"]) == ("00-1-2-01", "urn:x", "1.0")
            assert not {"cookie", "x-api-key", "x-other"} & sent.keys()
            assert all(one.headers["authorization"] == "Bearer upstream" for one in agent.seen)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, b"who are you", -32603),
        (403, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"x"}}', -32603),
        (500, b"Traceback: secret", -32603),
        (302, b"", -32603),
        (200, b"<html>hello</html>", -32006),
        (200, b'{"jsonrpc":"2.0","id":1}', -32006),
        (200, b'{"jsonrpc":"2.0","id":1,"result":"text"}', -32006),
        (400, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"x"}}', -32005),
    ],
)
@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
async def test_upstreams_failures_are_jsonrpc_errors_of_the_hub(
    hub: OpenHub, method: str, status: int, body: bytes, code: int
) -> None:
    async def answer(seen: Any, send: Any) -> None:
        await reply(send, body, status=status, headers={"location": "http://127.0.0.1:1/"})

    async with (
        rough_agent(answer, simple_card()) as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        answered = await http.post("/a2a/echo", json=rpc(method, said("x")))
        assert answered.status_code == 200
        assert "secret" not in answered.text
        assert agent.url not in answered.text
        assert json.loads(answered.text.removeprefix("data: "))["error"]["code"] == code


async def test_agent_that_is_down_is_named_without_its_address(hub: OpenHub) -> None:
    async with hub(yaml("http://127.0.0.1:9")) as running, running.http(await running.key("agent:*")) as http:
        answered = await http.post("/a2a/echo", json=rpc("SendMessage", said("x")))
        assert answered.status_code == 200
        assert answered.json()["error"]["code"] == -32603
        assert answered.json()["error"]["message"].startswith("echo: ")
        assert "127.0.0.1" not in answered.text
        assert (await http.get("/a2a/echo")).status_code == 502


async def test_stream_cut_in_the_middle_ends_with_one_error_event(hub: OpenHub) -> None:
    async def answer(seen: Any, send: Any) -> None:
        await start(send)
        first = {"jsonrpc": "2.0", "id": "s", "result": {"task": task("1", "TASK_STATE_WORKING")}}
        await write(send, b": hello\r\n\r\ndata: " + json.dumps(first).encode() + b'\r\n\r\ndata: {"half')
        raise ConnectionResetError

    async with (
        rough_agent(answer, simple_card()) as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        answered = await http.post("/a2a/echo", json=rpc("SendStreamingMessage", said("x"), "s"))
        events = [json.loads(line[6:]) for line in answered.text.splitlines() if line.startswith("data: ")]
        assert events[0]["result"]["task"]["id"] == "1"
        assert (events[1]["id"], events[1]["error"]["code"]) == ("s", -32006)
        assert len(events) == 2


async def test_whole_answer_to_a_stream_request_becomes_one_event(hub: OpenHub) -> None:
    async def answer(seen: Any, send: Any) -> None:
        await reply(send, json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"task": task("1")}}, indent=2).encode())

    async with (
        rough_agent(answer, simple_card()) as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        answered = await http.post("/a2a/echo", json=rpc("SendStreamingMessage", said("x")))
        assert answered.headers["content-type"] == "text/event-stream"
        assert json.loads(answered.text.partition("data: ")[2])["result"]["task"]["id"] == "1"


async def test_unary_call_is_recorded_also_when_its_client_has_left(hub: OpenHub) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def answer(seen: Any, send: Any) -> None:
        if seen.json["method"] == "SendMessage":
            arrived.set()
            await go.wait()
        await reply(send, {"jsonrpc": "2.0", "id": 1, "result": {"task": task("1")} if arrived.is_set() else None})

    async with (
        rough_agent(answer, simple_card()) as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        calling = asyncio.create_task(http.post("/a2a/echo", json=rpc("SendMessage", said("x"))))
        await arrived.wait()
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        go.set()
        async with asyncio.timeout(10):
            while True:
                listed = await http.post("/a2a/echo", json=rpc("ListTasks", {}))
                if listed.json()["result"]["totalSize"] == 1:
                    break


async def test_owners_survive_a_restart(hub: OpenHub) -> None:
    async with sdk_agent() as agent:
        async with hub(yaml(agent.url)) as running:
            key, other = await running.key("agent:*"), await running.key("agent:*")
            async with running.http(key) as http:
                made = (await http.post("/a2a/echo", json=rpc("SendMessage", said("a")))).json()["result"]["task"]
        async with hub(yaml(agent.url)) as running, running.http(key) as http, running.http(other) as stranger:
            body = rpc("GetTask", {"id": made["id"]})
            assert (await http.post("/a2a/echo", json=body)).json()["result"]["id"] == made["id"]
            assert (await stranger.post("/a2a/echo", json=body)).json()["error"]["code"] == -32001


async def test_unknown_and_forbidden_agents_look_the_same(hub: OpenHub) -> None:
    async with (
        sdk_agent() as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:x")) as http,
    ):
        for path in ("", "/", "/.well-known/agent-card.json"):
            answers = [await http.get(f"/a2a/{name}{path}") for name in ("echo", "none")]
            assert {answer.status_code for answer in answers} == {404}
        posts = [await http.post(f"/a2a/{name}", content=b"{") for name in ("echo", "none")]
        texts = [
            post.text.replace(post.headers["x-request-id"], "").replace(name, "NAME")
            for post, name in zip(posts, ("echo", "none"), strict=True)
        ]
        assert texts[0] == texts[1]
        assert posts[0].status_code == 404
        assert posts[0].json()["error"]["code"] == -32001


async def test_request_without_a_key_gets_401_and_a_challenge(hub: OpenHub) -> None:
    async with sdk_agent() as agent, hub(yaml(agent.url)) as running, running.http() as http:
        for answered in (await http.post("/a2a/echo", json={}), await http.get("/a2a/echo/.well-known/agent.json")):
            assert answered.status_code == 401
            assert answered.headers["www-authenticate"].startswith("Bearer")


async def test_public_card_is_open_and_nothing_else(hub: OpenHub) -> None:
    async with sdk_agent() as agent, hub(yaml(agent.url, card="public")) as running, running.http() as http:
        assert (await http.get("/a2a/echo/.well-known/agent-card.json")).status_code == 200
        assert (await http.get("/a2a/echo")).status_code == 200
        assert (await http.post("/a2a/echo", json=rpc("GetTask", {"id": "1"}))).status_code == 401


async def test_card_has_an_etag_and_the_hubs_addresses_only(hub: OpenHub) -> None:
    async with (
        sdk_agent() as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        card = await http.get("/a2a/echo/.well-known/agent-card.json")
        base = f"{running.url}/a2a/echo/"
        assert card.json()["url"] == base
        assert [one["url"] for one in card.json()["supportedInterfaces"]] == [base] * 4
        assert agent.url not in card.text
        assert card.headers["cache-control"].startswith("private")
        again = await http.get("/a2a/echo/.well-known/agent.json", headers={"if-none-match": card.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert len([one for one in agent.seen if one.method == "GET"]) == 1


async def test_extended_card_is_built_like_the_card(hub: OpenHub) -> None:
    async with (
        sdk_agent(extended=True) as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        client = await connect(running, http)
        card = await client.get_extended_agent_card(GetExtendedAgentCardRequest())
        assert {one.url for one in card.supported_interfaces} == {f"{running.url}/a2a/echo/"}
        body = {"jsonrpc": "2.0", "id": 1, "method": "agent/getAuthenticatedExtendedCard"}
        old = await http.post("/a2a/echo", json=body, headers={"a2a-version": "0.3"})
        assert old.json()["result"]["url"] == f"{running.url}/a2a/echo/"
        assert agent.url not in old.text


async def test_missing_extended_card_keeps_its_code(hub: OpenHub) -> None:
    async with (
        sdk_agent() as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        body = {"jsonrpc": "2.0", "id": 1, "method": "GetExtendedAgentCard", "params": {}}
        answered = await http.post("/a2a/echo", json=body)
        assert answered.json()["error"]["code"] in {-32004, -32007}


async def test_a_version_that_the_method_is_not_of_is_refused(hub: OpenHub) -> None:
    async with (
        sdk_agent("1.0") as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        wrong = await http.post("/a2a/echo", json=rpc("SendMessage", said("x")), headers={"a2a-version": "2.0"})
        assert wrong.json()["error"]["code"] == -32009
        query = await http.post("/a2a/echo?A2A-Version=0.3", json=rpc("SendMessage", said("x")))
        assert query.json()["error"]["code"] == -32009
        minor = await http.post("/a2a/echo", json=rpc("SendMessage", said("x")), headers={"a2a-version": "1.7"})
        assert "result" in minor.json()


async def test_agent_without_a_card_is_called_at_its_url(hub: OpenHub) -> None:
    async def answer(seen: Any, send: Any) -> None:
        await reply(send, {"jsonrpc": "2.0", "id": 1, "result": {"kind": "message", "messageId": "x"}})

    async with (
        rough_agent(answer) as agent,
        hub(yaml(f"{agent.url}/here")) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        assert "result" in (await http.post("/a2a/echo", json=rpc("message/send", said("x")))).json()
        assert agent.calls[-1].path == "/here"
        assert (await http.get("/a2a/echo")).status_code == 502


@pytest.mark.attack("2.2/30", "2.2/32")
async def test_card_that_names_another_origin_moves_no_credential(hub: OpenHub) -> None:
    async def answer(seen: Any, send: Any) -> None:
        await reply(send, {"jsonrpc": "2.0", "id": 1, "result": {"message": {"messageId": "x"}}})

    async with rough_agent(answer, simple_card()) as elsewhere:
        card = simple_card()(elsewhere.url)
        async with rough_agent(answer, card) as agent:
            text = yaml(agent.url, headers='{Authorization: "Bearer upstream"}')
            async with hub(text) as running, running.http(await running.key("agent:*")) as http:
                assert "result" in (await http.post("/a2a/echo", json=rpc("SendMessage", said("x")))).json()
                assert agent.calls[-1].path == "/rpc"
                assert not elsewhere.seen


async def test_unknown_method_and_wrong_http_method(hub: OpenHub) -> None:
    async with (
        sdk_agent() as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        unknown = await http.post("/a2a/echo", json=rpc("Dance", {}, "d"))
        assert (unknown.json()["id"], unknown.json()["error"]["code"]) == ("d", -32601)
        refused = await http.delete("/a2a/echo")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
        assert (await http.post("/a2a/echo/nowhere", json={})).status_code == 404


async def test_pace_of_the_key_holds_at_this_door(hub: OpenHub) -> None:
    async with (
        sdk_agent() as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*", requests_per_minute=1)) as http,
    ):
        assert "result" in (await http.post("/a2a/echo", json=rpc("SendMessage", said("x")))).json()
        refused = await http.post("/a2a/echo", json=rpc("SendMessage", said("x"), "q"))
        assert (refused.status_code, refused.json()["id"]) == (429, "q")
        assert int(refused.headers["retry-after"]) > 0


async def test_official_client_raises_task_not_found(hub: OpenHub) -> None:
    async with (
        sdk_agent() as agent,
        hub(yaml(agent.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        client = await connect(running, http)
        with pytest.raises(TaskNotFoundError):
            await client.get_task(GetTaskRequest(id="unknown"))
        with pytest.raises(TaskNotFoundError):
            await anext(client.subscribe(SubscribeToTaskRequest(id="unknown")))
