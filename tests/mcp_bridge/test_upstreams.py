"""Upstream connections that crash, hang, forget and lie, each harming nobody but itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_bridge import owner
from mcp_bridge.stdio import children
from registry.errors import NotFound, UpstreamError, UpstreamUnavailable
from registry.identity import admin
from tests.peers import mcp_asking, mcp_servers
from tests.peers.mcp_hub import McpHub, open_mcp_hub
from tests.peers.mcp_waiting import legacy_call, modern_call, read, session
from tests.until import until

CHILD = """
import json, os, subprocess, sys
grandchild = subprocess.Popen(["sleep", "300"])
print("the token is", os.environ.get("TOKEN"), file=sys.stderr, flush=True)
print("a banner that is no JSON", flush=True)
names = ["pids", "env"]
hello = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "child", "version": "1"}}
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    match message["method"]:
        case "initialize":
            answer["result"] = hello
        case "tools/list":
            answer["result"] = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]}
        case "tools/call":
            pids = f"{os.getpid()} {grandchild.pid}"
            text = pids if message["params"]["name"] == "pids" else " ".join(sorted(os.environ))
            answer["result"] = {"content": [{"type": "text", "text": text}]}
        case _:
            answer["error"] = {"code": -32601, "message": "Method not found"}
    print(json.dumps(answer), flush=True)
"""
"""A stdio server that starts in milliseconds and has a child of its own; a real one is used in tests/doors/test_mcp.py."""


@asynccontextmanager
async def with_child(tmp_path: Path, more: str = "") -> AsyncIterator[McpHub]:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    yaml = (
        f"mcpServers:\n  child: {{command: {sys.executable}, args: ['{script}'], env: {{TOKEN: tok-secret}}}}\n{more}"
    )
    async with open_mcp_hub(tmp_path, yaml) as hub:
        await hub.listed("child__pids")
        yield hub


async def call(hub: McpHub, name: str, **arguments: Any) -> Any:
    caller = admin()
    with hub.gate.admit(caller, hub.services.registry.catalog.tools[name]) as permit:
        result = await hub.dispatch.call(caller, name, arguments=arguments, within=permit)
    return result["content"][0]["text"]


async def pids(hub: McpHub) -> list[int]:
    return [int(pid) for pid in (await call(hub, "child__pids")).split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second: it ended while it was read
        return False


async def gone(*pids: int) -> None:
    await until(lambda: not any(is_alive(pid) for pid in pids))


async def test_many_callers_share_one_child(tmp_path: Path) -> None:
    async with with_child(tmp_path) as hub:
        found = await asyncio.gather(*(pids(hub) for _ in range(10)))
        assert len({pid for pid, _ in found}) == 1
        assert hub.upstream("child").owner.starts == 1


async def test_a_killed_child_is_started_again_at_the_next_call(tmp_path: Path) -> None:
    async with with_child(tmp_path) as hub:
        child, grandchild = await pids(hub)
        connection = hub.upstream("child").owner
        os.kill(child, signal.SIGKILL)
        await until(lambda: not connection.is_open)
        again, _ = await pids(hub)
        assert again != child
        await gone(grandchild)


async def test_nothing_of_a_child_survives_the_hub(tmp_path: Path) -> None:
    async with with_child(tmp_path) as hub:
        found = await pids(hub)
        assert all(is_alive(pid) for pid in found)
    await gone(*found)


@pytest.mark.attack("2.1/32", defence="mcp_bridge.stdio.children:INHERITED")
async def test_a_child_sees_a_minimal_environment_and_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HUBBUB_ADMIN_KEY", "sk-hidden")
    caplog.set_level("INFO")
    async with with_child(tmp_path) as hub:
        seen = set((await call(hub, "child__env")).split())
        assert "TOKEN" in seen
        assert "PATH" in seen
        assert "HUBBUB_ADMIN_KEY" not in seen
        assert seen <= {*children.INHERITED, "TOKEN", "PWD", "LC_CTYPE"}
    lines = [record.line for record in caplog.records if hasattr(record, "line")]
    assert "the token is ***" in lines


async def test_an_idle_child_is_ended_and_started_when_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_bridge.pool.STDIO_IDLE_S", 0.2)
    async with with_child(tmp_path) as hub:
        found = await pids(hub)
        await gone(*found)
        assert (await pids(hub)) != found


async def test_idle_sessions_with_an_older_server_are_ended_and_opened_when_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_bridge.pool.HTTP_IDLE_S", 0.2)
    async with (
        mcp_asking.asking("legacy") as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n") as hub,
    ):
        await hub.listed("peer__echo")
        async with hub.http(await hub.key("tool:*")) as http:
            given = await session(http, {})

            async def open_sessions(wanted: int) -> None:
                await until(lambda: len(peer.manager._server_instances) == wanted)

            for _ in range(2):
                await open_sessions(0)
                body, modern = modern_call("peer__wait", {})
                calls = ((legacy_call("peer__wait"), given), (body, modern))
                waiting = [asyncio.create_task(http.post("/mcp", json=one, headers=with_)) for one, with_ in calls]
                await open_sessions(2)  # the older client's own, and the shared one
                peer.release.set()
                assert all("result" in read(one) for one in await asyncio.gather(*waiting))
                peer.release.clear()


async def test_switching_a_server_off_ends_its_calls_and_its_child(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, with_child(tmp_path, f"  peer: {{url: {peer.url}}}\n") as hub:
        await hub.listed("peer__wait")
        found = await pids(hub)
        running = asyncio.create_task(call(hub, "peer__wait"))
        await peer.waiting.wait()
        await hub.services.registry.switch("server", "peer", on=False)
        await hub.services.registry.switch("server", "child", on=False)
        with pytest.raises(UpstreamUnavailable, match="switched off"):
            await running
        await gone(*found)
        with pytest.raises(NotFound):
            hub.dispatch.tool(admin(), "peer__wait")


async def test_a_lost_session_is_opened_again_and_the_call_made_once(tmp_path: Path) -> None:
    async with (
        mcp_servers.legacy_only() as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n") as hub,
    ):
        await hub.listed("peer__echo")
        assert await call(hub, "peer__echo", text="1") == '{"text": "1"}'
        for transport in list(peer.manager._server_instances.values()):
            await transport.terminate()
        peer.manager._server_instances.clear()
        assert await call(hub, "peer__echo", text="2") == '{"text": "2"}'
        assert peer.calls == [("echo", {"text": "1"}), ("echo", {"text": "2"})]


async def test_an_older_server_gets_each_call_under_its_own_permit(tmp_path: Path) -> None:
    async with (
        mcp_servers.legacy_only() as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}, headers: {{x-own: v}}}}}}\n") as hub,
    ):
        await hub.listed("peer__echo")
        await asyncio.gather(*(call(hub, "peer__echo", text=str(number)) for number in range(5)))
        used = [permit.requests for permit in hub.gate.permits if permit.entry_name == "peer__echo"]
        assert sorted(used) == [0] * 5 + [1] * 5  # the outer permits of the test itself use nothing
        assert all(seen["x-own"] == "v" for seen in peer.requests)
        assert not any("permit" in name for seen in peer.requests for name in seen)


@pytest.mark.attack("2.1/30")
async def test_a_hanging_a_dead_and_a_lying_server_harm_nobody(tmp_path: Path) -> None:
    bad = [
        {"name": "good", "inputSchema": {"type": "object"}},
        {"name": "schemaless"},
        {"name": "array", "inputSchema": {"type": "array"}},
        {"inputSchema": {"type": "object"}},
        "no object",
        {"name": "good", "inputSchema": {"type": "object"}},
        {"name": "also good", "inputSchema": {"type": "object"}, "outputSchema": {"type": "array"}},
    ]
    async with (
        mcp_servers.scripted(lambda _: None) as hanging,
        mcp_servers.scripted(mcp_servers.modern(bad)) as lying,
        mcp_servers.dual_era() as peer,
    ):
        yaml = f"""
mcpServers:
  hanging: {{url: {hanging.url}}}
  dead: {{url: "http://127.0.0.1:9/mcp"}}
  missing: {{command: /no/such/command}}
  silent: {{command: sleep, args: ["60"]}}
  quits: {{command: "false"}}
  lying: {{url: {lying.url}}}
  peer: {{url: {peer.url}}}
"""
        async with open_mcp_hub(tmp_path, yaml) as hub:
            await hub.listed("peer__echo", "lying__good")
            catalog = hub.services.registry.catalog
            assert [tool.name for tool in catalog.tools.values() if tool.server == "lying"] == ["good", "also good"]
            assert {tool.name for tool in catalog.quarantined} == {"schemaless", "array", "#4", "#5", "good#6"}
            assert all(tool.reason for tool in catalog.quarantined)
            for name, reason in (("dead", "cannot be reached"), ("missing", "does not exist"), ("quits", "ended")):
                with pytest.raises(UpstreamError, match=reason):
                    await hub.sync.refresh(name)
            with pytest.raises(NotFound):
                await hub.sync.refresh("unknown")


async def test_a_failed_fetch_does_not_replace_a_good_listing(tmp_path: Path) -> None:
    answers: list[Any] = [[{"name": "t", "inputSchema": {"type": "object"}}]]

    def script(message: dict[str, Any]) -> tuple[int, bytes, bytes] | None:
        if message["method"] == "tools/list" and answers[0] is None:
            return 500, b"text/plain", b"broken"
        return mcp_servers.modern(answers[0])(message)

    async with (
        mcp_servers.scripted(script) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n") as hub,
    ):
        await hub.listed("peer__t")
        answers[0] = None
        with pytest.raises(UpstreamError):
            await hub.sync.refresh("peer")
        assert "peer__t" in hub.services.registry.catalog.tools
        answers[0] = []
        await hub.sync.refresh("peer")
        assert "peer__t" in hub.services.registry.catalog.tools
        await hub.sync.refresh("peer")
        assert "peer__t" not in hub.services.registry.catalog.tools


async def test_all_pages_are_listed_and_a_repeated_cursor_ends_them(tmp_path: Path) -> None:
    def script(message: dict[str, Any]) -> tuple[int, bytes, bytes] | None:
        answer = mcp_servers.modern([])(message)
        if message["method"] != "tools/list":
            return answer
        cursor = message["params"].get("cursor")
        name, following = {None: ("one", ""), "": ("two", "x"), "x": ("three", "")}[cursor]
        tool = {"name": name, "inputSchema": {"type": "object"}}
        return mcp_servers._json(1, {"tools": [tool], "nextCursor": following})

    async with (
        mcp_servers.scripted(script) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n") as hub,
    ):
        await hub.listed("peer__one", "peer__two", "peer__three")
        assert await hub.sync.refresh("peer") == 3


async def test_a_server_added_later_is_usable_after_a_refresh(tmp_path: Path) -> None:
    async with mcp_servers.dual_era() as peer, open_mcp_hub(tmp_path) as hub:
        await hub.services.registry.put("server", "late", {"url": peer.url}, trusted=True)
        assert await hub.sync.refresh("late") == 5
        assert await call(hub, "late__echo") == "{}"


async def test_a_server_that_only_fails_is_left_alone_for_growing_times(tmp_path: Path) -> None:
    yaml = 'mcpServers: {quits: {command: "false"}}\n'
    async with open_mcp_hub(tmp_path, yaml) as hub:
        upstream = hub.upstream("quits")
        reasons = []
        for _ in range(4):
            with pytest.raises(UpstreamUnavailable) as caught:
                await upstream.ready()
            reasons.append(caught.value.text)
        assert "left alone" in reasons[-1]
        assert upstream.owner._failures >= 2
        assert owner.MAX_BACKOFF_S == 60.0
