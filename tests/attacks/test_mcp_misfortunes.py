"""Servers that hang, die, lie or change their minds: nobody else notices, nor does a caller who tries again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcp_bridge import line
from tests.peers import mcp_servers
from tests.peers.mcp_hub import headers, message, open_mcp_hub
from tests.peers.mcp_process import server_process
from tests.peers.mcp_waiting import ASKABLE, hub_before, legacy_call, modern_call, read, rpc, session

OBJECT = {"type": "object"}


@pytest.mark.attack("2.1/30")
async def test_lists_are_whole_while_a_server_hangs_one_is_dead_one_lies_and_one_changes(tmp_path: Path) -> None:
    tools: list[Any] = [{"name": "before", "inputSchema": OBJECT, "description": "old words"}]

    def hanging(asked: dict[str, Any]) -> tuple[int, bytes, bytes] | None:
        return None if asked["method"] == "tools/list" else mcp_servers.modern([])(asked)

    broken = [{"name": "good", "inputSchema": OBJECT}, {"name": "bad", "inputSchema": "none"}]
    async with (
        mcp_servers.scripted(hanging) as hung,
        mcp_servers.scripted(mcp_servers.modern(broken)) as lying,
        mcp_servers.scripted(mcp_servers.modern(tools)) as changing,
        mcp_servers.legacy_only() as peer,
        open_mcp_hub(
            tmp_path,
            f"""
            mcpServers:
              hung: {{url: {hung.url}}}
              dead: {{url: "http://127.0.0.1:9/mcp"}}
              lying: {{url: {lying.url}}}
              changing: {{url: {changing.url}}}
              peer: {{url: {peer.url}}}
            """,
        ) as hub,
        hub.http(await hub.key("tool:*")) as http,
    ):
        await hub.listed("peer__echo", "lying__good", "changing__before")
        async with asyncio.timeout(20):
            await hung.waiting.wait()
        given = await session(http, {})

        async def lists() -> list[dict[str, Any]]:
            """What clients of both eras are shown, the second less what only the first know."""
            async with asyncio.timeout(10):
                new = await http.post("/mcp", json=message("tools/list"), headers=headers("tools/list"))
                old = await http.post("/mcp", json=rpc("tools/list", {}), headers=given)
            found: list[dict[str, Any]] = read(new)["result"]["tools"]
            assert found == read(old)["result"]["tools"]
            return found

        others = [f"peer__{name}" for name in ("echo", "wait", "tell", "region", "fail")]
        assert sorted(tool["name"] for tool in await lists()) == sorted([*others, "lying__good", "changing__before"])
        tools[:] = [
            {"name": "before", "inputSchema": OBJECT, "description": "new words"},
            {"name": "after", "inputSchema": OBJECT},
        ]
        await hub.sync.refresh("changing")
        found = {tool["name"]: tool for tool in await lists()}
        assert found.keys() == {*others, "lying__good", "changing__before", "changing__after"}
        assert found["changing__before"]["description"] == "new words"
        assert sum(b'"tools/list"' in seen.get(":body", b"") for seen in hung.requests) == 1
        assert not hung.release.is_set()


Try = Callable[[], Awaitable[dict[str, Any]]]


async def tries(http: httpx.AsyncClient, tool: str) -> list[Try]:
    """Calls of clients of both eras, each with and without something to be asked."""
    found: list[Try] = []
    for capabilities in ({}, ASKABLE):
        given = await session(http, capabilities)

        async def old(given: dict[str, str] = given) -> dict[str, Any]:
            return read(await http.post("/mcp", json=legacy_call(tool), headers=given))

        async def new(capabilities: dict[str, Any] = capabilities) -> dict[str, Any]:
            body, given = modern_call(tool, capabilities)
            return read(await http.post("/mcp", json=body, headers=given))

        found += [old, new]
    return found


async def again(attempt: Try) -> dict[str, Any]:
    """What a caller gets who tries twice."""
    async with asyncio.timeout(30):
        answer = await attempt()
        return answer if "result" in answer else await attempt()


@pytest.mark.parametrize("kind", ["stdio", "stdio-legacy"])
async def test_a_killed_stdio_server_is_not_noticed_by_a_caller_who_tries_again(tmp_path: Path, kind: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, server), hub.http(await hub.key("tool:*")) as http:
        waits = await tries(http, "peer__wait")
        for number, echo in enumerate(await tries(http, "peer__echo")):
            assert "result" in await echo()
            server.kill()
            assert "result" in await again(echo)
            if number % 2 == 0:
                continue
            waiting = asyncio.create_task(waits[number]())
            await server.until("waiting")
            server.kill()
            async with asyncio.timeout(30):
                assert "ended" in (await waiting)["error"]["message"]
            assert "result" in await again(echo)


@pytest.mark.parametrize("kind", ["both", "modern", "legacy", "sse"])
async def test_an_http_server_that_dies_and_starts_again_is_not_noticed_by_a_caller_who_tries_again(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another process on the same port, which knows nothing of what the first one knew."""
    monkeypatch.setattr(line, "PAUSE_S", 0.0)  # it may start faster than a server that only failed is asked again
    async with (
        server_process(kind, tmp_path) as server,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {server.url}}}}}\n") as hub,
        hub.http(await hub.key("tool:*")) as http,
    ):
        await hub.listed("peer__echo")
        echoes, works = await tries(http, "peer__echo"), await tries(http, "peer__work")
        for echo in echoes:
            assert "result" in await echo()
        calls = [asyncio.create_task(work()) for work in works]
        await server.works(len(calls))
        await server.kill()
        async with asyncio.timeout(30):
            answers = await asyncio.gather(*calls)
        assert all(answer["error"]["message"].startswith("peer") for answer in answers)
        assert all(["error" in await echo() for echo in echoes])
        await server.start()
        for echo in echoes:
            assert "result" in await again(echo)
