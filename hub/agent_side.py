"""The parts that call A2A agents, put together: a piece of the composition root."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from agents.as_models import AgentProvider
from agents.bridged import Bridges
from agents.bridges.accounts import Accounts
from agents.call import AgentCaller
from agents.discovery import Discovery
from agents.hosting.host import Host
from agents.hosting.records import Records
from agents.hosting.work import Worker
from agents.instances import Instances
from agents.keeper import Keeper
from agents.ledger import Ledger
from agents.own.worker import Means, OwnAgents
from agents.publishing import Publisher
from agents.push import Push
from agents.push_callback import Callbacks
from agents.push_delivery import Courier
from agents.push_wishes import PushWishes
from agents.signing import Signatures
from agents.streams import Streams
from agents.turns import Turns
from agents.upstream import Upstream
from agents.watching import Watching
from registry.callers.keys import Keys
from registry.catalog import Catalog
from registry.declared.config import HubSettings
from registry.egress.http import Egress
from registry.entries import Agent
from registry.gate import Gate
from registry.judged import JsonObject
from registry.ledger.approvals import Approvals
from registry.ledger.events import Events
from registry.ledger.outbox import Outbox
from registry.ledger.ownership import Ownership
from registry.ledger.push import PushConfigs
from registry.sealed.kept import Kept
from registry.sealed.secrets import Sealer
from registry.sealed.signing_keys import SigningKeys
from registry.store.db import Database


class Part(Protocol):
    """What works in the background."""

    async def run(self) -> None:
        """Work until cancelled."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What the agent side stands on."""

    hub: HubSettings
    public_url: str
    _: KW_ONLY
    database: Database
    sealer: Sealer
    egress: Egress
    gate: Gate
    process: str = field(default_factory=lambda: secrets.token_hex(8))
    """Names this one among those that share the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSide:
    """What doors and the admin API need of it."""

    caller: AgentCaller
    turns: Turns
    as_models: AgentProvider
    callbacks: Callbacks
    discovery: Discovery
    publisher: Publisher
    signatures: Signatures
    parts: tuple[Part, ...]
    """To be run in the background."""
    make_here: Callable[[Means, Kept], Host]
    """Makes the part that answers for agents that run here; until it is made none can be called."""
    ready: Callable[[], Awaitable[None]]
    """To be awaited before anybody is served."""
    aclose: Callable[[], Awaitable[None]]


def agent_side(ground: Ground, catalog: Callable[[], Catalog], keys: Keys) -> AgentSide:
    """Make the parts and tell them of one another."""
    database, egress, gate, public_url = ground.database, ground.egress, ground.gate, ground.public_url
    signatures = Signatures(SigningKeys(database, ground.sealer), public_url=public_url)
    grpc = grpc_address(public_url, ground.hub)
    publisher = Publisher(public_url=public_url, signatures=signatures, grpc=grpc, issuers=ground.hub.issuers)
    accounts = Accounts(egress)
    discovery = Discovery(egress, accounts=accounts, gate=gate, publisher=publisher, approvals=Approvals(database))
    ledger = Ledger(Ownership(database), is_shared=lambda name: _is_shared(catalog(), name))
    events = Events(database, ground.process)
    upstream = Upstream(egress, ledger, accounts)
    configs = PushConfigs(database, sealer=ground.sealer)
    outbox = Outbox(database, sealer=ground.sealer)
    courier = Courier(outbox, egress=egress, gate=gate, signer=signatures.signer, public_url=public_url)
    push = Push(configs, outbox=outbox, courier=courier, ledger=ledger, egress=egress)
    streams = Streams(upstream, ledger=ledger, events=events, push=push)
    instances = Instances(ledger)
    keeper = Keeper(
        streams,
        catalog=catalog,
        discovery=discovery,
        instances=instances,
        gate=gate,
        keep=(ground.hub.limits.task_days, ground.hub.limits.tasks),
    )

    callbacks = Callbacks(configs, public_url=public_url, on_event=partial(_hear, streams, catalog))
    wishes = PushWishes(streams, discovery=discovery, callbacks=callbacks, instances=instances, read_on=keeper.read_on)
    caller = AgentCaller(
        egress,
        discovery=discovery,
        streams=streams,
        wishes=wishes,
        instances=instances,
        watching=Watching(keys, ledger),
    )

    async def ready() -> None:
        await events.begin()
        await configs.refresh()

    records = partial(Records, ledger=ledger, events=events, days=ground.hub.limits.task_days)
    turns = Turns(caller, discovery=discovery, egress=egress)
    return AgentSide(
        caller=caller,
        turns=turns,
        as_models=AgentProvider(turns, catalog),
        callbacks=callbacks,
        discovery=discovery,
        publisher=publisher,
        signatures=signatures,
        parts=(discovery, events, keeper, push),
        make_here=partial(_make_here, ground, upstream, records, catalog),
        ready=ready,
        aclose=upstream.aclose,
    )


def _make_here(
    ground: Ground,
    upstream: Upstream,
    records: Callable[[Kept], Records],
    catalog: Callable[[], Catalog],
    means: Means,
    kept: Kept,
) -> Host:
    def worker_of(entry: Agent) -> Worker | None:
        return own if entry.own is not None else bridges if entry.bridged is not None else None

    upstream.here = host = Host(records(kept), catalog, worker_of)
    own = OwnAgents(means, host, catalog)
    bridges = Bridges(ground.egress, gate=ground.gate, host=host)
    return host


async def _hear(streams: Streams, catalog: Callable[[], Catalog], agent: str, task_id: str, event: JsonObject) -> None:
    entry = catalog().agents.get(agent)
    if entry is not None:
        await streams.readings.heard(entry, task_id, event)


def _is_shared(catalog: Catalog, agent: str) -> bool:
    entry = catalog.agents.get(agent)
    return entry is not None and entry.shared


def grpc_address(public_url: str, hub: HubSettings) -> str | None:
    """host:port where clients reach the hub's gRPC: the public host, on the port that the file says; None: it has none."""
    host = urlsplit(public_url).hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{hub.grpc_port}" if hub.grpc_port is not None else None
