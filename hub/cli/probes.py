"""What `hubbub doctor` asks: the database, each agent's card, each MCP server's tools, each model's provider."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network

from agents.discovery import Discovery
from agents.publishing import Publisher
from hub.cli.common import migrate_database
from hub.services import sealer
from hub.settings import environment
from llm.providers.openai import OpenAICompatible
from llm.providers.table import OFFLINE
from mcp_bridge.pool import Pool
from mcp_bridge.sync import Sync
from registry.config import Declared
from registry.db import DatabaseUnsupported, open_database
from registry.egress.guard import Guard
from registry.egress.http import Deadlines, Egress
from registry.entries import Agent, Model, Server
from registry.errors import HubError
from registry.gate import Gate
from registry.identity import HUB
from registry.keys import Keys
from registry.registry import Registry
from registry.schema import DatabaseUnavailable, SchemaNewer

PROBE_S = 30.0
"""How long one thing may take: a stdio server may have to fetch itself from a package index first."""

Finding = tuple[str, str | None]
"""What was probed, and what is wrong with it; None: nothing."""


async def examine(declared: Declared) -> list[Finding]:
    """Probe everything that is registered, all at once; raises `SecretKeyInvalid`."""
    try:
        await asyncio.to_thread(migrate_database, declared)
    except (DatabaseUnavailable, DatabaseUnsupported, SchemaNewer) as error:
        return [("database", str(error))]
    logging.getLogger().addHandler(logging.NullHandler())  # what is wrong is said in the findings
    async with _asking(declared) as (registry, ask):
        catalog = registry.catalog
        entries: list[Agent | Server | Model] = [
            *catalog.agents.values(),
            *catalog.servers.values(),
            *catalog.models.values(),
        ]  # none switched off
        faults = await asyncio.gather(*(_fault(entry, ask) for entry in entries))
    return [("database", None), *zip(map(_title, entries), faults, strict=True)]


_Ask = Callable[[Agent | Server | Model], Awaitable[None]]


@asynccontextmanager
async def _asking(declared: Declared) -> AsyncIterator[tuple[Registry, _Ask]]:
    """Open what is needed to ask, as `hub.services` does, but without changing keys and without a usage row."""
    limits = declared.hub.limits
    egress = Egress(
        Deadlines(connect_s=limits.connect_s, first_byte_s=PROBE_S),
        guard=Guard(tuple(ip_network(network) for network in declared.hub.egress_allow)),
        proxy=declared.hub.egress_proxy,
    )
    gate = Gate(lambda _settled: None)
    async with open_database(declared.hub.database) as database, asyncio.TaskGroup() as tasks:
        registry = Registry(database, sealer(declared), Keys(database))
        discovery = Discovery(
            egress, gate=gate, publisher=Publisher(public_url=declared.hub.public_url or "http://127.0.0.1")
        )
        pool = Pool(registry, gate=gate, egress=egress, environment=environment())
        sync = Sync(registry, gate=gate, pool=pool)
        models = OpenAICompatible(egress, keys=environment())
        running = tasks.create_task(discovery.run())

        async def ask(entry: Agent | Server | Model) -> None:
            if isinstance(entry, Agent):
                await discovery.find(entry)
            elif isinstance(entry, Server):
                await sync.refresh(entry.name)
            elif entry.provider != OFFLINE:
                with gate.admit(HUB, entry) as permit:
                    await models.probe(permit, entry)

        await registry.show(declared)
        try:
            yield registry, ask
        finally:
            running.cancel()
            await pool.aclose()
            await egress.aclose()


async def _fault(entry: Agent | Server | Model, ask: _Ask) -> str | None:
    if entry.unavailable is not None:
        return entry.unavailable
    try:
        async with asyncio.timeout(PROBE_S):
            await ask(entry)
    except TimeoutError:
        return f"no answer within {PROBE_S:.0f} s"
    except HubError as error:
        return error.text.removeprefix(f"{entry.name}: ")
    return None


def _title(entry: Agent | Server | Model) -> str:
    return f"{'MCP server' if isinstance(entry, Server) else entry.kind} {entry.name}"
