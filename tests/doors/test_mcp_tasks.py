"""Tasks that a server makes of calls, followed through the hub (extension `io.modelcontextprotocol/tasks`, 2026-07-28)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import MCPError

from tests.peers.mcp_follower import ABLE, OVER, Follower
from tests.peers.mcp_hub import META, McpHub, headers, open_mcp_hub
from tests.peers.mcp_servers import Peer, modern, scripted
from tests.peers.mcp_tasks import TASKS, TaskTools, making_tasks

ROOT = Path(__file__).parents[2]
YAML = "mcpServers:\n  peer: {{url: {url}, headers: {{authorization: Bearer very-secret-token}}}}\n"


@asynccontextmanager
async def hub_of(directory: Path) -> AsyncIterator[tuple[McpHub, Peer, TaskTools]]:
    """A hub before `peer`, a server that makes tasks."""
    async with making_tasks() as (peer, tools), open_mcp_hub(directory, YAML.format(url=peer.url)) as hub:
        await hub.listed("peer__link")
        yield hub, peer, tools


async def test_a_call_becomes_a_task_that_its_caller_follows_to_the_result_of_a_direct_call(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, peer, tools), hub.http(await hub.key("tool:*")) as http:
        for path, name, uri in (("/mcp", "peer__link", "peer+notes://1"), ("/mcp/peer", "link", "notes://1")):
            client = Follower(http, path)
            made = await client.call(name)
            assert made["resultType"] == "task"
            assert made["taskId"] not in tools.made
            assert made["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "hubbub"
            over = await client.until(made["taskId"], *OVER)
            assert (over["resultType"], over["status"], over["taskId"]) == ("complete", "completed", made["taskId"])
            assert over["result"]["content"][0]["uri"] == uri
            assert over["result"]["_meta"] == {}
            assert {over["ttlMs"], over["pollIntervalMs"]} == {60_000, 100}
        assert peer.requests[-1]["mcp-name"] in tools.made
        asked = sum(request.get("mcp-method") in {"tools/call", "tasks/get"} for request in peer.requests)
        assert [permit.entry_name for permit in hub.gate.permits if permit.kind == "tool"] == ["peer__link"] * asked


async def test_a_task_asks_for_input_in_its_servers_name_and_goes_on_with_it(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _, _), hub.http(await hub.key("tool:*")) as http:
        client = Follower(http)
        task = (await client.call("peer__confirm_delete", filename="a.txt"))["taskId"]
        waiting = await client.until(task, "input_required")
        ((key, question),) = waiting["inputRequests"].items()
        assert question["params"]["message"] == "[peer] Delete a.txt?"
        responses = {key: {"action": "accept", "content": {"confirm": True}}}
        done = await client.ask("tasks/update", task, taskId=task, inputResponses=responses)
        assert done == {"resultType": "complete", "_meta": done["_meta"]}
        over = await client.until(task, *OVER)
        assert over["result"]["content"][0]["text"] == "accept a.txt"


async def test_a_server_over_stdio_makes_tasks_too(tmp_path: Path) -> None:
    entry = f"{{command: {sys.executable}, args: ['-m', tests.peers.mcp_tasks], cwd: '{ROOT}'}}"
    async with (
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {entry}}}\n") as hub,
        hub.http(await hub.key("tool:*")) as http,
    ):
        await hub.listed("peer__link")
        client = Follower(http)
        task = (await client.call("peer__multi_input"))["taskId"]
        waiting = await client.until(task, "input_required")
        answers = {key: {"action": "accept", "content": {"confirm": True}} for key in waiting["inputRequests"]}
        await client.update(task, **answers)
        assert (await client.until(task, *OVER))["status"] == "completed"
        assert (await client.get("never-was"))["code"] == -32602


async def test_what_a_call_is_asked_before_it_becomes_a_task_is_asked_as_ever(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _, _), hub.http(await hub.key("tool:*")) as http:
        client = Follower(http)
        asked = await client.call("peer__test_tool_with_task")
        assert asked["inputRequests"]["user_name"]["params"]["message"] == "[peer] What is your name?"
        name = "peer__test_tool_with_task"
        responses = {"user_name": {"action": "accept", "content": {"name": "Ann"}}}
        made = await client.ask("tools/call", name, name=name, arguments={}, inputResponses=responses)
        over = await client.until(made["taskId"], *OVER)
        assert "Ann" in over["result"]["content"][0]["text"]


async def test_a_cancelled_task_ends_at_its_server(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _, tools), hub.http(await hub.key("tool:*")) as http:
        client = Follower(http)
        task = (await client.call("peer__slow_compute", seconds=600))["taskId"]
        assert (await client.get(task))["status"] == "working"
        assert (await client.ask("tasks/cancel", task, taskId=task))["resultType"] == "complete"
        assert (await client.until(task, *OVER))["status"] == "cancelled"
        (made,) = tools.made.values()
        assert made.status == "cancelled"


async def heard(messages: AsyncIterator[dict[str, Any]], status: str) -> dict[str, Any]:
    """The next notification of this status."""
    async for message in messages:
        assert message["method"] == "notifications/tasks"
        params: dict[str, Any] = message["params"]
        if params["status"] == status:
            return params
    raise AssertionError("the stream ended")


async def test_who_listens_for_a_task_hears_what_becomes_of_it(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _, _), hub.http(await hub.key("tool:*")) as http:
        client = Follower(http)
        task = (await client.call("peer__confirm_delete", filename="a.txt"))["taskId"]
        async with asyncio.timeout(20), client.listening(task, "never-was") as messages:
            agreed = await anext(messages)
            assert agreed["method"] == "notifications/subscriptions/acknowledged"
            assert agreed["params"]["notifications"] == {"taskIds": [task]}
            waiting = await heard(messages, "input_required")
            assert (waiting["taskId"], "resultType" in waiting) == (task, False)
            assert waiting["_meta"] == {"io.modelcontextprotocol/subscriptionId": "heard"}
            ((key, question),) = waiting["inputRequests"].items()
            assert question["params"]["message"] == "[peer] Delete a.txt?"
            await client.update(task, **{key: {"action": "accept", "content": {}}})
            over = await heard(messages, "completed")
            assert over["result"]["content"][0]["text"] == "accept a.txt"
            assert over["result"] == (await client.get(task))["result"]
        assert not any(one.tasks for one in hub.services.subscriptions._subscribers), "nobody asks any more"
        assert await Follower(http, meta=META).refused_listening(task) == -32021


async def test_only_the_caller_hears_of_a_task_and_only_of_so_many(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _, _):
        mine, other = await hub.key("tool:*"), await hub.key("tool:*")
        async with hub.http(mine) as http, hub.http(other) as theirs:
            task = (await Follower(http).call("peer__slow_compute", seconds=600))["taskId"]
            async with asyncio.timeout(20), Follower(theirs).listening(task) as messages:
                assert (await anext(messages))["params"]["notifications"] == {}
            many = [f"task-{number}" for number in range(65)]
            assert await Follower(http).refused_listening(*many) == -32602


@pytest.mark.attack("2.2/15", defence="mcp_bridge.tasks:_about")
async def test_a_task_of_somebody_else_is_refused_in_the_same_bytes_as_one_that_never_was(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, peer, tools):
        one, other = await hub.key("server:*"), await hub.key("server:*")  # they may name tools that are not listed
        async with hub.http(one) as mine, hub.http(other) as theirs:
            task = (await Follower(mine).call("peer__slow_compute", seconds=600))["taskId"]
            (own,) = tools.made
            seen = len(peer.requests)
            for method in ("tasks/get", "tasks/update", "tasks/cancel"):
                never = await Follower(mine).refused("never-was", method)
                assert never[0] == 400
                for client, handle in (
                    (Follower(theirs), task),
                    (Follower(theirs, "/mcp/peer"), task),
                    (Follower(mine, "/mcp/peer"), task),
                    (Follower(mine), own),
                    (Follower(mine), f"{task[:-4]}AAA="),
                ):
                    assert await client.refused(handle, method) == never
            assert len(peer.requests) == seen, "nothing of it reached the server"
            assert (await Follower(mine).get(task))["status"] == "working"


async def test_a_task_is_followed_only_while_its_tool_is_granted_and_shown(tmp_path: Path) -> None:
    async with making_tasks() as (peer, _):
        yaml = YAML.format(url=peer.url)
        async with open_mcp_hub(tmp_path, yaml) as hub:
            await hub.listed("peer__slow_compute")
            secret = await hub.key("tool:peer__*")
            async with hub.http(secret) as http:
                task = (await Follower(http).call("peer__slow_compute", seconds=600))["taskId"]
        denied = yaml.replace("{url", "{denied_tools: ['slow_*'], url")
        async with open_mcp_hub(tmp_path, denied) as hub, hub.http(secret) as http:
            assert await Follower(http).refused(task) == await Follower(http).refused("never-was")


async def test_a_client_that_declares_nothing_gets_results_and_no_tasks(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _, _), hub.http(await hub.key("tool:*")) as http:
        task = (await Follower(http).call("peer__slow_compute", seconds=600))["taskId"]
        plain = Follower(http, meta=META)
        assert (await plain.call("peer__slow_compute", seconds=0, label="x"))["resultType"] == "complete"
        needed = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
        assert (await plain.call("peer__failing_job"))["data"] == needed
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            answer = await plain.post(method, task, taskId=task, inputResponses={})
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == -32021
            assert answer.json()["error"]["data"] == needed


@pytest.mark.attack("2.1/23")
async def test_headers_and_body_name_the_same_task(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _, _), hub.http(await hub.key("tool:*")) as http:
        client = Follower(http)
        task = (await client.call("peer__slow_compute", seconds=600))["taskId"]
        for name in ("another", ""):
            assert (await client.ask("tasks/get", name, taskId=task))["code"] == -32020
        assert (await client.ask("tasks/get", task))["code"] == -32020
        for params in ({"taskId": task}, {}):  # FastMCP's client sends no Mcp-Name
            body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {**params, "_meta": ABLE}}
            unnamed = (await http.post("/mcp", json=body, headers=headers("tasks/get"))).json()
            if params:
                assert unnamed["result"]["status"] == "working"
            else:
                assert unnamed["error"]["code"] == -32602
        body = f'{{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{{"taskId":"x","taskId":"{task}"}}}}'
        twice = await http.post("/mcp", content=body, headers=headers("tasks/get", task))
        assert twice.json()["error"]["message"] == "taskId stands twice"


async def test_a_handle_outlives_the_hub_and_a_task_that_its_server_forgot_is_not_found(tmp_path: Path) -> None:
    async with making_tasks() as (peer, tools):
        yaml = YAML.format(url=peer.url)
        async with open_mcp_hub(tmp_path, yaml) as hub:
            await hub.listed("peer__slow_compute")
            secret = await hub.key("tool:*")
            async with hub.http(secret) as http:
                task = (await Follower(http).call("peer__slow_compute", seconds=600))["taskId"]
        async with open_mcp_hub(tmp_path, yaml) as hub, hub.http(secret) as http:
            assert (await Follower(http).get(task))["status"] == "working"
            kept = dict(tools.made)
            tools.made.clear()  # as after its restart, or when the task's time is over
            assert (await Follower(http).get(task))["code"] == -32602
            tools.made |= kept


async def test_the_error_of_a_task_shows_no_credentials_of_the_hubs(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _, _), hub.http(await hub.key("tool:*")) as http:
        client = Follower(http)
        task = (await client.call("peer__protocol_error_job", message="I was sent very-secret-token"))["taskId"]
        over = await client.until(task, *OVER)
        assert over["error"] == {"code": -32603, "message": "I was sent ***"}


LYING = {"resultType": "task", "taskId": "own", "status": "working", "createdAt": "x", "lastUpdatedAt": "x"}


@pytest.mark.parametrize("task_id", [7, "", "x" * 1025, None])
async def test_a_task_that_cannot_be_followed_is_an_error_of_its_server(tmp_path: Path, task_id: Any) -> None:
    def call(message: dict[str, Any]) -> tuple[int, bytes, bytes]:
        made = httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": {**LYING, "taskId": task_id}})
        return 200, b"application/json", made.content

    schema = {"name": "lie", "inputSchema": {"type": "object"}}
    async with (
        scripted(modern([schema], call=call)) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}") as hub,
        hub.http(await hub.key("tool:*")) as http,
    ):
        await hub.listed("peer__lie")
        assert "without an id" in (await Follower(http).call("peer__lie"))["message"]


async def test_a_server_that_makes_tasks_for_those_who_cannot_follow_them_is_refused(tmp_path: Path) -> None:
    def call(message: dict[str, Any]) -> tuple[int, bytes, bytes]:
        return 200, b"application/json", httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": LYING}).content

    schema = {"name": "lie", "inputSchema": {"type": "object"}}
    async with (
        scripted(modern([schema], call=call)) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}") as hub,
    ):
        await hub.listed("peer__lie")
        secret = await hub.key("server:*")
        async with hub.http(secret) as http:
            found = await Follower(http, meta=META).call("peer__lie")
            assert "cannot follow tasks" in found["message"]
            found = await Follower(http, "/mcp/peer").ask("vendor/method", "x")
            assert "cannot follow tasks" in found["message"]
        async with hub.client(secret, mode="legacy") as client:
            with pytest.raises(MCPError, match="nobody here can follow it"):
                await client.call_tool("peer__lie", {})


async def test_discovery_says_where_tasks_can_come_from(tmp_path: Path) -> None:
    async with (
        making_tasks() as (peer, _),
        scripted(modern([{"name": "x", "inputSchema": {"type": "object"}}])) as other,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}, other: {{url: {other.url}}}}}") as hub,
    ):
        await hub.listed("peer__link", "other__x")
        secret = await hub.key("server:*")
        async with hub.http(secret) as http:
            found = {}
            for path in ("/mcp", "/mcp/peer", "/mcp/other"):
                body = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": ABLE}}
                said = await http.post(path, json=body, headers=headers("server/discover"))
                found[path] = said.json()["result"]["capabilities"].get("extensions")
            assert found == {"/mcp": {TASKS: {}}, "/mcp/peer": {TASKS: {}}, "/mcp/other": None}
            for method in ("tasks/list", "tasks/result"):
                assert (await Follower(http, "/mcp/peer").ask(method, "x", taskId="x"))["code"] == -32601
        async with hub.client(secret, mode="legacy") as client:
            assert client.server_capabilities.tasks is None
            assert client.server_capabilities.extensions is None
