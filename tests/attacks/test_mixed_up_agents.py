"""Agents that mix up whom they talk to: what is one client's is not shown to another, whatever the agent answers.

The agent is a fake: none of the real ones makes these mistakes on demand.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.conftest import Hub, OpenHub
from tests.peers.a2a_agent import Seen, reply, rough_agent, simple_card, start, write
from tests.peers.webhook import webhook

SECRET = "what Alice said"


def task(task_id: str, context_id: str, state: str = "TASK_STATE_WORKING", **members: Any) -> dict[str, Any]:
    status = {"state": state, "timestamp": "2026-01-01T00:00:00Z"}
    return {"id": task_id, "contextId": context_id, "status": status, **members}


def said(text: str, **members: Any) -> dict[str, Any]:
    return {"messageId": text, "role": "ROLE_AGENT", "parts": [{"text": text}], **members}


def update(task_id: str, context_id: str) -> dict[str, Any]:
    status = {"state": "TASK_STATE_WORKING", "message": said(SECRET)}
    return {"statusUpdate": {"taskId": task_id, "contextId": context_id, "status": status}}


def piece(task_id: str, context_id: str) -> dict[str, Any]:
    artifact = {"artifactId": "a", "parts": [{"text": SECRET}]}
    return {"artifactUpdate": {"taskId": task_id, "contextId": context_id, "artifact": artifact}}


ALICES = task("a", "ca", history=[said(SECRET)])
MIXED = task("b", "ca", history=[said(SECRET)])
BOBS = task("b", "cb")
NEW = task("b2", "cb2")


@dataclass
class Rough:
    """What the agent answers next: results by method, the last for ever."""

    results: dict[str, list[Any]] = field(default_factory=dict)
    callback: dict[str, Any] = field(default_factory=dict)
    """The push configuration that it was given."""

    async def __call__(self, seen: Seen, send: Any) -> None:
        method, params = seen.json["method"], seen.json.get("params")
        if method == "CreateTaskPushNotificationConfig":
            self.callback = params
        results = self.results.get(method)
        if results is None:
            error = {"code": -32601, "message": "no"}
            await reply(send, {"jsonrpc": "2.0", "id": seen.json["id"], "error": error})
        elif method in {"SendStreamingMessage", "SubscribeToTask"}:
            await start(send)
            for result in results:
                event = {"jsonrpc": "2.0", "id": seen.json["id"], "result": result}
                await write(send, b"data: " + json.dumps(event).encode() + b"\n\n")
            await send({"type": "http.response.body"})
        else:
            await reply(send, {"jsonrpc": "2.0", "id": seen.json["id"], "result": results[0]})


@dataclass
class Scene:
    agent: Rough
    hub: Hub
    alice: httpx.AsyncClient
    bob: httpx.AsyncClient


def message(**members: Any) -> dict[str, Any]:
    return {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}], **members}}


async def ask(http: httpx.AsyncClient, method: str, params: dict[str, Any], binding: str = "JSONRPC") -> str:
    """The whole answer; a stream is read to its end."""
    async with asyncio.timeout(20):
        if binding == "JSONRPC":
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            return (await http.post("/a2a/echo", json=body)).text
        match method:
            case "SendMessage" | "SendStreamingMessage":
                path = "message:send" if method == "SendMessage" else "message:stream"
                return (await http.post(f"/a2a/echo/{path}", json=params)).text
            case "ListTasks":
                return (await http.get("/a2a/echo/tasks")).text
            case "GetTask":
                return (await http.get(f"/a2a/echo/tasks/{params['id']}")).text
            case _:
                verb = {"CancelTask": "cancel", "SubscribeToTask": "subscribe"}[method]
                return (await http.post(f"/a2a/echo/tasks/{params['id']}:{verb}", json={})).text


@asynccontextmanager
async def opened(hub: OpenHub, *, push: bool = False) -> AsyncIterator[Scene]:
    agent = Rough()

    def card(url: str) -> dict[str, Any]:
        made = simple_card("1.0")(url)
        made["capabilities"]["pushNotifications"] = push
        return made

    async with (
        rough_agent(agent, card) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n", setting="egress_allow: [127.0.0.0/8]") as running,
        running.http(await running.key("agent:*")) as alice,
        running.http(await running.key("agent:*")) as bob,
    ):
        for http, result in ((alice, ALICES), (bob, BOBS)):
            agent.results = {"SendStreamingMessage": [{"task": result}], "GetTask": [result]}
            assert result["id"] in await ask(http, "SendStreamingMessage", message())
        yield Scene(agent, running, alice, bob)


CASES: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("GetTask", {"id": "b"}, [ALICES]),
    ("GetTask", {"id": "b"}, [MIXED]),
    ("CancelTask", {"id": "b"}, [ALICES]),
    ("CancelTask", {"id": "b"}, [MIXED]),
    ("SendMessage", message(taskId="b"), [{"task": ALICES}]),
    ("SendMessage", message(taskId="b"), [{"task": MIXED}]),
    ("SendMessage", message(), [{"task": ALICES}]),
    ("SendMessage", message(), [{"message": said(SECRET, contextId="ca")}]),
    ("SendMessage", message(), [{"message": said(SECRET, taskId="a")}]),
    ("SendStreamingMessage", message(), [{"task": ALICES}]),
    ("SendStreamingMessage", message(), [{"message": said(SECRET, contextId="ca")}]),
    ("SendStreamingMessage", message(), [update("a", "ca")]),
    ("SendStreamingMessage", message(), [{"task": NEW}, {"task": ALICES}]),
    ("SendStreamingMessage", message(), [{"task": NEW}, update("a", "ca")]),
    ("SendStreamingMessage", message(), [{"task": NEW}, update("b2", "ca")]),
    ("SendStreamingMessage", message(), [{"task": NEW}, piece("a", "ca")]),
    ("SendStreamingMessage", message(), [{"task": NEW}, piece("b2", "ca")]),
    ("SendStreamingMessage", message(), [{"task": NEW}, {"message": said(SECRET, contextId="ca")}]),
    ("SendStreamingMessage", message(), [{"task": NEW}, {"message": said(SECRET, taskId="a")}]),
    ("SubscribeToTask", {"id": "b"}, [{"task": ALICES}]),
    ("SubscribeToTask", {"id": "b"}, [{"task": MIXED}]),
    ("SubscribeToTask", {"id": "b"}, [update("a", "ca")]),
    ("SubscribeToTask", {"id": "b"}, [{"task": BOBS}, {"task": ALICES}]),
    ("SubscribeToTask", {"id": "b"}, [{"task": BOBS}, update("a", "ca")]),
    ("SubscribeToTask", {"id": "b"}, [{"task": BOBS}, piece("b", "ca")]),
]


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
@pytest.mark.parametrize(("method", "params", "results"), CASES)
@pytest.mark.attack("2.1/38", "2.2/36")
async def test_what_an_agent_shows_of_somebody_else_is_not_passed_on(
    hub: OpenHub, binding: str, method: str, params: dict[str, Any], results: list[Any]
) -> None:
    async with opened(hub) as scene:
        scene.agent.results = {method: results, "GetTask": [task("b", "cb", "TASK_STATE_COMPLETED")]}
        if method == "GetTask":
            scene.agent.results[method] = results
        answer = await ask(scene.bob, method, params, binding)
        assert SECRET not in answer
        assert '"ca"' not in answer
        scene.agent.results = {"GetTask": [ALICES]}
        assert SECRET in await ask(scene.alice, "GetTask", {"id": "a"}, binding)


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
@pytest.mark.parametrize("shown", [ALICES, MIXED], ids=["task", "context"])
@pytest.mark.attack("2.2/33")
async def test_a_list_shows_no_task_that_an_agent_mixed_up(hub: OpenHub, binding: str, shown: Any) -> None:
    async with opened(hub) as scene:
        scene.agent.results = {"GetTask": [shown], "ListTasks": [{"tasks": [ALICES, BOBS]}]}
        assert SECRET not in await ask(scene.bob, "ListTasks", {}, binding)


@pytest.mark.attack("2.1/39", "2.2/35")
async def test_a_callback_tells_of_its_own_task_and_context_only(hub: OpenHub) -> None:
    async with opened(hub, push=True) as scene, webhook() as hook:
        scene.agent.results |= {"CreateTaskPushNotificationConfig": [{}], "GetTask": [BOBS]}
        config = {"taskId": "b", "id": "c", "url": hook.url}
        assert "result" in await ask(scene.bob, "CreateTaskPushNotificationConfig", config)
        given = scene.agent.callback
        async with scene.hub.http() as agent:
            headers = {"x-a2a-notification-token": given["token"]}
            for event in (
                {"task": ALICES},
                {"task": MIXED},
                update("a", "ca"),
                update("b", "ca"),
                piece("b", "ca"),
                {"message": said(SECRET, taskId="b", contextId="ca")},
            ):
                answer = await agent.post(given["url"], json=event, headers=headers)
                assert (answer.status_code, "No path" in answer.text) == (404, True), (event, answer.text)
            done = {"task": task("b", "cb", "TASK_STATE_COMPLETED")}
            assert (await agent.post(given["url"], json=done, headers=headers)).status_code == 202
        await hook.wait(1)
        while "COMPLETED" not in hook.came[-1].body.decode():
            await hook.wait(len(hook.came) + 1)
        assert all(SECRET.encode() not in notice.body for notice in hook.came)
