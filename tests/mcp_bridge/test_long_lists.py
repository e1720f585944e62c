"""Lists that are long, and lists that do not end: what is read of them is bounded, and what is left out is said."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp.server import Server

from mcp_bridge import sync
from tests.conftest import ADMIN_KEY
from tests.peers import mcp_asking, mcp_servers
from tests.peers.mcp_hub import McpHub, open_mcp_hub
from tests.peers.mcp_servers import Peer

LONG = "x" * 240_000
EACH = 6
"""Tools of a page: together they are larger than the megabyte that the SDK reads unless told otherwise."""

CHILD = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] == "initialize":
        answer["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "c", "version": "1"}}
    elif message["method"] == "tools/list":
        at = 1 if message.get("params", {}).get("cursor") == "more" else 0
        tools = [{"name": f"tool_{at}_{n}", "description": "x" * 240_000, "inputSchema": {"type": "object"}} for n in range(6)]
        answer["result"] = {"tools": tools, **({} if at else {"nextCursor": "more"})}
    else:
        answer["error"] = {"code": -32601, "message": "Method not found"}
    print(json.dumps(answer), flush=True)
"""


def long_server(_peer: Peer) -> Server[Any]:
    async def list_tools(_ctx: Any, params: Any) -> t.ListToolsResult:
        at = 1 if params and params.cursor == "more" else 0
        tools = [
            t.Tool(name=f"tool_{at}_{number}", description=LONG, input_schema={"type": "object"})
            for number in range(EACH)
        ]
        return t.ListToolsResult(tools=tools, next_cursor=None if at else "more")

    return Server("long", version="1", on_list_tools=list_tools)


@asynccontextmanager
async def of_kind(kind: str, directory: Path) -> AsyncIterator[str]:
    """The entry of a server of pages over a megabyte."""
    if kind == "stdio":
        script = directory / "child.py"
        script.write_text(CHILD)
        yield f"{{command: {sys.executable}, args: ['{script}']}}"
        return
    serving = {
        "modern": lambda: mcp_servers.dual_era(long_server),
        "legacy": lambda: mcp_servers.legacy_only(long_server),
        "sse": lambda: mcp_asking.asking_over_sse(long_server),
    }[kind]()
    async with serving as peer:
        yield f"{{url: {peer.url}}}"


@pytest.mark.parametrize("kind", ["modern", "legacy", "sse", "stdio"])
async def test_pages_over_a_megabyte_are_listed_over_every_transport(tmp_path: Path, kind: str) -> None:
    async with of_kind(kind, tmp_path) as entry, open_mcp_hub(tmp_path, f"mcpServers: {{peer: {entry}}}\n") as hub:
        await hub.listed(*(f"peer__tool_{page}_{number}" for page in (0, 1) for number in range(EACH)))


Page = Callable[[str | None], dict[str, Any]]


@asynccontextmanager
async def listing(tmp_path: Path, page: Page) -> AsyncIterator[tuple[McpHub, Peer]]:
    """A hub before a fake server, whose page of tools for a cursor `page` makes: no real one lists like this."""

    def script(message: dict[str, Any]) -> tuple[int, bytes, bytes] | None:
        if message["method"] != "tools/list":
            return mcp_servers.modern([])(message)
        return mcp_servers._json(message["id"], page(message["params"].get("cursor")))

    async with (
        mcp_servers.scripted(script) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n") as hub,
    ):
        await hub.listed("peer__tool_0")
        yield hub, peer


def tool(number: int, description: str = "") -> dict[str, Any]:
    return {"name": f"tool_{number}", "description": description, "inputSchema": {"type": "object"}}


async def left_out(hub: McpHub) -> dict[str, str]:
    async with hub.http(ADMIN_KEY) as http:
        found: dict[str, str] = (await http.get("/api/mcp-servers/peer")).json()["quarantined"]
        return found


@pytest.mark.attack("2.1/30")
async def test_a_list_that_never_ends_is_cut_and_says_so(tmp_path: Path) -> None:
    def page(cursor: str | None) -> dict[str, Any]:
        at = int(cursor or 0)
        return {"tools": [tool(at)], "nextCursor": str(at + 1)}

    async with listing(tmp_path, page) as (hub, peer):
        await hub.listed(f"peer__tool_{sync.MAX_PAGES - 1}")
        assert len(hub.services.registry.catalog.tools) == sync.MAX_PAGES
        assert await left_out(hub) == {
            "(more)": f"the list goes on after {sync.MAX_PAGES} pages, and is read no further"
        }
        asked = [seen for seen in peer.requests if seen.get("mcp-method") == "tools/list"]
        assert len(asked) == sync.MAX_PAGES


@pytest.mark.parametrize(
    ("bound", "value", "listed", "reason"),
    [
        ("MAX_THINGS", 25, 25, "the list is longer than 25, and is read no further"),
        ("MAX_BYTES", 5120, 23, "the list is larger than 5 KiB, and is read no further"),
    ],
)
async def test_a_list_that_is_too_long_or_too_large_is_cut_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, listed: int, reason: str
) -> None:
    def page(cursor: str | None) -> dict[str, Any]:
        at = int(cursor or 0)
        return {"tools": [tool(number, "y" * 150) for number in range(at, at + 10)], "nextCursor": str(at + 10)}

    monkeypatch.setattr(sync, bound, value)
    async with listing(tmp_path, page) as (hub, _):
        assert len(hub.services.registry.catalog.tools) == listed
        assert await left_out(hub) == {"(more)": reason}


@pytest.mark.parametrize("back", ["a", "b"])
async def test_a_cursor_that_comes_again_ends_the_list_and_says_so(tmp_path: Path, back: str) -> None:
    def page(cursor: str | None) -> dict[str, Any]:
        at = {None: 0, "a": 1, "b": 2}[cursor]
        return {"tools": [tool(at)], "nextCursor": ["a", "b", back][at]}

    async with listing(tmp_path, page) as (hub, _):
        assert len(hub.services.registry.catalog.tools) == 3
        assert await left_out(hub) == {"(more)": "the list goes in a circle: the server gave a cursor twice"}
