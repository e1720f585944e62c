"""The composition root: opens every long-lived part in order of dependency and closes in reverse. Nothing else does."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

from agents.call import AgentCaller
from agents.discovery import Discovery
from agents.publishing import Publisher
from agents.push_callback import Callbacks
from agents.signing import Signatures
from hub.agent_side import Ground, Part, agent_side
from hub.auth import Authenticator
from hub.browsers import Browsers
from hub.llm_side import LlmSide, llm_side
from hub.mcp_side import mcp_side
from hub.sources import Sources
from mcp_bridge.dispatch import Dispatch
from mcp_bridge.oauth.connect import Connect
from mcp_bridge.stdio.children import Children
from mcp_bridge.subscriptions import Subscriptions
from mcp_bridge.sync import Sync
from registry.auditing.audit import Audit
from registry.callers.accounts import Accounts
from registry.callers.issuers import Issuers, KeyRing
from registry.callers.keys import Keys
from registry.callers.sessions import Sessions
from registry.callers.sign_in import SignIns
from registry.callers.teams import Teams
from registry.callers.users import Users
from registry.declared.config import Declared, HubSettings
from registry.egress.guard import Guard
from registry.egress.http import Deadlines, Egress
from registry.errors import HubError
from registry.gate import Gate, Settled
from registry.identity import HUB, Principal
from registry.registry import Registry
from registry.rule_approvals import Inbox
from registry.sealed.kept import Kept
from registry.sealed.secrets import Sealer, key_file, read_keys
from registry.spending.counters import Counters
from registry.spending.tasks import Tasks
from registry.spending.usage import UsageLog
from registry.store.db import Database, open_database
from registry.store.schema import migrate
from registry.tool_approvals import ToolApprovals

logger = logging.getLogger(__name__)

GREETING_S = 10.0
"""How long registering a server waits for its tool list."""

MakeGate = Callable[[Callable[[Settled], None], Counters], Gate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a door may need, open."""

    declared: Declared
    """The file as it was at start: what `hub:` says holds until the next start."""
    public_url: str
    database: Database
    keys: Keys
    authenticator: Authenticator
    issuers: Issuers
    browsers: Browsers
    registry: Registry
    gate: Gate
    egress: Egress
    usage: UsageLog
    counters: Counters
    approvals: ToolApprovals
    audit: Audit
    agents: AgentCaller
    callbacks: Callbacks
    discovery: Discovery
    publisher: Publisher
    signatures: Signatures
    tools: Dispatch
    subscriptions: Subscriptions
    llm: LlmSide
    sync: Sync
    connect: Connect
    children: Children
    sealer: Sealer
    made_admin_key: str | None
    """The admin key in clear, if it was made just now; never again."""

    @property
    def teams(self) -> Teams:
        """All teams."""
        return Teams(self.database, self.keys)

    @property
    def kept(self) -> Kept:
        """What is kept for callers between requests."""
        return self.llm.kept

    @property
    def users(self) -> Users:
        """All users."""
        return Users(self.database, self.keys)

    @property
    def sign_ins(self) -> SignIns:
        """Where people sign in."""
        return SignIns(self.issuers, public_url=self.public_url)

    async def greet(self, server: str, principal: Principal = HUB) -> None:
        """List a server that was just registered, or just connected, so that its tools are usable when the caller hears of it.

        One that does not answer in time is registered all the same, and listed when it answers.
        """
        try:
            async with asyncio.timeout(GREETING_S):
                if principal is HUB:
                    await self.sync.refresh(server)
                else:
                    await self.tools.list_for(principal, server)
        except (TimeoutError, HubError) as error:
            logger.warning("new server not listed yet", extra={"server": server, "reason": str(error) or "no answer"})


@asynccontextmanager
async def open_services(
    declared: Declared,
    *,
    public_url: str,
    environment: Mapping[str, str],
    make_gate: MakeGate = Gate,
) -> AsyncIterator[Services]:
    """Open the hub's parts for what the file declares; `environment` holds the variables that provider rows may name for keys."""
    async with AsyncExitStack() as stack:
        base = await _base(declared, public_url, make_gate, stack)
        ground, registry, keys = base.ground, base.registry, base.keys
        agents = agent_side(ground, lambda: registry.catalog, keys)
        stack.push_async_callback(agents.aclose)
        mcp = mcp_side(ground, registry, environment, agents)
        llm = llm_side(ground, registry, environment, agents, mcp=mcp, record=base.usage.record)
        ground.gate.approve = Inbox(llm.approvals, hours=ground.hub.limits.approval_hours).approve
        await registry.follow_file(declared)
        issuers, browsers = await _issuers(ground, keys, stack)
        sources = Sources(ground.hub.trusted_proxies)
        stack.push_async_callback(_flush, base.usage, base.counters)
        await agents.ready()
        parts: tuple[Part, ...] = (*base.parts, issuers, *llm.parts, *agents.parts, *mcp.parts)
        await _start(stack, [registry.watch(), *(part.run() for part in parts)])
        stack.push_async_callback(mcp.aclose)
        yield Services(
            declared=declared,
            public_url=public_url,
            database=ground.database,
            keys=keys,
            authenticator=Authenticator(keys, sources, Tasks(ground.sealer), issuers=issuers, browsers=browsers),
            issuers=issuers,
            browsers=browsers,
            registry=registry,
            gate=ground.gate,
            egress=ground.egress,
            usage=base.usage,
            counters=base.counters,
            approvals=llm.approvals,
            audit=base.audit,
            agents=agents.caller,
            callbacks=agents.callbacks,
            discovery=agents.discovery,
            publisher=agents.publisher,
            signatures=agents.signatures,
            tools=mcp.dispatch,
            subscriptions=mcp.subscriptions,
            llm=llm,
            sync=mcp.sync,
            connect=mcp.connect,
            children=mcp.children,
            sealer=ground.sealer,
            made_admin_key=await keys.follow_admin_key(
                ground.hub.admin_key
            ),  # shown once, so made when all else is well
        )


class _Base(NamedTuple):
    """What agents, servers and models alike stand on."""

    ground: Ground
    registry: Registry
    keys: Keys
    usage: UsageLog
    counters: Counters
    audit: Audit

    @property
    def parts(self) -> tuple[Part, ...]:
        """To be run in the background."""
        return self.usage, self.counters, self.keys.last_use


async def _base(declared: Declared, public_url: str, make_gate: MakeGate, stack: AsyncExitStack) -> _Base:
    hub = declared.hub
    database = await _database(hub, stack)
    counters = Counters(database, process := secrets.token_hex(8))
    keys, usage = Keys(database), UsageLog(database)
    egress, seals = _way_out(hub, stack), sealer(declared)
    registry = Registry(database, seals, keys)
    gate, audit = make_gate(usage.record, counters), Audit(database)
    _inform(gate, audit, registry)
    ground = Ground(hub, public_url, process=process, database=database, sealer=seals, egress=egress, gate=gate)
    return _Base(ground, registry, keys, usage, counters, audit)


def _inform(gate: Gate, audit: Audit, registry: Registry) -> None:
    """Have the gate tell what it refused and redacted, and know the guards of each new catalog."""
    gate.refused, gate.redacted = audit.refused, audit.redacted
    registry.subscribe(lambda _old, new: setattr(gate, "guards", new.guards))


async def _issuers(ground: Ground, keys: Keys, stack: AsyncExitStack) -> tuple[Issuers, Browsers]:
    """The issuers of the file, and who signed in at them."""
    accounts = Accounts(ground.database)
    issuers = Issuers(
        ground.hub.issuers,
        keys=keys,
        accounts=accounts,
        ring=lambda issuer: KeyRing(issuer, egress=ground.egress, gate=ground.gate, clock=time.monotonic),
        public_url=ground.public_url,
    )
    stack.push_async_callback(issuers.aclose)
    await issuers.ready()
    sessions = Sessions(ground.database, keys=keys, accounts=accounts, issuers=issuers)
    return issuers, Browsers(sessions, public_url=ground.public_url)


async def _flush(usage: UsageLog, counters: Counters) -> None:
    await usage.flush()
    await counters.aclose()


async def _database(hub: HubSettings, stack: AsyncExitStack) -> Database:
    database = await stack.enter_async_context(open_database(hub.database))
    await asyncio.to_thread(migrate, database.engine)
    return database


def _way_out(hub: HubSettings, stack: AsyncExitStack) -> Egress:
    limits = hub.limits
    egress = Egress(
        Deadlines(
            connect_s=limits.connect_s,
            first_byte_s=limits.first_byte_s,
            agent_first_byte_s=limits.agent_first_byte_s,
            stream_idle_s=limits.stream_idle_s,
        ),
        guard=Guard(tuple(ip_network(network) for network in hub.egress_allow)),
        proxy=hub.egress_proxy,
        max_answer_bytes=limits.body_bytes,
    )
    stack.push_async_callback(egress.aclose)
    return egress


async def _start(stack: AsyncExitStack, works: list[Coroutine[Any, Any, None]]) -> None:
    """Have `works` run in the background until `stack` is left."""
    background = await stack.enter_async_context(asyncio.TaskGroup())
    running = [background.create_task(work) for work in works]

    def cancel() -> None:
        for task in running:
            task.cancel()

    stack.callback(cancel)


def sealer(declared: Declared) -> Sealer:
    """The sealer of stored secrets."""
    return Sealer(sealing_keys(declared))


def sealing_keys(declared: Declared) -> list[bytes]:
    """The keys that stored secrets are sealed under: those of the file, or of a 0600 file beside the database."""
    if declared.hub.secret_keys:
        return read_keys(list(declared.hub.secret_keys))
    return key_file(Path(declared.hub.database.removeprefix("sqlite:///")).with_suffix(".secret"))
