"""Two tenants of one hub: what is one's is to the other what does not exist, byte for byte but the names asked for.

OWASP MCP Top 10 and A2A IDOR reports (litellm#28664, a2a-go#351). `test_tenants_in_every_speech` compares all of A2A.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.attacks.test_legacy_mcp import session
from tests.conftest import Hub, OpenHub
from tests.peers import mcp_servers
from tests.peers.a2a_agent import Peer, sdk_agent
from tests.peers.mcp_hub import headers as modern_headers
from tests.peers.mcp_hub import message as modern
from tests.peers.mcp_hub import open_mcp_hub


def rpc(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


def new(text: str, **members: Any) -> dict[str, Any]:
    return {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}], **members}}


def old(text: str, **members: Any) -> dict[str, Any]:
    part = {"kind": "text", "text": text}
    return {"message": {"kind": "message", "messageId": "m", "role": "user", "parts": [part], **members}}


PUSH = {"url": "http://127.0.0.1:9/hook"}

ON_TASKS: dict[str, Any] = {
    "GetTask": lambda task: rpc("GetTask", {"id": task}),
    "GetTask with history": lambda task: rpc("GetTask", {"id": task, "historyLength": 5}),
    "CancelTask": lambda task: rpc("CancelTask", {"id": task}),
    "SubscribeToTask": lambda task: rpc("SubscribeToTask", {"id": task}),
    "SendMessage taskId": lambda task: rpc("SendMessage", new("x", taskId=task)),
    "SendStreamingMessage taskId": lambda task: rpc("SendStreamingMessage", new("x", taskId=task)),
    "SendMessage reference": lambda task: rpc("SendMessage", new("x", referenceTaskIds=[task])),
    "SendStreamingMessage reference": lambda task: rpc("SendStreamingMessage", new("x", referenceTaskIds=[task])),
    "CreateTaskPushNotificationConfig": lambda task: rpc("CreateTaskPushNotificationConfig", {"taskId": task, **PUSH}),
    "GetTaskPushNotificationConfig": lambda task: rpc("GetTaskPushNotificationConfig", {"taskId": task, "id": "1"}),
    "ListTaskPushNotificationConfigs": lambda task: rpc("ListTaskPushNotificationConfigs", {"taskId": task}),
    "DeleteTaskPushNotificationConfig": lambda task: rpc(
        "DeleteTaskPushNotificationConfig", {"taskId": task, "id": "1"}
    ),
    "tasks/get": lambda task: rpc("tasks/get", {"id": task}),
    "tasks/cancel": lambda task: rpc("tasks/cancel", {"id": task}),
    "tasks/resubscribe": lambda task: rpc("tasks/resubscribe", {"id": task}),
    "message/send taskId": lambda task: rpc("message/send", old("x", taskId=task)),
    "message/stream taskId": lambda task: rpc("message/stream", old("x", taskId=task)),
    "message/send reference": lambda task: rpc("message/send", old("x", referenceTaskIds=[task])),
    "message/stream reference": lambda task: rpc("message/stream", old("x", referenceTaskIds=[task])),
    "tasks/pushNotificationConfig/set": lambda task: rpc(
        "tasks/pushNotificationConfig/set", {"taskId": task, "pushNotificationConfig": PUSH}
    ),
    "tasks/pushNotificationConfig/get": lambda task: rpc("tasks/pushNotificationConfig/get", {"id": task}),
    "tasks/pushNotificationConfig/list": lambda task: rpc("tasks/pushNotificationConfig/list", {"id": task}),
    "tasks/pushNotificationConfig/delete": lambda task: rpc(
        "tasks/pushNotificationConfig/delete", {"id": task, "pushNotificationConfigId": "1"}
    ),
    "ListTasks of a context": lambda context: rpc("ListTasks", {"contextId": context}),
}


@dataclass
class Tenant:
    """One of the two, with a task that waits for input."""

    http: httpx.AsyncClient
    task: str = ""
    context: str = ""

    async def begin(self, dialect: str) -> None:
        """Start the task."""
        is_new = dialect == "1.0"
        body = rpc("SendMessage", new("ask")) if is_new else rpc("message/send", old("ask"))
        result = (await self.http.post("/a2a/echo", json=body)).json()["result"]
        found = result["task"] if is_new else result
        self.task, self.context = found["id"], found["contextId"]


@dataclass
class Tenants:
    """The scene."""

    hub: Hub
    agent: Peer
    alice: Tenant
    bob: Tenant


@pytest.fixture(params=["1.0", "0.3"])
async def tenants(request: pytest.FixtureRequest, hub: OpenHub) -> AsyncIterator[Tenants]:
    async with (
        sdk_agent() as agent,
        hub(f"agents:\n  echo: {{url: '{agent.url}'}}\n") as running,
        running.http(await running.key("agent:*", "tool:*", "model:*")) as alice,
        running.http(await running.key("agent:*", "tool:*", "model:*")) as bob,
    ):
        scene = Tenants(running, agent, Tenant(alice), Tenant(bob))
        await scene.alice.begin(request.param)
        await scene.bob.begin(request.param)
        yield scene


def anonymous(answer: httpx.Response, *asked: str) -> tuple[int, str, list[str]]:
    """An answer without what differs between any two: the id asked for, and the request's own."""
    text = answer.text.replace(answer.headers["x-request-id"], "REQUEST")
    for name in asked:
        text = text.replace(name, "ASKED")
    return answer.status_code, text, sorted(answer.headers)


@pytest.mark.attack("2.1/14", "2.2/33")
async def test_a_tenants_list_holds_their_own_tasks_whatever_they_ask(tenants: Tenants) -> None:
    own = (await tenants.bob.http.post("/a2a/echo", json=rpc("ListTasks", {}))).json()["result"]
    assert [task["id"] for task in own["tasks"]] == [tenants.bob.task]
    assert own["totalSize"] == 1
    page = (await tenants.alice.http.post("/a2a/echo", json=rpc("ListTasks", {"pageSize": 1}))).json()["result"]
    for asked in (
        {"pageToken": page["nextPageToken"]} if page["nextPageToken"] else {},
        {"status": "TASK_STATE_INPUT_REQUIRED"},
        {"statusTimestampAfter": "1970-01-01T00:00:00Z"},
        {"contextId": tenants.alice.context, "pageSize": 100},
    ):
        answer = await tenants.bob.http.post("/a2a/echo", json=rpc("ListTasks", asked))
        assert tenants.alice.task not in answer.text.replace(tenants.alice.context, ""), asked


async def test_the_owner_still_reaches_what_the_other_tried_to_take(tenants: Tenants) -> None:
    for operation in ON_TASKS.values():
        await tenants.bob.http.post("/a2a/echo", json=operation(tenants.alice.task))
    for task in (tenants.alice.task, tenants.alice.context):
        await tenants.bob.http.post("/a2a/echo", json=rpc("SendMessage", new("x", contextId=task)))
    for method in ("GetTask", "tasks/get"):
        answer = await tenants.alice.http.post("/a2a/echo", json=rpc(method, {"id": tenants.alice.task}))
        assert answer.json()["result"]["id"] == tenants.alice.task
    canceled = await tenants.alice.http.post("/a2a/echo", json=rpc("CancelTask", {"id": tenants.alice.task}))
    assert canceled.json()["result"]["status"]["state"] == "TASK_STATE_CANCELED"


@pytest.mark.parametrize(
    "value", [None, "", 0, 1.5, True, [], {}, ["t"], "x" * 600, "\x00", "' OR 1=1 --", "%", "../x"]
)
@pytest.mark.attack("2.1/13", "2.1/14", "2.2/27")
async def test_an_id_of_any_kind_opens_nothing(tenants: Tenants, value: Any) -> None:
    before = len(tenants.agent.calls)
    for name, operation in ON_TASKS.items():
        if "Send" in name or "message/" in name or "List" in name:
            continue  # there an absent id starts a new task, or lists one's own
        answer = await tenants.bob.http.post("/a2a/echo", json=operation(value))
        assert '"error"' in answer.text, name
        assert tenants.alice.task not in answer.text
    assert len(tenants.agent.calls) == before


YAML = """
agents:
  ours: {{url: "{agent}"}}
  theirs: {{url: "{agent}"}}
mcpServers:
  ours: {{url: "{mcp}"}}
  theirs: {{url: "{mcp}"}}
models:
  ours: {{provider: offline}}
  theirs: {{provider: offline}}
"""


def requests(name: str) -> Iterator[tuple[str, str, Any, dict[str, str]]]:
    """Every way to ask for the agent, server, tool, model or key `name`."""
    yield "GET", f"/a2a/{name}", None, {}
    yield "GET", f"/a2a/{name}/.well-known/agent-card.json", None, {}
    yield "POST", f"/a2a/{name}", rpc("SendMessage", new("x")), {}
    yield "POST", f"/a2a/{name}/", rpc("message/stream", old("x")), {}
    yield "GET", f"/v1/models/{name}", None, {}
    for stream in (False, True):
        asked = {"model": name, "messages": [{"role": "user", "content": "x"}], "stream": stream}
        yield "POST", "/v1/chat/completions", asked, {}
        tool = {"type": "mcp", "server_label": "x", "server_url": f"hub/mcp/{name}", "require_approval": "never"}
        yield "POST", "/v1/chat/completions", {**asked, "model": "ours", "tools": [tool]}, {}
        yield "POST", "/v1/chat/completions", {**asked, "tools": [{**tool, "server_url": "hub/mcp/ours"}]}, {}
    yield "POST", f"/mcp/{name}", modern("tools/list"), modern_headers("tools/list")
    for path, tool_name in (("/mcp", f"{name}__echo"), ("/mcp/ours", f"{name}__echo"), (f"/mcp/{name}", "echo")):
        call = modern("tools/call", {"name": tool_name, "arguments": {"text": "x"}})
        yield "POST", path, call, modern_headers("tools/call", tool_name)
    for collection in ("keys", "agents", "mcp-servers", "models"):
        for method in ("GET", "PATCH", "DELETE"):
            yield method, f"/api/{collection}/{name}", {} if method == "PATCH" else None, {}


@pytest.mark.attack("2.1/13", "2.1/16", defence="registry.access:Grants.allow")
async def test_what_is_not_granted_is_answered_like_what_does_not_exist(tmp_path: Path) -> None:
    async with (
        sdk_agent() as agent,
        mcp_servers.dual_era() as peer,
        open_mcp_hub(tmp_path, YAML.format(agent=agent.url, mcp=peer.url)) as running,
        running.http(await running.key("agent:ours", "tool:ours__*", "model:ours")) as http,
    ):
        await running.listed("ours__echo", "theirs__echo")
        for taken, absent in zip(requests("theirs"), requests("nobodys"), strict=True):
            answers = []
            for (method, path, body, headers), name in ((taken, "theirs"), (absent, "nobodys")):
                answer = await http.request(method, path, json=body, headers=headers)
                answers.append(anonymous(answer, name))
                assert answer.status_code >= 400, path
            assert answers[0] == answers[1], taken
        shown = [
            await http.get("/v1/models"),
            await http.post("/mcp", json=modern("tools/list"), headers=modern_headers("tools/list")),
        ]
        assert all("ours" in answer.text and "theirs" not in answer.text for answer in shown)
        assert not agent.calls
        assert not peer.calls


@pytest.mark.attack("2.1/15", "2.2/19", defence="mcp_bridge.server:LegacyServer.session")
async def test_a_session_of_another_tenant_is_an_unknown_one(tmp_path: Path) -> None:
    async with (
        mcp_servers.dual_era() as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: '{peer.url}'}}}}\n") as running,
        running.http(await running.key("tool:*")) as alice,
        running.http(await running.key("tool:*")) as bob,
    ):
        await running.listed("peer__echo")
        headers = await session(alice)
        unknown = {**headers, "mcp-session-id": re.sub(r"\w", "0", headers["mcp-session-id"])}
        for body in (
            rpc("tools/list", {}),
            rpc("ping", {}),
            rpc("tools/call", {"name": "peer__echo", "arguments": {"text": "x"}}),
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        ):
            theirs = await bob.post("/mcp", json=body, headers=headers)
            nobodys = await bob.post("/mcp", json=body, headers=unknown)
            assert anonymous(theirs) == anonymous(nobodys)
            assert theirs.status_code == 404
        assert not peer.calls
