"""Requests of a hub's first seconds, and of a server's, wait for lists that nobody has read yet, and for no others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcp_bridge import sync
from registry.identity import admin
from tests.doors.test_three_doors import BODIES
from tests.peers.mcp_hub import McpHub, headers, message, open_mcp_hub
from tests.peers.mcp_servers import Peer, modern, scripted
from tests.peers.mcp_waiting import legacy_call, read, session
from tests.peers.openai_upstream import Turn, openai_upstream

NEVER_S = 1000.0
"""Longer than a test may take: one that waits so long fails."""

TOOL = {"name": "look", "inputSchema": {"type": "object"}}


@asynccontextmanager
async def slow() -> AsyncIterator[Peer]:
    """A server that is silent when it is asked for its tools, until `release`."""

    def script(message: dict[str, Any]) -> tuple[int, bytes, bytes] | None:
        if message.get("method") == "tools/list" and not peer.release.is_set():
            return None
        return modern([TOOL])(message)

    async with scripted(script) as peer:
        yield peer


@asynccontextmanager
async def opened(
    directory: Path, *, quick: Peer | None = None, more: str = ""
) -> AsyncIterator[tuple[McpHub, Peer, httpx.AsyncClient]]:
    """A hub whose server `slow` is being asked for its tools, and one who may do all; the list of `quick` is known."""
    async with slow() as peer:
        yaml = f"mcpServers:\n  slow: {{url: {peer.url}}}\n" + (f"  quick: {{url: {quick.url}}}\n" if quick else "")
        yaml += "toolsets:\n  some: {tools: ['slow__*']}\n  others: {tools: ['quick__*']}\n"
        async with open_mcp_hub(directory, yaml + more) as hub, hub.http(await hub.key("tool:*")) as http:
            await peer.waiting.wait()
            if quick is not None:
                await hub.listed("quick__look")
            yield hub, peer, http


async def ask(http: httpx.AsyncClient, method: str, path: str = "/mcp", **params: Any) -> dict[str, Any]:
    sent = headers(method, params.get("name"))
    return read(await http.post(path, json=message(method, params), headers=sent))


class Awaited(asyncio.Future[None]):
    """The end of a first list, which tells how many wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = asyncio.Semaphore(0)

    def add_done_callback(self, fn: Any, *, context: Any = None) -> None:
        super().add_done_callback(fn, context=context)
        self.waits.release()


async def waiting(hub: McpHub, *requests: Any) -> list[asyncio.Task[Any]]:
    """Requests that have come to where they wait; fails when one is answered instead."""
    ended = hub.sync.first["slow"] = Awaited()
    tasks = [asyncio.create_task(one) for one in requests]
    for _ in tasks:
        comes = asyncio.create_task(ended.waits.acquire())
        answered, _ = await asyncio.wait([comes, *tasks], return_when=asyncio.FIRST_COMPLETED)
        assert answered == {comes}, f"answered before the list was read: {answered}"
    return tasks


async def lists(hub: McpHub, peer: Peer) -> None:
    """Have `slow` list; fails when its first list is waited for still."""
    peer.release.set()
    await hub.sync.refresh("slow")  # begins when the listing under way is over
    assert not hub.dispatch.prepares


async def test_what_is_asked_before_the_first_list_is_read_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "FIRST_S", NEVER_S)
    async with opened(tmp_path) as (hub, peer, http):
        tasks = await waiting(
            hub,
            ask(http, "tools/call", name="slow__look"),
            ask(http, "tools/list"),
            ask(http, "tools/list", "/mcp/some"),
            ask(http, "tools/call", "/mcp/slow", name="look"),
        )
        await lists(hub, peer)
        called, listed, of_toolset, own = await asyncio.gather(*tasks)
        assert called["result"]["content"] == own["result"]["content"] == []
        for found in (listed, of_toolset):
            assert [tool["name"] for tool in found["result"]["tools"]] == ["slow__look"]


async def test_an_older_client_waits_in_its_first_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "FIRST_S", NEVER_S)
    async with opened(tmp_path) as (hub, peer, http):
        (opening,) = await waiting(hub, session(http, {}))
        await lists(hub, peer)
        called = read(await http.post("/mcp", json=legacy_call("slow__look"), headers=await opening))
        assert called["result"]["content"] == []


async def test_a_chat_waits_for_the_sources_that_it_names_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "FIRST_S", NEVER_S)
    async with scripted(modern([TOOL])) as quick, opened(tmp_path, quick=quick) as (hub, peer, _):
        await hub.dispatch.prepare(admin(), ["quick", "others", "agent", "nothing"])
        tasks = await waiting(hub, *(hub.dispatch.prepare(admin(), [source]) for source in ("slow", "some", None)))
        await lists(hub, peer)
        await asyncio.gather(*tasks)
        assert [tool.exposed for tool in hub.dispatch.offered(admin(), "some")] == ["slow__look"]


@pytest.mark.parametrize("door", BODIES)
async def test_a_request_to_a_model_with_the_tools_of_a_server_that_lists_slowly_waits_and_is_given_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    monkeypatch.setattr(sync, "FIRST_S", NEVER_S)
    async with openai_upstream(Turn("hi")) as model:
        models = f"models:\n  m: {{provider: openai_compatible, base_url: '{model.url}'}}\n"
        async with (
            opened(tmp_path, more=models) as (hub, peer, _),
            hub.http(await hub.key("tool:*", "model:*")) as http,
        ):
            path, body = BODIES[door]
            tool = {"type": "mcp", "server_label": "slow", "server_url": "hub/mcp/slow", "require_approval": "never"}
            (asked,) = await waiting(hub, http.post(path, json={"model": "m", "tools": [tool], **body}))
            assert model.received == []
            await lists(hub, peer)
            assert (await asked).status_code == 200
            assert [tool["function"]["name"] for tool in model.received[0].body["tools"]] == ["slow__look"]


async def test_nobody_waits_for_a_server_whose_list_is_known_or_that_is_not_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "FIRST_S", NEVER_S)
    async with scripted(modern([TOOL])) as quick, opened(tmp_path, quick=quick) as (hub, peer, http):
        assert (await ask(http, "tools/call", name="quick__look"))["result"]["content"] == []
        assert "error" in await ask(http, "tools/call", name="quick__absent")
        for path in ("/mcp/quick", "/mcp/others"):
            assert len((await ask(http, "tools/list", path))["result"]["tools"]) == 1
        async with hub.http(await hub.key("tool:quick__*")) as other:
            assert len((await ask(other, "tools/list"))["result"]["tools"]) == 1
            assert "error" in await ask(other, "tools/call", name="slow__look")
        assert hub.sync.first.keys() == {"slow"}
        peer.release.set()


async def test_a_server_that_never_lists_holds_up_the_first_requests_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "FIRST_S", 0.05)
    async with opened(tmp_path) as (hub, _, http):
        assert "No tool" in (await ask(http, "tools/call", name="slow__look"))["error"]["message"]
        assert not hub.dispatch.prepares
        assert (await ask(http, "tools/list"))["result"]["tools"] == []


async def test_nobody_waits_for_a_server_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "FIRST_S", NEVER_S)
    yaml = "mcpServers:\n  dead: {url: 'http://127.0.0.1:9/mcp'}\n  missing: {command: /no/such/command}\n"
    async with open_mcp_hub(tmp_path, yaml) as hub, hub.http(await hub.key("tool:*")) as http:
        assert (await ask(http, "tools/list"))["result"]["tools"] == []
        assert not hub.dispatch.prepares


async def test_a_server_that_is_registered_later_is_waited_for_too_and_no_more_once_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "FIRST_S", NEVER_S)
    async with slow() as peer, open_mcp_hub(tmp_path) as hub, hub.http(await hub.key("tool:*")) as http:
        registry = hub.services.registry
        await registry.put("server", "slow", {"url": peer.url}, trusted=True)
        greeting = asyncio.create_task(hub.services.greet("slow"))  # as the API does before it answers
        await peer.waiting.wait()
        (asked,) = await waiting(hub, ask(http, "tools/call", name="slow__look"))
        await lists(hub, peer)
        assert (await asked)["result"]["content"] == []
        await greeting
        peer.release.clear()
        peer.waiting.clear()
        await registry.put("server", "other", {"url": peer.url}, trusted=True)
        await peer.waiting.wait()
        ended = hub.sync.first["other"]
        await registry.delete("server", "other")
        await ended
        assert not hub.dispatch.prepares


async def test_lists_of_an_earlier_run_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "FIRST_S", NEVER_S)
    async with slow() as peer:
        peer.release.set()
        yaml = f"mcpServers:\n  slow: {{url: {peer.url}}}\n"
        async with open_mcp_hub(tmp_path, yaml) as hub:
            await hub.listed("slow__look")
        peer.release.clear()
        async with open_mcp_hub(tmp_path, yaml) as hub, hub.http(await hub.key("tool:*")) as http:
            assert len((await ask(http, "tools/list"))["result"]["tools"]) == 1
            assert not hub.dispatch.prepares
            peer.release.set()
