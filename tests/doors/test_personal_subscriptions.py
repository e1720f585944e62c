"""What a server tells of one user's account reaches that user and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError
from mcp.server.auth.middleware.auth_context import get_access_token

from tests.doors.test_connect import MODES, opened
from tests.doors.test_mcp_subscriptions import RESOURCES, TOOLS, UPDATED, Ear, listening, watched
from tests.doors.test_personal import keys_of
from tests.peers.authorization import Authorization, authorization_server, protected_server
from tests.peers.mcp_hub import McpHub
from tests.peers.mcp_servers import Peer
from tests.peers.mcp_telling import NOTE, Telling, telling_server
from tests.until import until

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

SHOWN = f"crm+{NOTE}"
TOLD = (UPDATED, SHOWN)


@asynccontextmanager
async def diaries(directory: Path) -> AsyncIterator[tuple[McpHub, Peer, Authorization, dict[str, Telling]]]:
    """A hub before a server that is another one for each user: what it has, and what it tells."""
    async with authorization_server() as issuer:
        of: dict[str, Telling] = {}

        def mine() -> Telling:
            token = get_access_token()
            assert token is not None
            return of[str(token.subject)]

        def make(peer: Peer) -> Any:
            of.update({user: Telling(peer) for user in ("ann", "bob")})
            return telling_server(peer, mine)

        async with (
            protected_server(issuer.url, issuer.provider, make=make) as peer,
            opened(directory, peer.url) as hub,
        ):
            yield hub, peer, issuer, of


@pytest.mark.parametrize("mode", MODES)
async def test_a_resource_of_ones_account_is_told_to_its_user_alone(tmp_path: Path, mode: str) -> None:
    async with diaries(tmp_path) as (hub, peer, issuer, of):
        ann, bob = await keys_of(hub, issuer, "ann", "bob")
        eve = await hub.key("tool:crm__*", "resource:crm__*")
        async with (
            listening(hub, ann, mode, SHOWN) as of_ann,
            listening(hub, bob, mode, SHOWN) as of_bob,
            listening(hub, eve, mode, *([SHOWN] if mode != "legacy" else [])) as of_eve,
        ):
            if mode == "legacy":
                with pytest.raises(MCPError):
                    await of_eve.client.subscribe_resource(SHOWN)
            await watched(peer, uris=1)
            await told(of["ann"], of_ann)
            assert TOLD not in of_bob.heard
            of_ann.heard.clear()
            await told(of["bob"], of_bob)
            assert of_ann.heard == of_eve.heard == []


async def told(telling: Telling, ear: Ear) -> None:
    """Change the resource until who was to hear of it has."""
    async with asyncio.timeout(20):
        while TOLD not in ear.heard:
            await telling.touch(NOTE)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", MODES)
async def test_a_list_of_ones_account_that_changes_is_told_to_its_user_alone(tmp_path: Path, mode: str) -> None:
    async with diaries(tmp_path) as (hub, _, issuer, of):
        ann, bob = await keys_of(hub, issuer, "ann", "bob")
        async with listening(hub, ann, mode) as of_ann, listening(hub, bob, mode) as of_bob:
            async with asyncio.timeout(20):
                while not {(TOOLS, ""), (RESOURCES, "")} <= set(of_ann.heard):
                    await of["ann"].grow()  # until the server was asked to say so
                    await asyncio.sleep(0.05)
            assert of_bob.heard == []


async def test_a_server_is_asked_to_tell_a_user_who_listens_and_left_when_they_do_no_more(tmp_path: Path) -> None:
    async with diaries(tmp_path) as (hub, peer, issuer, _):
        (ann,) = await keys_of(hub, issuer, "ann")
        assert not [one for one in peer.calls if one[0] == "listen"]
        async with listening(hub, ann, "2026-07-28"):
            await until(lambda: [one for one in peer.calls if one[0] == "listen"])
            peer.cancelled.clear()
        async with asyncio.timeout(20):
            await peer.cancelled.wait()
