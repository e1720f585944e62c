"""The process that keeps stdio servers: who shares a child, who outlives whom, and what is known of what failed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from hub.cli import main
from mcp_bridge.stdio import children as module
from mcp_bridge.stdio.children import Children
from mcp_bridge.stdio.frames import LEAVE, MESSAGE
from registry.entries import Server
from registry.errors import UpstreamError, UpstreamUnavailable
from tests.conftest import ADMIN_KEY
from tests.mcp_bridge.test_upstreams import CHILD, call, gone, is_alive, pids
from tests.peers.mcp_hub import headers, message, open_mcp_hub
from tests.processes import HubProcess, hub_process, supervisor

ROOT = Path(__file__).parents[2]

ECHO = """
import json, sys, time
for line in sys.stdin:
    message = json.loads(line)
    match message.get("method"):
        case "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "e", "version": "1"}}
        case "tools/list":
            result = {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
        case "tools/call":
            result = {"content": [{"type": "text", "text": message["params"]["arguments"]["text"]}]}
        case _:
            result = None
    if "id" in message:
        said = {"result": result} if result else {"error": {"code": -32601, "message": "no"}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}), flush=True)
"""

TIME = f"""
mcpServers:
  time: {{command: {json.dumps(sys.executable)}, args: [-m, mcp_server_time, --local-timezone, UTC]}}
"""


def python(tmp_path: Path, code: str, name: str = "child") -> str:
    """A line of hub.yaml for a server that runs this."""
    script = tmp_path / f"{name}.py"
    script.write_text(code)
    return f"  {name}: {{command: {json.dumps(sys.executable)}, args: [{json.dumps(str(script))}]}}\n"


def child(tmp_path: Path) -> str:
    return "mcpServers:\n" + python(tmp_path, CHILD)


def server(*arguments: str, **members: Any) -> Server:
    return Server(name="child", command=sys.executable, args=arguments, **members)


@asynccontextmanager
async def opened(directory: Path, **options: Any) -> AsyncIterator[Children]:
    children = Children(directory / "own.stdio", {}, **options)
    try:
        yield children
    finally:
        await children.aclose()


async def command(directory: Path, *arguments: str) -> Result:
    """Run a command of `hubbub` with the hub.yaml in `directory`."""
    config = ("--config", str(directory / "hub.yaml"))
    return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, *config])


async def processes(hub: HubProcess, name: str) -> dict[str, Any]:
    """What the hub shows of a server's processes."""
    async with hub.http() as admin:
        found: dict[str, Any] = (await admin.get(f"/api/mcp-servers/{name}")).json()["process"]
        return found


async def listed(http: httpx.AsyncClient, tool: str) -> None:
    async with asyncio.timeout(20):
        while tool not in (await http.post("/mcp", json=message("tools/list"), headers=headers("tools/list"))).text:
            await asyncio.sleep(0.02)


async def test_two_hubs_share_a_child_and_mix_up_no_answers(tmp_path: Path) -> None:
    yaml = child(tmp_path) + python(tmp_path, ECHO, "echo")
    async with open_mcp_hub(tmp_path, yaml) as first, open_mcp_hub(tmp_path, yaml) as second:
        for hub in (first, second):
            await hub.listed("child__pids", "echo__echo")
        assert await pids(first) == await pids(second)
        said = [(hub, f"{at}-{number}") for at, hub in enumerate((first, second)) for number in range(50)]
        heard = await asyncio.gather(*(call(hub, "echo__echo", text=text) for hub, text in said))
        assert heard == [text for _, text in said]


async def test_a_hub_that_ends_leaves_the_child_to_the_other(tmp_path: Path) -> None:
    async with open_mcp_hub(tmp_path, child(tmp_path)) as first:
        async with open_mcp_hub(tmp_path, child(tmp_path)) as second:
            for hub in (first, second):
                await hub.listed("child__pids")
            found = await pids(second)
        assert await pids(first) == found
        assert all(is_alive(pid) for pid in found)
    await gone(*found)


async def test_children_outlive_a_killed_hub_and_are_taken_up_by_the_next(tmp_path: Path) -> None:
    async with hub_process(tmp_path, TIME) as killed:
        async with killed.http(await killed.key("app", "tool:*")) as http:
            await listed(http, "time__get_current_time")
        before = await processes(killed, "time")
        killed.send(signal.SIGKILL)
        await killed.child.wait()
        assert is_alive(before["running"][0]["pid"])
        async with hub_process(tmp_path, TIME) as hub:
            async with hub.http(await hub.key("other", "tool:*")) as http:
                arguments = {"name": "time__get_current_time", "arguments": {"timezone": "UTC"}}
                head = headers("tools/call", "time__get_current_time")
                answer = await http.post("/mcp", json=message("tools/call", arguments), headers=head)
                assert "UTC" in answer.json()["result"]["content"][0]["text"]
            assert (await processes(hub, "time"))["running"] == before["running"]


async def test_a_caller_who_tries_again_does_not_notice_a_killed_supervisor(tmp_path: Path) -> None:
    async with open_mcp_hub(tmp_path, child(tmp_path)) as hub:
        await hub.listed("child__pids")
        before = await pids(hub)
        killed = await supervisor(tmp_path / "hubbub.db")
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await gone(*before)
        after: list[int] = []
        for _ in range(2):
            with suppress(UpstreamUnavailable):
                after = await pids(hub)
        assert after
        assert not set(before) & set(after)
        assert await supervisor(tmp_path / "hubbub.db") != killed


async def test_children_of_a_killed_supervisor_end_without_a_hub_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as children:
        attached = await children.open(server("-c", "import signal; signal.pause()"), is_shared=True)
        killed = await supervisor(tmp_path / "own.db")
        assert killed is not None
        children._attached.clear()  # it would kill them
        os.kill(killed, signal.SIGKILL)
        await gone(attached.pid)
        attached.writer.close()


async def test_without_a_hub_everything_ends_in_a_while(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    children = Children(tmp_path / "own.stdio", {}, linger_s=0.5)
    attached = await children.open(server(str(script)), is_shared=True)
    keeper = await supervisor(tmp_path / "own.db")
    assert keeper is not None
    attached.writer.transport.abort()  # as the kernel does for a killed hub
    await children.left(attached, is_lost=False)
    assert children._writer is not None
    children._writer.transport.abort()
    await gone(attached.pid, keeper)


async def test_a_child_that_is_talked_to_is_kept_for_a_hub_that_lost_its_first_connection(tmp_path: Path) -> None:
    children = Children(tmp_path / "own.stdio", {}, linger_s=0.2)
    later = "import sys, time; time.sleep(0.6); print('later', file=sys.stderr, flush=True); input()"
    attached = await children.open(server("-c", later), is_shared=True)
    assert children._writer is not None
    assert children._present is not None
    children._attached.clear()
    children._writer.transport.abort()
    await asyncio.wait([children._present])
    assert await attached.reader.readline() == b"elater\n"  # thrice as late as it lingers
    attached.writer.close()
    await gone(attached.pid)


async def test_a_child_of_one_caller_ends_with_its_hub(tmp_path: Path) -> None:
    async with opened(tmp_path) as other, opened(tmp_path) as children:
        await other._be_present()
        shared = await children.open(server("-c", "input()"), is_shared=True)
        own = await children.open(server("-c", "input()"), is_shared=False)
        for attached in (own, shared):
            attached.writer.transport.abort()
            await children.left(attached, is_lost=False)
        await gone(own.pid)
        assert is_alive(shared.pid)
        again = await children.open(server("-c", "input()"), is_shared=True)
        assert again.pid == shared.pid
        again.writer.write(LEAVE + b"\n")
        await again.reader.read()
        again.writer.close()
        await children.left(again, is_lost=False)
        await gone(shared.pid)


async def test_a_child_that_is_asked_for_otherwise_is_another(tmp_path: Path) -> None:
    async with opened(tmp_path) as children:
        one = await children.open(server("-c", "input()"), is_shared=True)
        other = await children.open(server("-c", "input()", env=(("A", "b"),)), is_shared=True)
        assert one.pid != other.pid
        for attached in (one, other):
            attached.writer.close()


async def test_a_bad_command_fails_alone_and_says_why(tmp_path: Path) -> None:
    broken = "import sys; sys.exit('no module named tokens')"
    yaml = child(tmp_path) + python(tmp_path, broken, "broken")
    yaml += "  absent: {command: /no/such/server}\n  elsewhere: {command: cat, cwd: /no/such/place}\n"
    yaml += f"  forbidden: {{command: {tmp_path}}}\n  stale: {{command: {tmp_path / 'stale'}}}\n"
    (tmp_path / "stale").write_text("#!/no/such/python\n")
    (tmp_path / "stale").chmod(0o755)
    async with open_mcp_hub(tmp_path, yaml) as hub:
        await hub.listed("child__pids")
        for name, reason in (
            ("broken", "ended before the handshake"),
            ("absent", "its command does not exist"),
            ("stale", "the interpreter of its command does not exist"),
            ("elsewhere", "cwd does not exist"),
            ("forbidden", "may not be executed"),
        ):
            with pytest.raises(UpstreamError, match=reason):
                await hub.sync.refresh(name)
        shown = await hub.services.children.show()
        assert "no module named tokens" in shown["broken"].lines
        assert shown["broken"].lines[-1].endswith(" ended with exit status 1")
        assert shown["absent"].lines[-1].endswith(" cannot be started: its command does not exist")
        assert (await pids(hub))[0] == shown["child"].running[0].pid


async def test_the_last_lines_of_stderr_are_kept_and_shown_without_secrets(tmp_path: Path) -> None:
    code = CHILD.replace("names =", "for n in range(300): print(n, os.environ['TOKEN'], file=sys.stderr)\nnames =")
    line = python(tmp_path, code).replace("}\n", ", env: {TOKEN: tok-secret}}\n")
    async with open_mcp_hub(tmp_path, f"mcpServers:\n{line}") as hub:
        await hub.listed("child__pids")
        found = await pids(hub)
        async with hub.http(ADMIN_KEY) as admin:
            shown = (await admin.get("/api/mcp-servers/child")).json()["process"]
        assert [one["pid"] for one in shown["running"]] == found[:1]
        assert len(shown["stderr"]) == 200
        assert "299 ***" in shown["stderr"]
        (tmp_path / "hub.yaml").write_text(f"hub: {{database: 'sqlite:///{tmp_path}/hubbub.db'}}\nmcpServers:\n{line}")
        printed = await command(tmp_path, "mcp", "stderr", "child")
        assert printed.stdout.splitlines() == shown["stderr"]
        assert f"runs as {found[0]}" in (await command(tmp_path, "mcp", "list")).stdout
        printed = await command(tmp_path, "mcp", "stderr", "other")
        assert (printed.exit_code, printed.output) == (1, "Error: No hub that runs here has started other.\n")


async def test_doctor_shows_what_a_server_said_before_it_ended(tmp_path: Path) -> None:
    yaml = f"hub: {{database: 'sqlite:///{tmp_path}/d.db'}}\nmcpServers:\n"
    (tmp_path / "hub.yaml").write_text(yaml + python(tmp_path, "import sys; sys.exit('TOKEN is not set')"))
    done = await command(tmp_path, "doctor")
    assert done.exit_code == 1
    assert "FAIL  MCP server child: it ended before the handshake was done\n" in done.output
    assert "\n  TOKEN is not set\n" in done.output
    assert await supervisor(tmp_path / "d.db") is None


@pytest.mark.parametrize(
    ("code", "limits", "ending"),
    [
        ("bytearray(200 * 1024 * 1024); input()", {"memory_mb": 100}, "ended with exit status 1"),
        ("while True: pass", {"cpu_s": 1}, "ended by SIGXCPU"),
    ],
)
@pytest.mark.attack("2.1/32")
async def test_a_child_stays_within_its_limits(tmp_path: Path, code: str, limits: dict[str, int], ending: str) -> None:
    async with opened(tmp_path) as children:
        attached = await children.open(server("-c", code, **limits), is_shared=True)
        assert (await attached.reader.read()).splitlines()[-1] == b"x" + ending.encode()
        attached.writer.close()
        lines = (await children.show())["child"].lines
        assert "memory_mb" not in limits or "MemoryError" in lines


async def test_a_child_that_reads_nothing_is_ended(tmp_path: Path) -> None:
    async with opened(tmp_path) as children:
        attached = await children.open(server("-c", "import signal; signal.pause()"), is_shared=True)
        call = MESSAGE + b'{"jsonrpc":"2.0","id":1,"method":"x","params":"%s"}\n' % (b"y" * 9_000_000)
        for _ in range(10):
            attached.writer.write(call)
        await gone(attached.pid)
        async with asyncio.timeout(10):
            while not (await children.show())["child"].lines[-1].endswith(" ended by SIGKILL"):
                await asyncio.sleep(0.01)
        attached.writer.transport.abort()


@pytest.mark.attack("2.1/30", "2.2/13")
async def test_a_line_without_an_end_ends_only_its_child(tmp_path: Path) -> None:
    async with opened(tmp_path) as children:
        other = await children.open(server("-c", "input()"), is_shared=True)
        code = "import sys\nwhile True: sys.stdout.write('x' * 1_000_000)"
        attached = await children.open(server("-c", code), is_shared=True)
        assert (await attached.reader.read()).splitlines()[-1][:6] == b"xended"
        assert is_alive(other.pid)
        for one in (attached, other):
            one.writer.close()


@pytest.mark.attack("2.1/32")
async def test_a_directory_that_others_may_enter_is_not_used(tmp_path: Path) -> None:
    async with opened(tmp_path) as children:
        (tmp_path / "own.stdio").mkdir(mode=0o755)
        with pytest.raises(UpstreamUnavailable, match="cannot be started"):
            await children.open(server("-c", "input()"), is_shared=True)
        assert os.listdir(tmp_path / "own.stdio") == []


async def test_hubs_that_start_together_start_one_supervisor(tmp_path: Path) -> None:
    several = [Children(tmp_path / "own.stdio", {}) for _ in range(8)]
    found = await asyncio.gather(*(children.open(server("-c", "input()"), is_shared=True) for children in several))
    assert len({attached.pid for attached in found}) == 1
    for attached, children in zip(found, several, strict=True):
        attached.writer.close()
        await children.aclose()
    await gone(found[0].pid)


async def test_a_stale_socket_and_a_deep_directory_harm_nothing(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    (deep / "own.stdio").mkdir(mode=0o700, parents=True)
    (deep / "own.stdio" / module.SOCKET).touch()
    async with opened(deep) as children:
        attached = await children.open(server("-c", "input()"), is_shared=True)
        assert is_alive(attached.pid)
        attached.writer.close()


async def test_a_connection_that_asks_for_nothing_known_is_closed(tmp_path: Path) -> None:
    async with opened(tmp_path) as children:
        await children._be_present()
        for said in (b"", b"GET / HTTP/1.1\r\n", b'{"type": "open"}\n', b"x" * 100_000 + b"\n"):
            reader, writer = await asyncio.open_unix_connection(sock=module.connected(tmp_path / "own.stdio"))
            writer.write(said)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        assert await children.show() == {}


def test_the_supervisor_imports_little() -> None:
    code = "import sys, mcp_bridge.stdio.supervisor; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"mcp", "mcp_types", "anyio", "httpx2", "pydantic", "sqlmodel", "registry", "hub", "uvloop"}
