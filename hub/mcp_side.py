"""The parts that call MCP servers, put together: a piece of the composition root."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agents.signing import Signatures
from hub.agent_side import AgentSide, Ground, Part
from hub.agent_tools import AgentListing
from mcp_bridge.agent_tools import AgentTools
from mcp_bridge.dispatch import Dispatch
from mcp_bridge.guests import Guests
from mcp_bridge.handles import Handles
from mcp_bridge.oauth.connect import Connect
from mcp_bridge.oauth.credentials import ASSERTION_S, Credentials, Issuing
from mcp_bridge.oauth.links import Links
from mcp_bridge.personal import Personal
from mcp_bridge.pool import Pool
from mcp_bridge.stdio.children import Children
from mcp_bridge.subscriptions import Subscriptions
from mcp_bridge.sync import Sync
from registry.declared.config import HubSettings
from registry.registry import Registry
from registry.sealed.signing_keys import SigningKeys
from registry.sealed.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class McpSide:
    """What doors and the admin API need of it."""

    credentials: Credentials
    pool: Pool
    sync: Sync
    personal: Personal
    parts: tuple[Part, ...]
    """To be run in the background, after those of the agent side."""
    dispatch: Dispatch
    subscriptions: Subscriptions
    """Who listens for changes."""
    connect: Connect
    children: Children
    """Of stdio servers."""
    agents: AgentTools | None
    guests: Guests
    """Servers that chat requests bring along."""

    async def aclose(self) -> None:
        """End every call of an agent, connection and child, and let requests for tokens end."""
        if self.agents is not None:
            await self.agents.aclose()
        await self.personal.aclose()
        await self.pool.aclose()
        await self.children.aclose()
        await self.credentials.aclose()


def mcp_side(
    ground: Ground, registry: Registry, environment: Mapping[str, str], agents: AgentSide | None = None
) -> McpSide:
    """Make the parts and tell them of one another; `environment` is the hub's own. Without `agents` none is a tool."""
    credentials = _credentials(ground)
    registry.subscribe(credentials.drop)
    handles = Handles(ground.sealer)
    children = Children(supervised_at(ground.hub), environment)
    pool = Pool(registry, gate=ground.gate, credentials=credentials, handles=handles, children=children)
    sync = Sync(registry, gate=ground.gate, pool=pool)
    personal = Personal(registry, sync.ask)
    nudge = pool.lists_changed

    def lists_changed(server: str) -> None:
        nudge(server)
        personal.lists_changed(server)

    pool.lists_changed = lists_changed
    tools = None
    if agents is not None:
        tools = AgentTools(registry, gate=ground.gate, agents=agents.turns, handles=handles)
    dispatch = Dispatch(registry, gate=ground.gate, pool=pool, handles=handles, personal=personal, agents=tools)
    dispatch.first = sync.first
    subscriptions = Subscriptions(registry, dispatch=dispatch, pool=pool, gate=ground.gate)
    personal.changed = subscriptions.own_lists_changed
    personal.listens = subscriptions.listens
    parts: tuple[Part, ...] = (sync, subscriptions)
    if agents is not None:
        parts = (*parts, AgentListing(registry, agents.discovery))
    return McpSide(
        credentials=credentials,
        pool=pool,
        sync=sync,
        personal=personal,
        parts=parts,
        dispatch=dispatch,
        subscriptions=subscriptions,
        connect=Connect(credentials, public_url=ground.public_url, catalog=lambda: registry.catalog),
        children=children,
        agents=tools,
        guests=Guests(lambda: registry.catalog, pool, gate=ground.gate, allowed=ground.hub.foreign_mcp),
    )


def supervised_at(hub: HubSettings) -> Path:
    """The private directory, beside the database, of the process that keeps stdio servers."""
    return Path(hub.database.removeprefix("sqlite:///")).with_suffix(".stdio")


def _credentials(ground: Ground) -> Credentials:
    signatures = Signatures(SigningKeys(ground.database, ground.sealer), public_url=ground.public_url)

    async def assertion(principal_id: str, audience: str) -> str:
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": ground.public_url,
            "sub": principal_id,
            "aud": audience,
            "iat": now,
            "exp": now + ASSERTION_S,
            "jti": secrets.token_hex(16),
        }
        return (await signatures.signer()).sign(claims)

    vault, links = Vault(ground.database, ground.sealer), Links(ground.sealer, public_url=ground.public_url)
    return Credentials(Issuing(vault, links, assertion), gate=ground.gate, egress=ground.egress)
