"""Where client and agent speak the same, each sees the other's bytes: what A2A does not know, and numbers as they were spelt.

What the hub must judge or keep for itself is judged and kept all the same, and even then nothing else is lost.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from a2a.types import a2a_pb2

from agents.grpc_wire import SERVICE
from agents.speech import SPEECHES, STREAMING, Operation, Speech
from agents.wire import OLD_METHODS
from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.peers.canned_agent import Canned, CannedAgent, Refused, canned_agent

speeches = pytest.mark.parametrize("speech", SPEECHES, ids=str)
HOOK = "http://127.0.0.1:9/hook"
CHAT = "chat-" + "1" * 31
"""An id of a context, as long as a UUID."""
OWN = "5f2d6c1e-8f5b-4b0e-9a53-0c5f3b1f7f2a"
UNKNOWN = b"\xfa\x3f\x05later"
"""Field 1023, which no message of A2A has."""

MESSAGES: dict[Speech, str] = {
    Speech("JSONRPC", "1.0"): '"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi", "later": 1e0}]',
    Speech("JSONRPC", "0.3"): '"messageId":"m","kind":"message","role":"user","parts":[{"kind":"text","text":"hi"}]',
    Speech("HTTP+JSON", "1.0"): '"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi", "later": 1e0}]',
    Speech("HTTP+JSON", "0.3"): '"message_id": "m", "role": "ROLE_USER", "content": [{"text": "hi", "later": 1e0}]',
}
PUSH = {
    Speech("JSONRPC", "1.0"): "taskPushNotificationConfig",
    Speech("JSONRPC", "0.3"): "pushNotificationConfig",
    Speech("HTTP+JSON", "1.0"): "taskPushNotificationConfig",
    Speech("HTTP+JSON", "0.3"): "pushNotification",
}
SENDS: tuple[Operation, ...] = ("SendMessage", "SendStreamingMessage")
OPERATIONS: tuple[Operation, ...] = ("SendMessage", "SendStreamingMessage", "GetTask", "CancelTask")


def is_grpc(speech: Speech) -> bool:
    return speech.binding == "GRPC"


def request(speech: Speech, operation: Operation, *, push: bool = False, **ids: str) -> bytes:
    """The body that a client posts: with members and spellings that no reader of A2A knows."""
    if is_grpc(speech):
        return _message(operation, ids, push=push)
    if operation in {"GetTask", "CancelTask"}:
        params = f'"id": "{ids["task"]}", "metadata": {{"n": 1E2}}' if operation == "CancelTask" else ""
        if speech.binding == "JSONRPC":
            params = f'"id": "{ids["task"]}", "later": 1e0'
    else:
        named = "".join(f', "{name}Id": "{value}"' for name, value in ids.items())
        name = "request" if speech == Speech("HTTP+JSON", "0.3") else "message"
        pushed = f', "{PUSH[speech]}": {{"url": "{HOOK}"}}' if push else ""
        params = (
            f'"{name}": {{{MESSAGES[speech]}, "later": [1.50, {{"x": 1E2}}]{named}}}'
            f', "configuration": {{"later": 1e0{pushed}}}, "later": 1e0'
        )
    if speech.binding == "JSONRPC":
        method = operation if speech.version == "1.0" else OLD_METHODS[operation]
        return f'{{ "jsonrpc": "2.0", "id": 7, "method": "{method}", "params": {{{params}}}}}'.encode()
    return f"{{ {params}}}".encode() if params else b""


def _message(operation: Operation, ids: dict[str, str], *, push: bool) -> bytes:
    if operation == "GetTask":
        return a2a_pb2.GetTaskRequest(id=ids["task"]).SerializeToString() + UNKNOWN
    if operation == "CancelTask":
        return a2a_pb2.CancelTaskRequest(id=ids["task"]).SerializeToString() + UNKNOWN
    sent = a2a_pb2.SendMessageRequest()
    sent.message.message_id, sent.message.role = "m", a2a_pb2.ROLE_USER
    sent.message.parts.add(text="hi").MergeFromString(UNKNOWN)
    sent.message.task_id, sent.message.context_id = ids.get("task", ""), ids.get("context", "")
    sent.configuration.MergeFromString(UNKNOWN)
    if push:
        sent.configuration.task_push_notification_config.url = HOOK
    return sent.SerializeToString() + UNKNOWN


def answer(speech: Speech, operation: Operation, context: str = "c") -> bytes:
    """What the agent says: a task, with members and spellings that no reader of A2A knows."""
    wrapped = operation in {"SendMessage", "SendStreamingMessage"}
    if is_grpc(speech):
        task = a2a_pb2.Task(id="t", context_id=context)
        task.status.state = a2a_pb2.TASK_STATE_INPUT_REQUIRED
        task.status.MergeFromString(UNKNOWN)
        kind = a2a_pb2.SendMessageResponse if operation == "SendMessage" else a2a_pb2.StreamResponse
        return (kind(task=task) if wrapped else task).SerializeToString() + UNKNOWN
    old = speech == Speech("JSONRPC", "0.3")
    kind_of = '"kind": "task", ' if old else ""
    state = "input-required" if old else "TASK_STATE_INPUT_REQUIRED"
    said = (
        f'{{{kind_of}"id": "t", "contextId": "{context}", "status": {{"state": "{state}", "x": 1e0}}, "later": 1.50}}'
    )
    if wrapped and not old:
        said = f'{{"task": {said}, "later": 1E2}}'
    return (f'{{ "id": 7, "jsonrpc": "2.0", "result": {said}}}' if speech.binding == "JSONRPC" else said).encode()


@dataclass
class Client:
    """A principal who writes and reads bytes in one speech."""

    speech: Speech
    http: httpx.AsyncClient
    channel: grpc.aio.Channel
    secret: str
    names: dict[str, str] = field(default_factory=dict)

    async def ask(self, operation: Operation, body: bytes, task: str = "t") -> bytes:
        """Send a body, and return that of the answer, or the data of the only event."""
        if is_grpc(self.speech):
            return await self._over_grpc(operation, body)
        url = "/a2a/echo"
        if self.speech.binding == "HTTP+JSON":
            verb = {"GetTask": f"tasks/{task}", "CancelTask": f"tasks/{task}:cancel"}.get(operation)
            verb = verb or ("message:send" if operation == "SendMessage" else "message:stream")
            url += f"/v1/{verb}" if self.speech.version == "0.3" else f"/{verb}"
        method = "GET" if not body else "POST"
        headers = {"content-type": "application/json", "a2a-version": self.speech.version, "user-agent": "python"}
        text = (await self.http.request(method, url, content=body, headers=headers)).content
        return re.sub(rb"(?s)^(id: \d+\n)?data: (.*?)\n\n$", rb"\2", text)

    async def _over_grpc(self, operation: Operation, body: bytes) -> bytes:
        metadata = (("authorization", f"Bearer {self.secret}"), ("a2a-version", "1.0"))
        path = f"/{SERVICE}/{operation}"
        tenant = a2a_pb2.SendMessageRequest(tenant="echo").SerializeToString()
        if operation in {"GetTask", "CancelTask"}:
            tenant = a2a_pb2.GetTaskRequest(tenant="echo").SerializeToString()
        try:
            if operation in STREAMING:
                call: Any = self.channel.unary_stream(path)(tenant + body, metadata=metadata)
                (event,) = [event async for event in call]
                return bytes(event)
            return bytes(await self.channel.unary_unary(path)(tenant + body, metadata=metadata))
        except grpc.aio.AioRpcError as error:
            return (error.details() or "").encode()


@asynccontextmanager
async def client(running: Hub, speech: Speech) -> AsyncIterator[Client]:
    secret = await running.key("agent:echo")
    assert running.grpc
    async with running.http(secret) as http, grpc.aio.insecure_channel(running.grpc) as channel:
        yield Client(speech, http, channel, secret)


@asynccontextmanager
async def scene(hub: OpenHub, speech: Speech, canned: Canned) -> AsyncIterator[tuple[CannedAgent, Hub, Client]]:
    def under_its_id(body: bytes) -> bytes:
        said = canned(body)
        return said.replace(b'"id": 7', b'"id": %d' % json.loads(body)["id"]) if speech.binding == "JSONRPC" else said

    async with canned_agent(speech, under_its_id) as agent:
        yaml = f"agents:\n  echo: {{url: '{agent.url}'}}\n"
        async with (
            hub(yaml, setting="egress_allow: [127.0.0.0/8]", grpc=True) as running,
            client(running, speech) as alice,
        ):
            yield agent, running, alice


@speeches
async def test_each_side_sees_the_bytes_of_the_other(hub: OpenHub, speech: Speech) -> None:
    operation: Operation = "SendMessage"
    async with scene(hub, speech, lambda _: answer(speech, operation, OWN)) as (agent, _, alice), asyncio.timeout(60):
        for operation in OPERATIONS:
            body = request(speech, operation, **({"task": "t"} if operation in {"GetTask", "CancelTask"} else {}))
            assert await alice.ask(operation, body) == answer(speech, operation, OWN), operation
            sent = agent.bodies.pop()
            if speech.binding == "JSONRPC" and operation not in SENDS:  # written anew, but for what decides nothing
                assert lasting(sent) == lasting(body)
            else:
                assert sent == body, operation
        assert agent.bodies == []


@speeches
async def test_what_must_be_taken_out_is_and_nothing_else_is_lost(hub: OpenHub, speech: Speech) -> None:
    operation: Operation = "SendMessage"
    async with scene(hub, speech, lambda _: answer(speech, operation)) as (agent, _, alice), asyncio.timeout(60):
        for operation in SENDS:
            said = await alice.ask(operation, request(speech, operation, push=True))
            assert HOOK.encode() not in agent.bodies[-1]
            assert lasting(agent.bodies[-1]) == lasting(request(speech, operation)), operation
            assert lasting(said) == lasting(answer(speech, operation)), operation


@speeches
async def test_ids_are_judged_all_the_same(hub: OpenHub, speech: Speech) -> None:
    operation: Operation = "SendMessage"
    async with (
        scene(hub, speech, lambda _: answer(speech, operation)) as (agent, running, alice),
        client(running, speech) as bob,
        asyncio.timeout(60),
    ):
        await alice.ask(operation, request(speech, operation))
        agent.bodies.clear()
        for operation in OPERATIONS:
            foreign = await bob.ask(operation, request(speech, operation, task="t"))
            assert b"No task" in foreign, operation
        for operation in SENDS:
            assert b"No context" in await bob.ask(operation, request(speech, operation, context="c")), operation
        assert agent.bodies == []
        for operation in SENDS:  # an answer with somebody else's task is shown to nobody
            assert b"of somebody else" in await bob.ask(operation, request(speech, operation)), operation
        async with running.http(ADMIN_KEY) as admin:  # nor are ids in what he has used
            used = (await admin.get("/api/usage?by=principal,session")).json()["items"]
        assert sorted((one["session"], one["calls"]) for one in used if one["session"]) == [("c", 1)]


@speeches
async def test_agent_that_takes_uuids_only_for_contexts_is_told_one_and_nothing_else_changes(
    hub: OpenHub, speech: Speech
) -> None:
    operation: Operation = "SendMessage"

    def canned(body: bytes) -> bytes:
        if CHAT.encode() in body:
            raise Refused
        (context,) = UUID.findall(body)
        return answer(speech, operation, context.decode())

    async with scene(hub, speech, canned) as (agent, _, alice), asyncio.timeout(60):
        for operation in SENDS:
            body = request(speech, operation, context=CHAT)
            said = await alice.ask(operation, body)
            assert lasting(said) == lasting(answer(speech, operation, CHAT)), operation
            assert lasting(UUID.sub(CHAT.encode(), agent.bodies[-1])) == lasting(body), operation


@pytest.mark.parametrize(
    ("user_agent", "sent", "got"),
    [("python-httpx/0.28", "WVdKag==", "WVdKag=="), ("node", "YWJj", "YWJj"), ("node", "WVdKag==", "WVdKag==")],
)
async def test_files_of_clients_of_0_3_are_read_as_they_are_written_to(
    hub: OpenHub, user_agent: str, sent: str, got: str
) -> None:
    """A file whose content is itself base64 is encoded twice only by who encodes all files twice."""
    speech = Speech("HTTP+JSON", "0.3")
    twice = sent if user_agent != "node" else base64.b64encode(sent.encode()).decode()

    def canned(body: bytes) -> bytes:
        part = json.dumps(json.loads(body)["message"]["content"][0])
        return (
            f'{{"message": {{"messageId": "a", "role": "ROLE_AGENT", "contextId": "c", "content": [{part}]}}}}'.encode()
        )

    async with scene(hub, speech, canned) as (agent, _, alice), asyncio.timeout(60):
        part = {"file": {"fileWithBytes": sent, "mimeType": "text/plain", "later": 1}}
        body = {"message": {"messageId": "m", "role": "ROLE_USER", "content": [part]}}
        for path in ("send", "stream"):
            headers = {"user-agent": user_agent}
            text = (await alice.http.post(f"/a2a/echo/v1/message:{path}", json=body, headers=headers)).text
            (shown,) = json.loads(text.rpartition("data: ")[2])["message"]["content"]
            assert shown["file"] == {**part["file"], "fileWithBytes": got}
            (told,) = json.loads(agent.bodies[-1])["message"]["content"]
            assert told["file"] == {**part["file"], "fileWithBytes": twice}


async def test_answer_over_grpc_that_is_not_protobuf_is_the_agents_fault(hub: OpenHub) -> None:
    speech = Speech("GRPC", "1.0")
    async with scene(hub, speech, lambda _: b"\xff\xff") as (_, _, alice), asyncio.timeout(60):
        for operation in SENDS:
            assert b"cannot be read as protobuf" in await alice.ask(operation, request(speech, operation))


UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f-]{27}")


def lasting(data: bytes) -> object:
    """What must last when something is written anew: JSON without its spaces, in any order and under either spelling of a
    name, and without the id of a request; protobuf as it is."""
    try:
        said = json.loads(data, parse_float=str, parse_int=str)
    except ValueError:
        return data
    if "jsonrpc" in said:
        del said["id"]
    text = json.dumps(said, sort_keys=True)
    for old, new in (("request", "message"), ("message_id", "messageId"), ("context_id", "contextId")):
        text = text.replace(f'"{old}"', f'"{new}"')
    return sorted(text)
