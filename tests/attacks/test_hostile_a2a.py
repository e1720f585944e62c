"""Hostile parameters and agents on the A2A door, in every binding: each gets an error of its protocol, nothing hangs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agents.speech import SPEECHES
from tests.conftest import OpenHub
from tests.peers.a2a_agent import reply, rough_agent, simple_card, start, task, write
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.http_peer import always, listening

ODD: list[Any] = [None, 1, "x", [], ["x"], {}, {"id": ["x"]}, {"id": {"a": 1}}, {"message": 5}, {"message": {}}]
MORE: list[Any] = [
    {"message": {"taskId": ["x"], "parts": []}},
    {"message": {"parts": 5, "role": 7}, "configuration": "x"},
    {"message": {"parts": [5]}, "configuration": {"taskPushNotificationConfig": 5}},
    {"message": {"parts": [{"text": "x"}]}, "configuration": {"taskPushNotificationConfig": {"url": ["x"]}}},
    {"taskId": ["x"]},
    {"taskId": "x", "id": {"y": 1}},
]
METHODS = ["SendMessage", "SendStreamingMessage", "GetTask", "ListTasks", "CancelTask", "SubscribeToTask"]
METHODS += ["GetExtendedAgentCard", "CreateTaskPushNotificationConfig", "message/send", "message/stream", "tasks/get"]
METHODS += ["tasks/list", "tasks/resubscribe", "tasks/pushNotificationConfig/set", "tasks/pushNotificationConfig/get"]


@pytest.mark.parametrize("speech", SPEECHES, ids=str)
@pytest.mark.attack("2.2/32")
@pytest.mark.attack("2.2/13", defence="registry.judged:read_object")
async def test_odd_parameters_are_refused_or_relayed_and_break_nothing(hub: OpenHub, speech: Any) -> None:
    async with (
        open_agent(speech) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        for method in METHODS:
            for params in ODD + MORE:
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                answer = await http.post("/a2a/echo", json=body, headers={"traceparent": b"\xe9"})
                assert answer.status_code == 200, (method, params, answer.text)
                assert "The hub failed" not in answer.text, (method, params, answer.text)


@pytest.mark.parametrize("path", ["message:send", "message:stream", "v1/message:send", "v1/message:stream"])
async def test_odd_bodies_over_http_json_are_refused(hub: OpenHub, path: str) -> None:
    async with (
        open_agent(SPEECHES[0]) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        for body in ODD + MORE:
            answer = await http.post(f"/a2a/echo/{path}", json=body)
            assert answer.status_code in {200, 400, 404}, (body, answer.text)
        large = await http.post(f"/a2a/echo/{path}", content=b"x", headers={"content-type": "text/plain"})
        assert large.status_code == 415
        assert "jsonrpc" not in large.text


async def test_an_event_that_only_some_can_read_does_not_spoil_its_task(hub: OpenHub) -> None:
    odd = {"artifactUpdate": {"taskId": "1", "contextId": "c", "artifact": {"artifactId": "a", "parts": [{}]}}}

    async def answer(seen: Any, send: Any) -> None:
        if seen.json["method"] == "SendStreamingMessage":
            await start(send)
            working = {**task("1"), "status": {"state": "TASK_STATE_WORKING"}}
            for result in ({"task": working}, odd):
                event = {"jsonrpc": "2.0", "id": 1, "result": result}
                await write(send, b"data: " + json.dumps(event).encode() + b"\n\n")
            await send({"type": "http.response.body"})
        elif seen.json["method"] == "GetTask":
            await reply(send, {"jsonrpc": "2.0", "id": 1, "result": task("1")})
        else:
            await reply(send, {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no"}})

    async with (
        rough_agent(answer, simple_card()) as agent,
        hub(f"agents:\n  echo: {{url: {agent.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": message}}
        assert "id: 2" in (await http.post("/a2a/echo", json=body)).text
        again = {"jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask", "params": {"id": "1"}}
        answered = await http.post("/a2a/echo", json=again, headers={"last-event-id": "2"})
        assert "TASK_STATE_COMPLETED" in answered.text


BREAKING = [
    b"urn:x\rset-cookie: a=b",
    b"urn:x\nset-cookie: a=b",
    b"urn:x\r\n set-cookie: a=b",
    b"urn:x\0",
    b"urn:x\x01",
]


@pytest.mark.parametrize("value", BREAKING)
@pytest.mark.attack("2.1/22")
async def test_extensions_that_would_leave_their_header_go_neither_way(hub: OpenHub, value: bytes) -> None:
    answer = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"task": task("t")}}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(answer)
    async with listening(always(head + b"a2a-extensions: " + value + b"\r\n\r\n" + answer, close=True)) as peer:
        yaml = f"agents:\n  echo: {{url: '{peer.url}'}}\n"
        async with hub(yaml) as running:
            params = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}}
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}).encode()
            key = (await running.key("agent:*")).encode()
            told = await _raw(running.url, key, b"", body)
            assert b"its answer is not HTTP/1.1" in told
            assert b"set-cookie" not in told
            asked = len(peer.requests)
            assert (await _raw(running.url, key, b"a2a-extensions: " + value + b"\r\n", body)).startswith(
                b"HTTP/1.1 400 "
            )
            assert len(peer.requests) == asked


async def _raw(url: str, key: bytes, header: bytes, body: bytes) -> bytes:
    """Post with a header line as it stands, and return the whole answer."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"POST /a2a/echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer " + key
    writer.write(
        head + b"\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (header, len(body), body)
    )
    async with asyncio.timeout(20):
        told = await reader.read()
    writer.close()
    return told
