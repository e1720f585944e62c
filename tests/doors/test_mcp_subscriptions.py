"""Subscriptions and list changes, between clients and servers of both eras (MCP 2025-11-25 and 2026-07-28)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import mcp_types as t
import msgspec
import pytest
from mcp import Client, MCPError

from mcp_bridge import subscriptions
from mcp_bridge.listening import LIST_CHANGED, Filter
from registry.identity import Principal
from registry.sealed.secrets import digest
from tests.conftest import free_port, free_socket
from tests.peers import mcp_asking
from tests.peers.mcp_hub import McpHub, headers, message, open_mcp_hub
from tests.peers.mcp_telling import DIARY, NOTE, SECRET, telling_server
from tests.until import until

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

ROOT = Path(__file__).parents[2]
MODES = ("legacy", "2026-07-28")
HTTP = ("both", "modern", "legacy")
SERVERS = (*HTTP, "sse", "stdio", "stdio-legacy")
TOOLS, PROMPTS, RESOURCES = (f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources"))


@asynccontextmanager
async def hub_before(kind: str, directory: Path, more: str = "") -> AsyncIterator[tuple[McpHub, Any]]:
    """A hub before one server that tells of changes, called `peer`."""
    async with AsyncExitStack() as stack:
        if kind.startswith("stdio"):
            entry = f"{{command: {sys.executable}, args: ['-m', tests.peers.mcp_telling, {kind}], cwd: '{ROOT}'}}"
            peer = None
        else:
            sse = mcp_asking.asking_over_sse(telling_server)
            peer = await stack.enter_async_context(sse if kind == "sse" else mcp_asking.asking(kind, telling_server))
            entry = f"{{url: {peer.url}}}"
        hub = await stack.enter_async_context(open_mcp_hub(directory, f"mcpServers: {{peer: {entry}}}\n{more}"))
        await hub.listed("peer__touch")
        yield hub, peer


class Ear:
    """A client that hears of changes, in either era."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self._news = asyncio.Event()
        self.client: Client
        self.honoured: Any = None

    async def note(self, message: Any) -> None:
        if isinstance(message, t.Notification) or hasattr(message, "method"):
            self.put(message.method, getattr(message.params, "uri", "") or "")

    def put(self, method: str, uri: str = "") -> None:
        self.heard.append((method, uri))
        self._news.set()

    async def until(self, *wanted: tuple[str, str]) -> None:
        """Wait until all of this was heard."""
        async with asyncio.timeout(20):
            while not set(wanted) <= set(self.heard):
                self._news.clear()
                await self._news.wait()


EVENTS = {"ToolsListChanged": TOOLS, "PromptsListChanged": PROMPTS, "ResourcesListChanged": RESOURCES}
UPDATED = "notifications/resources/updated"


@asynccontextmanager
async def listening(
    hub: McpHub, secret: str, mode: str, *uris: str, path: str = "/mcp", lists: bool = True
) -> AsyncIterator[Ear]:
    """A client that listens for lists and these resources."""
    ear = Ear()
    async with AsyncExitStack() as stack:
        ear.client = await stack.enter_async_context(
            hub.client(secret, mode=mode, path=path, message_handler=ear.note if mode == "legacy" else None)
        )
        if mode == "legacy":
            for uri in uris:
                await ear.client.subscribe_resource(uri)
        else:
            changes = dict.fromkeys(("tools_list_changed", "prompts_list_changed", "resources_list_changed"), lists)
            stream = await stack.enter_async_context(ear.client.listen(**changes, resource_subscriptions=uris))
            ear.honoured = stream.honored

            async def hear() -> None:
                async for event in stream:
                    name = type(event).__name__
                    ear.put(EVENTS.get(name, UPDATED), getattr(event, "uri", ""))
                ear.put("ended")

            hearing = asyncio.create_task(hear())
            stack.callback(hearing.cancel)
        yield ear


async def call(hub: McpHub, name: str, **arguments: Any) -> None:
    """Call a tool of the server, as somebody else."""
    async with hub.client(await hub.key("tool:*"), mode="2026-07-28") as client:
        await client.call_tool(name, arguments)


def questions(peer: Any) -> list[Any]:
    """What the server was asked to tell."""
    return [one for one in peer.calls if one[0] in {"listen", "subscribe"}]


async def watched(peer: Any, *, uris: int) -> None:
    """Wait until the server is asked for so many resources."""
    async with asyncio.timeout(20):
        while True:
            listened = [params["uris"] for what, params in peer.calls if what == "listen"]
            if len([1 for what, _ in peer.calls if what == "subscribe"]) >= uris or any(
                len(one) >= uris for one in listened
            ):
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SERVERS)
async def test_a_change_of_lists_and_of_a_resource_is_told(tmp_path: Path, kind: str, mode: str) -> None:
    async with (
        hub_before(kind, tmp_path) as (hub, peer),
        listening(hub, await hub.key("server:*"), mode, f"peer+{NOTE}") as ear,
    ):
        if peer is not None:
            await watched(peer, uris=1)
            await peer.telling.touch(NOTE)
            await peer.telling.touch(DIARY)
        else:
            await until_told(hub, ear, f"peer+{NOTE}", NOTE)
        await ear.until((UPDATED, f"peer+{NOTE}"))
        assert (UPDATED, f"peer+{DIARY}") not in ear.heard
        await call(hub, "peer__grow")
        await ear.until((TOOLS, ""), (PROMPTS, ""), (RESOURCES, ""))
        assert "peer__tool0" in [tool.name for tool in (await ear.client.list_tools()).tools]


async def until_told(hub: McpHub, ear: Ear, shown: str, uri: str) -> None:
    """Change a resource until a child that was asked for it a moment ago says so."""
    async with asyncio.timeout(20):
        while (UPDATED, shown) not in ear.heard:
            await call(hub, "peer__touch", uri=uri)


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_hears_of_its_own_lists_alone(tmp_path: Path, mode: str) -> None:
    async with hub_before("both", tmp_path) as (hub, peer), AsyncExitStack() as stack:
        ann = await stack.enter_async_context(listening(hub, await hub.key("tool:peer__t*", "tool:peer__grow"), mode))
        bob = await stack.enter_async_context(listening(hub, await hub.key("tool:peer__touch"), mode))
        cat = await stack.enter_async_context(listening(hub, await hub.key("server:peer"), mode))
        await peer.telling.grow()
        await ann.until((TOOLS, ""))
        await cat.until((TOOLS, ""), (PROMPTS, ""), (RESOURCES, ""))
        await peer.telling.claim()  # nothing changed
        await hub.sync.refresh("peer")
        await peer.telling.grow()
        await asyncio.gather(*(one.until((TOOLS, "")) for one in (ann, cat)))
        await until(lambda: ann.heard.count((TOOLS, "")) >= 2)
        assert set(ann.heard) == {(TOOLS, "")}
        assert ann.heard.count((TOOLS, "")) == 2
        assert bob.heard == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", HTTP)
async def test_nobody_hears_of_anothers_resource(tmp_path: Path, kind: str, mode: str) -> None:
    async with hub_before(kind, tmp_path) as (hub, peer), AsyncExitStack() as stack:
        key = await hub.key("tool:*", f"resource:peer__{NOTE}*")
        if mode == "legacy":
            mine = [f"peer+{NOTE}"]
        else:
            mine = [f"peer+{NOTE}", f"peer+{SECRET}", "peer+memo:n", "nowhere+memo:note", "no uri"]
        ann = await stack.enter_async_context(listening(hub, key, mode, *mine))
        bob = await stack.enter_async_context(
            listening(hub, await hub.key("server:*"), mode, SECRET, path="/mcp/peer", lists=False)
        )
        if mode == "legacy":
            for uri in (f"peer+{SECRET}", "nowhere+memo:note", "no uri"):
                with pytest.raises(MCPError):
                    await ann.client.subscribe_resource(uri)
        else:
            assert ann.honoured.resource_subscriptions == [f"peer+{NOTE}"]
            assert bob.honoured.tools_list_changed is None
        await watched(peer, uris=2)
        await peer.telling.touch(SECRET)
        await bob.until((UPDATED, SECRET))
        part = f"{NOTE}/page" if kind == "legacy" else NOTE  # the SDK's modern servers tell of what was named alone
        await peer.telling.touch(part)
        await ann.until((UPDATED, f"peer+{part}"))
        assert ann.heard == [(UPDATED, f"peer+{part}")]
        assert bob.heard == [(UPDATED, SECRET)]


@pytest.mark.parametrize("mode", MODES)
async def test_a_part_of_a_resource_that_the_key_may_not_read_is_not_told(tmp_path: Path, mode: str) -> None:
    async with hub_before("legacy", tmp_path) as (hub, peer):
        key = await hub.key("tool:*", f"resource:peer__{NOTE}")
        async with listening(hub, key, mode, f"peer+{NOTE}") as ear:
            await watched(peer, uris=1)
            await peer.telling.touch(f"{NOTE}/page")
            await peer.telling.touch(NOTE)
            await ear.until((UPDATED, f"peer+{NOTE}"))
            assert ear.heard == [(UPDATED, f"peer+{NOTE}")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["modern", "legacy"])
async def test_the_server_is_asked_once_and_left_with_the_last_who_listens(
    tmp_path: Path, kind: str, mode: str
) -> None:
    async with hub_before(kind, tmp_path) as (hub, peer):
        secret = await hub.key("server:*")
        async with listening(hub, secret, mode, f"peer+{NOTE}", lists=False):
            await watched(peer, uris=1)
            asked = questions(peer)
            async with listening(hub, secret, "2026-07-28", f"peer+{NOTE}", lists=False) as other:
                if kind == "modern" or mode != "legacy":  # a session of 2025-11-25 is its client's alone
                    await call(hub, "peer__touch", uri=NOTE)
                    await other.until((UPDATED, f"peer+{NOTE}"))
                    assert questions(peer) == asked
            peer.cancelled.clear()
        if mode == "legacy":
            return  # the session, which ends when it is idle, may come back to its stream
        async with asyncio.timeout(20):
            await peer.cancelled.wait()
        assert peer.calls[-1][0] in {"unsubscribe", "left"}


async def test_a_session_that_unsubscribes_or_ends_lets_go(tmp_path: Path) -> None:
    async with hub_before("legacy", tmp_path) as (hub, peer):
        async with listening(hub, await hub.key("server:*"), "legacy", f"peer+{NOTE}", f"peer+{DIARY}") as ear:
            await ear.client.unsubscribe_resource(f"peer+{NOTE}")
            await ear.client.unsubscribe_resource("peer+memo:never")
            async with asyncio.timeout(20):
                await peer.cancelled.wait()
            assert peer.calls[-1] == ("unsubscribe", {"uri": NOTE})
            await peer.telling.touch(NOTE)
            await peer.telling.touch(DIARY)
            await ear.until((UPDATED, f"peer+{DIARY}"))
            assert (UPDATED, f"peer+{NOTE}") not in ear.heard
        assert not hub.services.subscriptions._subscribers


@pytest.mark.parametrize("mode", MODES)
async def test_a_revoked_key_hears_nothing_more(tmp_path: Path, mode: str) -> None:
    async with hub_before("both", tmp_path) as (hub, peer):
        secret = await hub.key("server:*")
        async with listening(hub, secret, mode, f"peer+{NOTE}") as ear:
            await watched(peer, uris=1)
            name = next(key.name for key in await hub.services.keys.all_live())
            (subscriber,) = hub.services.subscriptions._subscribers
            await hub.services.keys.revoke(name)
            if mode == "legacy":
                await until(lambda: subscriber.is_over)
            else:
                await ear.until(("ended", ""))
            assert subscriber.watches == {}


@contextmanager
def unreadable_keys(directory: Path) -> Iterator[None]:
    """Nothing can be read of keys."""
    with contextlib.closing(sqlite3.connect(directory / "hubbub.db", isolation_level=None)) as database:
        database.execute("ALTER TABLE api_keys RENAME TO elsewhere")
        yield
        database.execute("ALTER TABLE elsewhere RENAME TO api_keys")


async def said(caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Wait until the hub has logged it."""
    await until(lambda: any(words in record.getMessage() for record in caplog.records))


@pytest.mark.parametrize("mode", MODES)
async def test_keys_that_cannot_be_read_for_a_moment_cost_nobody_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    monkeypatch.setattr(subscriptions, "RETRY_S", 0.01)
    monkeypatch.setattr(subscriptions, "TRIES", 10_000)
    async with (
        hub_before("both", tmp_path) as (hub, peer),
        listening(hub, await hub.key("tool:*"), mode) as ear,
    ):
        with unreadable_keys(tmp_path):
            hub.services.keys.forget()
            await said(caplog, "keys cannot be read")
            await peer.telling.grow()
        await ear.until((TOOLS, ""))


async def test_who_listens_is_sent_away_when_keys_cannot_be_read_for_long_and_may_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "RETRY_S", 0.0)
    async with hub_before("both", tmp_path) as (hub, peer):
        key = await hub.key("tool:*")
        async with listening(hub, key, "2026-07-28") as ear:
            with unreadable_keys(tmp_path):
                hub.services.keys.forget()
                await ear.until(("ended", ""))
        async with listening(hub, key, "2026-07-28") as ear:
            await peer.telling.grow()
            await ear.until((TOOLS, ""))


@pytest.mark.parametrize("mode", MODES)
async def test_a_key_that_may_less_hears_less(tmp_path: Path, mode: str) -> None:
    async with hub_before("both", tmp_path) as (hub, peer):
        secret = await hub.key("server:*")
        async with listening(hub, secret, mode, f"peer+{NOTE}", f"peer+{DIARY}") as ear:
            await watched(peer, uris=2)
            name = next(key.name for key in await hub.services.keys.all_live())
            grants = msgspec.json.encode(["tool:*", f"resource:peer__{DIARY}"]).decode()
            await hub.services.keys.update(name, grants=grants)
            await ear.until((PROMPTS, ""), (RESOURCES, ""))
            await peer.telling.touch(NOTE)
            await peer.telling.touch(DIARY)
            await ear.until((UPDATED, f"peer+{DIARY}"))
            assert (UPDATED, f"peer+{NOTE}") not in ear.heard
            assert (TOOLS, "") not in ear.heard


async def test_a_stream_ends_with_a_result_when_the_hub_stops(tmp_path: Path) -> None:
    async with AsyncExitStack() as clients:
        async with hub_before("both", tmp_path) as (hub, _):
            ear = await clients.enter_async_context(listening(hub, await hub.key("server:*"), "2026-07-28"))
            await clients.enter_async_context(listening(hub, await hub.key("server:*"), "legacy"))
        await ear.until(("ended", ""))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", HTTP)
async def test_a_server_that_restarts_is_asked_again(tmp_path: Path, kind: str, mode: str) -> None:
    port = free_port()

    def serve() -> Any:
        return mcp_asking.asking(kind, telling_server, free_socket(port))

    async with AsyncExitStack() as stack:
        first = AsyncExitStack()
        peer = await first.enter_async_context(serve())
        yaml = f"mcpServers: {{peer: {{url: {peer.url}}}}}\n"
        hub = await stack.enter_async_context(open_mcp_hub(tmp_path, yaml))
        await hub.listed("peer__touch")
        ear = await stack.enter_async_context(listening(hub, await hub.key("server:*"), mode, f"peer+{NOTE}"))
        await watched(peer, uris=1)
        await first.aclose()
        peer = await stack.enter_async_context(serve())
        await watched(peer, uris=1)
        await ear.until((UPDATED, f"peer+{NOTE}"))  # what may have been missed
        ear.heard.clear()
        await peer.telling.touch(NOTE)
        await ear.until((UPDATED, f"peer+{NOTE}"))


async def test_other_roots_are_told_to_the_servers_of_that_session_alone(tmp_path: Path) -> None:
    async def roots(_context: Any) -> t.ListRootsResult:
        return t.ListRootsResult(roots=[])

    async with hub_before("legacy", tmp_path) as (hub, peer):
        secret = await hub.key("server:*")
        async with (
            hub.client(secret, mode="legacy", list_roots_callback=roots) as ann,
            hub.client(secret, mode="legacy", list_roots_callback=roots) as bob,
        ):
            for client in (ann, bob):
                await client.call_tool("peer__claim", {})
            await ann.send_roots_list_changed()
            async with asyncio.timeout(20):
                await peer.waiting.wait()
            await bob.list_tools()
            assert [one for one in peer.calls if one[0] == "roots"] == [("roots", {})]


async def listen_raw(hub: McpHub, secret: str, notifications: Any, path: str = "/mcp") -> httpx.Response:
    """Ask for a stream that is refused, or read the first message of one."""
    body = message("subscriptions/listen", {"notifications": notifications}, request_id="mine")
    async with (
        hub.http(secret) as http,
        http.stream("POST", path, json=body, headers=headers("subscriptions/listen")) as answer,
    ):
        if answer.headers["content-type"] == "text/event-stream":
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    return httpx.Response(200, content=line.removeprefix("data: "))
        return httpx.Response(answer.status_code, content=await answer.aread())


async def test_a_stream_begins_with_what_is_told_on_it(tmp_path: Path) -> None:
    async with hub_before("both", tmp_path) as (hub, _):
        secret = await hub.key("server:*")
        asked = {
            "toolsListChanged": True,
            "promptsListChanged": False,
            "vendorChanged": True,
            "resourceSubscriptions": [NOTE, NOTE],
        }
        first = (await listen_raw(hub, secret, asked, "/mcp/peer")).json()
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"] == {
            "notifications": {"toolsListChanged": True, "resourceSubscriptions": [NOTE]},
            "_meta": {"io.modelcontextprotocol/subscriptionId": "mine"},
        }
        nothing = (await listen_raw(hub, await hub.key("model:x"), asked)).json()
        assert "resourceSubscriptions" not in nothing["params"]["notifications"]


@pytest.mark.parametrize(
    "notifications",
    [
        None,
        [],
        "all",
        {"toolsListChanged": "yes"},
        {"tools_list_changed": True},
        {"resourceSubscriptions": NOTE},
        {"resourceSubscriptions": [1]},
        {"resourceSubscriptions": [f"memo:{number}" for number in range(257)]},
    ],
    ids=str,
)
async def test_what_is_no_filter_is_refused(tmp_path: Path, notifications: Any) -> None:
    async with open_mcp_hub(tmp_path) as hub:
        answer = await listen_raw(hub, await hub.key("server:*"), notifications)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)


async def test_one_key_cannot_take_all_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MAX_STREAMS", 2)
    monkeypatch.setattr(subscriptions, "MAX_SUBSCRIPTIONS", 2)
    async with hub_before("both", tmp_path) as (hub, _), AsyncExitStack() as stack:
        ann, bob = await hub.key("server:*"), await hub.key("server:*")
        await stack.enter_async_context(listening(hub, ann, "2026-07-28", f"peer+{NOTE}"))
        refused = await listen_raw(hub, ann, {"resourceSubscriptions": [f"peer+{NOTE}", f"peer+{DIARY}"]})
        assert refused.status_code == 503
        await stack.enter_async_context(listening(hub, ann, "2026-07-28"))
        assert (await listen_raw(hub, ann, {"toolsListChanged": True})).status_code == 503
        assert (await listen_raw(hub, bob, {"toolsListChanged": True})).status_code == 200
        session = await stack.enter_async_context(listening(hub, ann, "legacy", f"peer+{NOTE}", lists=False))
        with pytest.raises(MCPError, match="subscriptions"):
            await session.client.subscribe_resource(f"peer+{DIARY}")


async def test_what_waits_for_a_slow_client_is_bounded(tmp_path: Path) -> None:
    async with hub_before("legacy", tmp_path) as (hub, peer):
        hearer = subscriptions.Hearer(await principal(hub), "", searches=False)
        wanted = Filter(LIST_CHANGED, (f"peer+{NOTE}",))
        with hub.services.subscriptions.listening(hearer, wanted) as (slow, _):
            await watched(peer, uris=1)
            async with listening(hub, await hub.key("server:*"), "legacy", f"peer+{NOTE}") as quick:
                for number in range(2 * subscriptions.MAX_WAITING):
                    await peer.telling.touch(f"{NOTE}/{number}")
                await peer.telling.touch(DIARY)
                await peer.telling.touch(NOTE)
                await quick.until((UPDATED, f"peer+{NOTE}"))
            told = []
            async with asyncio.timeout(20):
                while (news := await slow.next()) != (UPDATED, {"uri": f"peer+{NOTE}"}):
                    told.append(news)
            assert len(told) == subscriptions.MAX_WAITING


async def principal(hub: McpHub) -> Principal:
    """Somebody who may use the server."""
    found = await hub.services.keys.find(digest((await hub.key("server:*")).encode()))
    assert found is not None
    return found


async def test_an_older_client_that_reads_no_stream_hears_when_it_reads_one(tmp_path: Path) -> None:
    async with hub_before("both", tmp_path) as (hub, peer), hub.http(await hub.key("server:*")) as http:
        session = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        begun = await http.post("/mcp", json=legacy("initialize", 1, hello), headers=session)
        session["mcp-session-id"] = begun.headers["mcp-session-id"]
        await http.post("/mcp", json=legacy("notifications/initialized"), headers=session)
        (subscriber,) = hub.services.subscriptions._subscribers
        await peer.telling.grow()
        async with asyncio.timeout(20):
            await until(lambda: len(subscriber._waiting) >= 3)
            async with http.stream("GET", "/mcp", headers=session) as stream:
                told = set()
                async for line in stream.aiter_lines():
                    if line.startswith("data: "):
                        told.add(json.loads(line.removeprefix("data: "))["method"])
                    if len(told) == 3:
                        break
        assert told == {TOOLS, PROMPTS, RESOURCES}


def legacy(method: str, request_id: int | None = None, params: Any = None) -> dict[str, Any]:
    """A message of an older client."""
    found = {"jsonrpc": "2.0", "method": method, "id": request_id, "params": params}
    return {member: value for member, value in found.items() if value is not None}
