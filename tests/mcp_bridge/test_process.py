"""What is left of stdio servers when the hub's own process ends."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx
import pytest

from mcp_bridge.stdio.children import Children
from mcp_bridge.stdio.transport import stdio_transport
from registry.entries import Server
from tests.mcp_bridge.test_upstreams import CHILD, gone, is_alive
from tests.peers.mcp_hub import headers, message
from tests.processes import hub_process, supervisor


async def pids(http: httpx.AsyncClient) -> list[int]:
    """Ask the child for its pid and its child's; a hub that has just started may not have listed it yet."""
    body = message("tools/call", {"name": "child__pids", "arguments": {}})
    async with asyncio.timeout(20):
        while True:
            answer = (await http.post("/mcp", json=body, headers=headers("tools/call", "child__pids"))).json()
            if "result" in answer:
                return [int(pid) for pid in answer["result"]["content"][0]["text"].split()]
            assert answer["error"]["code"] == -32602, answer
            await asyncio.sleep(0.05)


@pytest.mark.attack("2.1/32")
async def test_no_stdio_child_survives_a_hub_that_ends(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    yaml = f"mcpServers:\n  child: {{command: {json.dumps(sys.executable)}, args: [{json.dumps(str(script))}]}}\n"
    async with hub_process(tmp_path, yaml) as hub:
        async with hub.http(await hub.key("app", "tool:*")) as http:
            child, grandchild = await pids(http)
        keeper = await supervisor(tmp_path / "hubbub.db")
        assert keeper is not None
        assert is_alive(child)
        hub.send(signal.SIGTERM)
        async with asyncio.timeout(30):
            await hub.child.wait()
        await gone(child, grandchild, keeper)


async def test_a_connection_cancelled_while_its_child_ends_still_closes_its_streams(tmp_path: Path) -> None:
    children = Children(tmp_path / "hubbub.stdio", {})
    opened = asyncio.get_running_loop().create_future()
    child = Server(name="child", command=sys.executable, args=("-c", "import signal; signal.pause()"))

    async def hold() -> None:
        async with stdio_transport(children, child, is_shared=False, on_end=lambda: None) as streams:
            opened.set_result(streams)
            await asyncio.Event().wait()

    holder = asyncio.create_task(hold())
    read_stream, write_stream = await opened
    holder.cancel()
    for _ in range(3):  # the last two arrive while it waits for the child and for its pumps
        await asyncio.sleep(0)
        holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
    assert read_stream.statistics().open_receive_streams == 0
    assert write_stream.statistics().open_send_streams == 0
    await children.aclose()
