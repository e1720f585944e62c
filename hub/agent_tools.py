"""Keeps the tools that agents are: in the catalog as soon as they are, described by their cards as soon as these are known."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from agents.discovery import Discovery
from mcp_bridge import agent_shapes
from registry.catalog import Catalog
from registry.entries import Agent, AgentTool, Tool
from registry.registry import Registry

LOOK_S = 60.0
"""How often cards are looked at when nothing is heard of them; they are fetched when their own age is over."""


class AgentListing:
    """One for a process; `run` must be running. Nobody who lists tools waits for an agent."""

    def __init__(self, registry: Registry, discovery: Discovery) -> None:
        self._registry = registry
        self._discovery = discovery
        self._described: dict[str, tuple[Agent, AgentTool]] = {}
        self._changed = asyncio.Event()
        registry.agent_tools = self._tools
        registry.subscribe(self._notice)
        discovery.changed = self._changed.set

    async def run(self) -> None:
        """Look at the cards of all agents until cancelled."""
        while True:
            self._changed.clear()
            agents = self._registry.catalog.agents
            before = self._tools(agents)
            self._described = {name: (entry, self._describe(entry)) for name, entry in agents.items()}
            if self._tools(agents) != before:
                await self._registry.renew()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()

    def _describe(self, entry: Agent) -> AgentTool:
        found = self._discovery.known(entry)
        card = found.card if found is not None and not found.is_quarantined else None
        return agent_shapes.tool(entry.name, card.members if card is not None else None)

    def _tools(self, agents: Mapping[str, Agent]) -> dict[str, Tool]:
        """The tools of agents by their exposed names, in the words of the cards that are known."""
        found: dict[str, Tool] = {}
        for name, entry in sorted(agents.items()):
            described, tool = self._described.get(name, (None, None))
            if tool is None or described != entry:
                tool = agent_shapes.tool(name, None)
            found[tool.exposed] = tool
        return found

    def _notice(self, old: Catalog, new: Catalog) -> None:
        if old.agents != new.agents:
            self._changed.set()
