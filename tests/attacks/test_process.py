"""A hub that is stopped, killed or changed from outside, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from a2a.types import a2a_pb2
from a2a.types.a2a_pb2_grpc import A2AServiceStub

from tests.conftest import free_port, free_socket
from tests.doors.test_mcp_ended import listed
from tests.peers import mcp_servers
from tests.peers.a2a_agent import sdk_agent
from tests.peers.mcp_waiting import legacy_call, modern_call, session
from tests.peers.openai_upstream import Turn, openai_upstream
from tests.processes import HubProcess, hub_process, hubbub


def yaml(model_url: str = "http://127.0.0.1:9", agent_url: str = "http://127.0.0.1:9") -> str:
    return (
        f"models:\n  up: {{provider: openai_compatible, base_url: {model_url}}}\n  offline: {{provider: offline}}\n"
        f"agents:\n  echo: {{url: {agent_url}}}\n"
    )


async def first_event(lines: AsyncIterator[str]) -> str:
    async for line in lines:
        if line:
            return line
    raise AssertionError("the stream ended before its first event")


async def test_sigterm_lets_a_running_stream_end_whole(tmp_path: Path) -> None:
    held = asyncio.Event()
    async with (
        openai_upstream(Turn("one two three", hold_last=held)) as upstream,
        hub_process(tmp_path, yaml(upstream.url)) as hub,
        hub.http(await hub.key("app", "model:*")) as http,
    ):
        body = {"model": "up", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            events = [await first_event(lines)]
            hub.send(signal.SIGTERM)
            held.set()
            events += [line async for line in lines if line]
        assert events[-1] == "data: [DONE]"
        async with asyncio.timeout(30):
            assert await hub.child.wait() == 0
    rows = sqlite3.connect(tmp_path / "hubbub.db").execute("SELECT kind, name, outcome FROM usage").fetchall()
    assert rows == [("model", "up", "ok")]


async def test_sigterm_lets_a_running_stream_of_an_agent_end_whole(tmp_path: Path) -> None:
    async with (
        sdk_agent() as agent,
        hub_process(tmp_path, yaml(agent_url=agent.url)) as hub,
        hub.http(await hub.key("app", "agent:*")) as http,
    ):
        body = rpc("SendStreamingMessage", message("hold one two"))
        async with http.stream("POST", "/a2a/echo", json=body) as answer:
            lines = answer.aiter_lines()
            events = [await first_event(lines)]
            hub.send(signal.SIGTERM)
            await refused(hub)
            agent.echo.confirmed.set()
            events += [line async for line in lines if line.startswith("data: ")]
        assert json.loads(events[-1][6:])["result"]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
        async with asyncio.timeout(30):
            assert await hub.child.wait() == 0
    assert used(tmp_path) == [("agent", "echo", "ok")]


@pytest.mark.parametrize("is_modern", [True, False])
async def test_sigterm_lets_a_call_of_a_tool_that_tells_its_progress_end_whole(tmp_path: Path, is_modern: bool) -> None:
    async with (
        mcp_servers.dual_era() as server,
        hub_process(tmp_path, f"mcpServers: {{peer: {{url: {server.url}}}}}\n") as hub,
        hub.http(await hub.key("app", "tool:*")) as http,
    ):
        await listed(http, "peer")
        body, headers = modern_call("peer__tell", {})
        if not is_modern:
            body, headers = legacy_call("peer__tell"), await session(http, {})
        body["params"].setdefault("_meta", {})["progressToken"] = "p"
        async with http.stream("POST", "/mcp", json=body, headers=headers) as answer:
            lines = answer.aiter_lines()
            while "notifications/progress" not in (event := await first_event(lines)):
                assert event
            hub.send(signal.SIGTERM)
            await refused(hub)
            server.release.set()
            events = [line async for line in lines if line.startswith("data: ")]
        assert json.loads(events[-1][6:])["result"]["structuredContent"] == {"echoed": {}}
        async with asyncio.timeout(30):
            assert await hub.child.wait() == 0
    assert used(tmp_path) == [("tool", "peer__tell", "ok")]


async def refused(hub: HubProcess) -> None:
    """Wait until the hub takes no connection any more: it is stopping."""
    async with asyncio.timeout(20), hub.http() as http:
        while True:
            try:
                await http.get("/readyz", headers={"connection": "close"})
            except httpx.TransportError:
                return
            await asyncio.sleep(0.01)


def used(directory: Path) -> list[tuple[str, str, str]]:
    """What the calls of agents, and of tools that end late, came to."""
    query = "SELECT kind, name, outcome FROM usage WHERE name NOT LIKE '%__echo'"
    return sqlite3.connect(directory / "hubbub.db").execute(query).fetchall()


async def test_sigterm_ends_grpc_beside_http_and_not_after_it(tmp_path: Path) -> None:
    held = asyncio.Event()
    port = free_port()
    async with (
        asyncio.timeout(60),
        openai_upstream(Turn("one two three", hold_last=held)) as upstream,
        hub_process(tmp_path, f"  grpc_port: {port}\n{yaml(upstream.url)}") as hub,
        hub.http(await hub.key("app", "model:*")) as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        body = {"model": "up", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            await first_event(lines)
            assert await status(channel) == grpc.StatusCode.UNAUTHENTICATED
            hub.send(signal.SIGTERM)
            while await status(channel) != grpc.StatusCode.UNAVAILABLE:
                pass
            held.set()
            assert [line async for line in lines if line][-1] == "data: [DONE]"


async def status(channel: grpc.aio.Channel) -> grpc.StatusCode:
    """What a call without a key ends with."""
    try:
        await A2AServiceStub(channel).GetTask(a2a_pb2.GetTaskRequest(tenant="echo", id="t1"))
    except grpc.aio.AioRpcError as error:
        return error.code()
    raise AssertionError("a call without a key was answered")


async def test_kill_9_loses_no_key_no_task_and_no_database(tmp_path: Path) -> None:
    async with sdk_agent() as agent:
        async with hub_process(tmp_path, yaml(agent_url=agent.url)) as hub:
            secret = await hub.key("app", "agent:*")
            async with hub.http(secret) as http:
                sent = await http.post("/a2a/echo", json=rpc("SendMessage", message("ask")))
                task_id = sent.json()["result"]["task"]["id"]
            hub.send(signal.SIGKILL)
            await hub.child.wait()
        async with hub_process(tmp_path, yaml(agent_url=agent.url)) as hub:
            async with hub.http(secret) as http:
                again = await http.post("/a2a/echo", json=rpc("GetTask", {"id": task_id}))
            async with hub.http(await hub.key("other", "agent:*")) as other:
                refused = await other.post("/a2a/echo", json=rpc("GetTask", {"id": task_id}))
    assert again.json()["result"]["id"] == task_id
    assert refused.json()["error"]["code"] == -32001
    assert sqlite3.connect(tmp_path / "hubbub.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_key_revoked_by_the_command_line_is_refused_by_the_running_hub(tmp_path: Path) -> None:
    async with hub_process(tmp_path, yaml()) as hub:
        code, printed = await hubbub("keys", "create", "rita", "--allow", "model:*", directory=tmp_path)
        assert code == 0, printed
        secret = next(word for word in printed.split() if word.startswith("sk-"))
        async with hub.http(secret) as rita:
            assert (await rita.get("/v1/models")).status_code == 200
            code, printed = await hubbub("keys", "revoke", "rita", directory=tmp_path)
            assert code == 0, printed
            async with asyncio.timeout(10):  # within a second on a quiet machine: the poll is every 200 ms
                while (await rita.get("/v1/models")).status_code != 401:
                    await asyncio.sleep(0.01)


async def test_a_valid_edit_is_applied_and_an_invalid_one_refused_whole(tmp_path: Path) -> None:
    async with hub_process(tmp_path, yaml()) as hub, hub.http(await hub.key("app", "model:*")) as http:
        file = tmp_path / "hub.yaml"
        valid = file.read_text()
        file.write_text(valid + "  new: {url: http://127.0.0.1:9}\nsomewhere: {}\n")
        await hub.said("somewhere")
        assert "old state goes on" in "".join(hub.lines)
        assert await models(http) == ["offline", "up"]
        file.write_text(valid.replace("  offline:", "  offline2: {provider: offline}\n  offline:"))
        await hub.said("changed and applied catalog=")  # with what the line is about
        assert await models(http) == ["offline", "offline2", "up"]


async def test_an_edit_drops_no_request(tmp_path: Path) -> None:
    held = asyncio.Event()
    async with (
        openai_upstream(Turn("one two three", hold_last=held)) as upstream,
        hub_process(tmp_path, yaml(upstream.url)) as hub,
        hub.http(await hub.key("app", "model:*")) as http,
    ):
        body = {"model": "up", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            await first_event(lines)
            file = tmp_path / "hub.yaml"
            file.write_text(file.read_text().replace("  up:", "  renamed:"))
            await hub.said("changed and applied")
            held.set()
            assert [line async for line in lines if line][-1] == "data: [DONE]"
        gone = await http.post("/v1/chat/completions", json=body)
    assert gone.status_code == 404


async def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    async with hub_process(tmp_path, yaml()) as hub:
        code, printed = await hubbub("serve", "--port", hub.url.rpartition(":")[2], directory=tmp_path)
    assert code != 0
    assert "address already in use" in printed
    assert "Traceback" not in printed


async def test_a_grpc_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    with free_socket() as taken:
        port = taken.getsockname()[1]
        (tmp_path / "hub.yaml").write_text(f"hub:\n  grpc_port: {port}\n")
        code, printed = await hubbub("serve", "--port", "0", directory=tmp_path)
    assert code != 0
    assert f"gRPC cannot listen on port {port} of 127.0.0.1" in printed
    assert "Traceback" not in printed


async def models(http: httpx.AsyncClient) -> list[str]:
    return sorted(model["id"] for model in (await http.get("/v1/models")).json()["data"])


def rpc(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def message(text: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads('{"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": ""}]}}')
    made["message"]["parts"][0]["text"] = text
    return made
