"""What `hubbub doctor` asks: the database, each agent's card, each MCP server's tools, each model's provider.

Where agents stray from A2A only a hub that calls them can notice: one that runs with the file's admin key is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Final, NamedTuple

from agents.bridges.accounts import Accounts
from agents.discovery import Discovery
from agents.publishing import Publisher
from hub.agent_side import Ground
from hub.cli.common import migrate_database
from hub.mcp_side import McpSide, mcp_side
from hub.services import sealer
from hub.settings import environment
from llm.call import Models
from llm.platform.embedding import Embedding
from llm.providers.endpoints import Endpoints
from llm.providers.openai import OpenAICompatible
from llm.providers.table import TABLE
from mcp_bridge.views import AGGREGATE, cost_at
from registry import judged
from registry.access import EVERYTHING
from registry.callers.keys import Keys
from registry.catalog import Catalog
from registry.declared.config import Declared
from registry.egress.guard import Guard
from registry.egress.http import Deadlines, Egress, Outgoing
from registry.entries import Agent, AgentModel, Model, Server
from registry.errors import HubError, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from registry.gate import Gate, Permit
from registry.identity import HUB
from registry.judged import JsonObject
from registry.registry import Registry
from registry.search.meaning import Asker
from registry.store.db import DatabaseUnsupported, open_database
from registry.store.schema import DatabaseUnavailable, SchemaNewer

DEFAULT_URL: Final = "http://127.0.0.1:4000"
"""Where `hubbub serve` is reached unless told otherwise."""

PROBE_S = 30.0
"""How long one thing may take: a stdio server may have to fetch itself from a package index first."""

MAX_UNTRUSTED = 20
"""How many features of a server are told of that are not as they should be."""

LAST_WORDS = 5
"""How many lines of a stdio server's stderr say why it cannot be used."""

SEEN_S = 2.0
"""How long a running hub may take to say what it noticed of an agent."""


class Finding(NamedTuple):
    """What was probed."""

    probe: str
    fault: str | None = None
    """What is wrong with it; None: nothing."""
    note: str = ""
    """What else is to be known of it."""


async def examine(declared: Declared) -> list[Finding]:
    """Probe everything that is registered, all at once; raises `SecretKeyInvalid`."""
    try:
        await asyncio.to_thread(migrate_database, declared)
    except (DatabaseUnavailable, DatabaseUnsupported, SchemaNewer) as error:
        return [Finding("database", str(error))]
    logging.getLogger().addHandler(logging.NullHandler())  # what is wrong is said in the findings
    async with _asking(declared) as (registry, ask, embedding):
        catalog = registry.catalog
        entries: list[Agent | Server | Model] = [
            *(one for agent in catalog.agents.values() for one in agent.instances()),
            *catalog.servers.values(),
            *(one for model in catalog.models.values() if not isinstance(model, AgentModel) for one in model.places()),
        ]  # none switched off
        found = await asyncio.gather(*(_finding(entry, ask) for entry in entries))
        searching = [] if embedding is None else [await _embeds(embedding)]
        return [Finding("database"), *found, *searching, *_long_lists(registry.catalog)]


_Ask = Callable[[Agent | Server | Model], Awaitable[str]]
"""Asks an entry, and returns what is to be known of it."""


@asynccontextmanager
async def _asking(declared: Declared) -> AsyncIterator[tuple[Registry, _Ask, Embedding | None]]:
    """Open what is needed to ask, as `hub.services` does, but without changing keys and without a usage row."""
    limits = declared.hub.limits
    egress = Egress(
        Deadlines(connect_s=limits.connect_s, first_byte_s=PROBE_S),
        guard=Guard(tuple(ip_network(network) for network in declared.hub.egress_allow)),
        proxy=declared.hub.egress_proxy,
    )
    gate = Gate(lambda _settled: None)
    url = declared.hub.public_url or DEFAULT_URL
    async with open_database(declared.hub.database) as database, asyncio.TaskGroup() as tasks:
        registry = Registry(database, sealer(declared), Keys(database))
        discovery = Discovery(egress, accounts=Accounts(egress), gate=gate, publisher=Publisher(public_url=url))
        ground = Ground(declared.hub, url, database=database, sealer=sealer(declared), egress=egress, gate=gate)
        mcp = mcp_side(ground, registry, environment())
        models = OpenAICompatible(egress, keys=environment())
        embedding = None
        if declared.hub.search_model is not None:
            plain = Models(gate, providers={}, prices=lambda _model: None)
            endpoints = Endpoints(egress, keys=environment())
            embedding = Embedding(
                declared.hub.search_model, lambda: registry.catalog, models=plain, endpoints=endpoints
            )
        running = tasks.create_task(discovery.run())

        async def ask(entry: Agent | Server | Model) -> str:
            if isinstance(entry, Agent):
                await discovery.find(entry)
                with gate.admit(HUB, entry) as permit:
                    return await _quirks(permit, egress, declared, entry)
            if isinstance(entry, Server):
                return await _listed(mcp, entry) or _untrusted(await registry.trust(entry))
            if entry.provider in TABLE:
                with gate.admit(HUB, entry) as permit:
                    await models.probe(permit, entry)
            return ""

        await registry.show(declared)
        try:
            yield registry, ask, embedding
        finally:
            running.cancel()
            await mcp.aclose()
            await egress.aclose()


async def _finding(entry: Agent | Server | Model, ask: _Ask) -> Finding:
    title = _title(entry)
    if not isinstance(entry, Agent) and entry.unavailable is not None:
        return Finding(title, entry.unavailable)
    try:
        async with asyncio.timeout(PROBE_S):
            return Finding(title, note=await ask(entry))
    except TimeoutError:
        return Finding(title, f"no answer within {PROBE_S:.0f} s")
    except HubError as error:
        return Finding(title, error.text.removeprefix(f"{entry.name}: "))


async def _listed(mcp: McpSide, entry: Server) -> str:
    """List a server; one that serves each user by their own account says no to the hub itself."""
    try:
        await mcp.sync.refresh(entry.name)
    except (UpstreamUnavailable, UpstreamTimeout) as error:
        known = (await mcp.children.show()).get(entry.name) if entry.command is not None else None
        if known is None:
            raise
        lines = [line for line in known.lines if error.reason not in line]
        raise UpstreamUnavailable(entry.name, "\n  ".join((error.reason, *lines[-LAST_WORDS:]))) from None
    except UpstreamRefused:
        if entry.auth is None or entry.auth.type != "user_oauth":
            raise
        return f"each user connects an account at /connect/{entry.name}"
    return ""


def _untrusted(trust: JsonObject) -> str:
    """What of a server's features is not as it was approved, or suspicious."""
    lines = []
    for one in trust["features"]:
        said = [f"{found['severity']}: {found['text']}" for found in one["findings"]]
        changed = [f"changed: {path}" for path in one["changed"]]
        why = [] if one["reason"] is None or said or changed else [one["reason"]]
        lines.append(f"{one['feature']} {one['state']} ({'; '.join([*said, *changed, *why])})")
    rest = len(lines) - MAX_UNTRUSTED + trust["more"]
    return "\n  ".join([*lines[:MAX_UNTRUSTED], *([f"and {rest} more"] if rest > 0 else [])])


async def _embeds(embedding: Embedding) -> Finding:
    """Have the model of search make a vector: only that says whether it can."""
    title, so = "search by meaning", "tools are searched by words alone"
    try:
        async with asyncio.timeout(PROBE_S):
            await embedding(["search"], Asker(HUB))
    except TimeoutError:
        return Finding(title, f"no answer within {PROBE_S:.0f} s; {so}")
    except HubError as error:
        return Finding(title, f"{error.text}; {so}")
    return Finding(title)


def _long_lists(catalog: Catalog) -> Iterator[Finding]:
    """The places at which search mode would save much."""
    for path in (AGGREGATE, *(name for name, found in catalog.toolsets.items() if found.mode != "search")):
        advice = cost_at(catalog, EVERYTHING, path).advice
        if advice is not None:
            yield Finding(f"toolset {path}" if path else "tools", note=advice)


async def _quirks(permit: Permit, egress: Egress, declared: Declared, entry: Agent) -> str:
    """What a running hub noticed of an agent; nothing, if none answers or the file names no admin key."""
    key = declared.hub.admin_key
    if key is None:
        return ""
    asked = Outgoing(
        url=f"{(declared.hub.public_url or DEFAULT_URL).rstrip('/')}/api/agents/{entry.name}",
        method="GET",
        headers=(("authorization", f"Bearer {key}"),),
    )
    try:
        async with asyncio.timeout(SEEN_S), egress.send(permit, asked) as incoming:
            said = judged.decode(await incoming.read()) if incoming.status == 200 else {}
    except (TimeoutError, HubError):
        return ""
    quirks = said.get("quirks") if isinstance(said, dict) else None
    return f"hidden by the hub: {', '.join(map(str, quirks))}" if isinstance(quirks, list) and quirks else ""


def _title(entry: Agent | Server | Model) -> str:
    if isinstance(entry, Agent) and entry.instance:
        return f"agent {entry.name} at {entry.url}"
    if isinstance(entry, Model) and entry.deployment:
        return f"model {entry.deployment} at {entry.provider}/{entry.model}"
    return f"{'MCP server' if isinstance(entry, Server) else entry.kind} {entry.name}"
