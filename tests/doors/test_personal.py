"""What a server lists for one user's account is shown to that user alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from mcp_bridge import personal
from registry.identity import Principal
from registry.sealed.secrets import digest
from tests.doors.test_connect import MODES, connect, crm, names, opened, text_of, whoami
from tests.doors.test_mcp_subscriptions import TOOLS, listening
from tests.peers import mcp_servers
from tests.peers.authorization import Authorization, authorization_server, protected_server
from tests.peers.mcp_hub import McpHub
from tests.until import until

ANN, BOB = ["crm__whoami", "crm__deals"], ["crm__whoami", "crm__tickets"]
NOBODY = ["crm__connect_account"]


async def keys_of(hub: McpHub, issuer: Authorization, *users: str) -> list[str]:
    """A key for each user, their accounts connected."""
    keys = [await hub.key("tool:crm__*", "resource:crm__*") for _ in users]
    for user, key in zip(users, keys, strict=True):
        issuer.provider.user = user
        await connect(hub, key)
    return keys


async def principal_of(hub: McpHub, key: str) -> Principal:
    found = await hub.services.keys.find(digest(key.encode()))
    assert found is not None
    return found


async def shows(hub: McpHub, key: str, expected: list[str]) -> None:
    async with asyncio.timeout(20):
        while await names(hub, key) != expected:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", MODES)
async def test_each_principal_is_listed_what_its_own_account_has(tmp_path: Path, mode: str) -> None:
    async with crm(tmp_path) as (hub, peer, issuer):
        peer.more = {"ann": ("deals",), "bob": ("tickets",)}
        ann, bob = await keys_of(hub, issuer, "ann", "bob")
        eve, other = [await hub.key("tool:crm__*") for _ in range(2)]
        narrow = await hub.key("tool:crm__whoami")
        issuer.provider.user = "ann"
        await connect(hub, narrow)
        for key, expected in ((ann, ANN), (bob, BOB), (eve, NOBODY), (narrow, ["crm__whoami"]), (ann, ANN)):
            assert await names(hub, key, mode=mode) == expected
            alone = [name.removeprefix("crm__") for name in expected]
            assert await names(hub, key, mode=mode, path="/mcp/crm") == alone
        async with hub.client(bob, mode=mode) as client:
            assert text_of(await client.call_tool("crm__tickets", {})) == "bob"
        shared, same, own = [hub.dispatch.view(await principal_of(hub, key)) for key in (eve, other, ann)]
        assert shared is same, "who has no list of their own shares the encoded lists of all"
        assert own is not shared
        everything = json.dumps([str(tool) for tool in hub.services.registry.catalog.tools.values()])
        assert "deals" not in everything
        assert "tickets" not in everything


async def test_a_users_own_list_is_searched_and_bundled_too(tmp_path: Path) -> None:
    more = "toolsets: {sales: {tools: ['crm__d*', {tool: crm__whoami, as: me}]}}\n"
    async with (
        authorization_server() as issuer,
        protected_server(issuer.url, issuer.provider) as peer,
        opened(tmp_path, peer.url, more=more) as hub,
    ):
        peer.more = {"ann": ("deals",)}
        (ann,) = await keys_of(hub, issuer, "ann")
        assert await names(hub, ann, path="/mcp/sales") == ["me", "crm__deals"]
        offered = hub.dispatch.offered(await principal_of(hub, ann), "crm")
        assert [tool.exposed for tool in offered] == ANN


async def test_lists_of_accounts_are_there_in_the_first_answer_after_a_restart(tmp_path: Path) -> None:
    async with authorization_server() as issuer, protected_server(issuer.url, issuer.provider) as peer:
        peer.more = {"ann": ("deals",)}
        async with opened(tmp_path, peer.url) as hub:
            (ann,) = await keys_of(hub, issuer, "ann")
        async with opened(tmp_path, peer.url) as hub:
            assert await names(hub, ann) == ANN


async def test_a_list_that_changes_is_read_again_by_the_clock_and_when_its_server_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with crm(tmp_path) as (hub, peer, issuer):
        (ann,) = await keys_of(hub, issuer, "ann")
        assert await names(hub, ann) == ["crm__whoami"]
        peer.more = {"ann": ("deals",)}
        assert await names(hub, ann) == ["crm__whoami"], "not yet"
        hub.dispatch._personal.lists_changed("crm")
        await shows(hub, ann, ANN)
        monkeypatch.setattr(personal, "INTERVAL_S", 0.0)
        hub.dispatch._personal.lists_changed("crm")
        peer.more = {}
        await shows(hub, ann, ["crm__whoami"])
        peer.more = {"ann": ("deals",)}
        await shows(hub, ann, ANN)


async def test_a_server_that_fails_keeps_its_list_and_an_account_that_ends_takes_it_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(personal, "INTERVAL_S", 0.0)
    monkeypatch.setattr(personal, "WITHOUT_S", 0.0)
    async with crm(tmp_path) as (hub, peer, issuer):
        peer.more = {"ann": ("deals",)}
        (ann,) = await keys_of(hub, issuer, "ann")
        peer.instead = lambda _scope: b"no MCP"
        failing = len(peer.requests)
        for _ in range(3):
            assert await names(hub, ann) == ANN
        await until(lambda: len(peer.requests) != failing)
        assert await names(hub, ann) == ANN
        peer.instead = None
        issuer.provider.tokens.clear()
        issuer.provider.refreshing.clear()
        await shows(hub, ann, NOBODY)
        assert (await whoami(hub, ann)).is_error


async def test_lists_are_bounded_and_whose_was_forgotten_is_listed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(personal, "MAX_PRINCIPALS", 1)
    async with crm(tmp_path) as (hub, peer, issuer):
        peer.more = {"ann": ("deals",), "bob": ("tickets",)}
        ann, bob = await keys_of(hub, issuer, "ann", "bob")
        for key, expected in ((ann, ANN), (bob, BOB), (ann, ANN)):
            assert await names(hub, key) == expected
            assert len(hub.dispatch._personal._own) == 1
        monkeypatch.setattr(personal, "MAX_PRINCIPALS", 10)
        monkeypatch.setattr(personal, "MAX_LAID", 1)
        for key, expected in ((ann, ANN), (bob, BOB), (ann, ANN), (bob, BOB)):
            assert await names(hub, key) == expected
            assert len(hub.dispatch._personal._laid) == 1
        monkeypatch.setattr(personal, "MAX_BYTES", 1)
        hub.dispatch._personal.lists_changed("crm")
        assert await names(hub, ann) == ANN
        await until(lambda: len(hub.dispatch._personal._own) <= 1)


async def test_a_server_that_is_gone_is_shown_to_nobody(tmp_path: Path) -> None:
    async with crm(tmp_path) as (hub, _, issuer):
        (ann,) = await keys_of(hub, issuer, "ann")
        await hub.services.registry.switch("server", "crm", on=False)
        assert await names(hub, ann) == []
        await hub.services.registry.switch("server", "crm", on=True)
        assert await names(hub, ann) == ["crm__whoami"]


async def test_what_a_server_lists_for_nobody_is_everybodys(tmp_path: Path) -> None:
    async with mcp_servers.dual_era(tools=("echo",)) as peer, opened(tmp_path, peer.url) as hub:
        await hub.listed("crm__echo")
        assert await names(hub, await hub.key("tool:crm__*")) == ["crm__echo"]


async def test_an_unlisted_tool_is_called_only_if_it_is_granted(tmp_path: Path) -> None:
    async with crm(tmp_path) as (hub, peer, issuer):
        await keys_of(hub, issuer, "ann")
        key = await hub.key("tool:crm__deals")
        async with hub.client(key) as client:
            asked = await client.call_tool("crm__deals", {})
            assert "/connect/" in text_of(asked)
        hidden = await hub.key("tool:other__*", "prompt:crm__*")
        async with hub.client(hidden) as client:
            with pytest.raises(Exception, match="No tool 'crm__deals' here"):
                await client.call_tool("crm__deals", {})
        assert not peer.calls


@pytest.mark.parametrize("mode", MODES)
async def test_who_connects_is_told_that_the_list_changed_and_nobody_else(tmp_path: Path, mode: str) -> None:
    async with crm(tmp_path) as (hub, _, _issuer):
        await hub.listed("crm__connect_account")
        ann, bob = [await hub.key("tool:crm__*") for _ in range(2)]
        async with listening(hub, ann, mode) as of_ann, listening(hub, bob, mode) as of_bob:
            await connect(hub, ann)
            await of_ann.until((TOOLS, ""))
            assert of_bob.heard == []
            await connect(hub, bob)
            await of_bob.until((TOOLS, ""))
            assert of_ann.heard == of_bob.heard == [(TOOLS, "")]


async def test_calls_of_one_server_stand_in_one_line_whichever_account_they_use(tmp_path: Path) -> None:
    async with crm(tmp_path) as (hub, _, issuer):
        keys = await keys_of(hub, issuer, "ann", "bob")
        server = hub.services.registry.catalog.servers["crm"]
        one, two = [hub.dispatch._pool.upstream(server, await principal_of(hub, key)) for key in keys]
        assert one is not two
        assert one._line is two._line
