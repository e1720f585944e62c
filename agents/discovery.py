"""Where agents are and what they say of themselves: their cards, fetched through egress and kept fresh.

A card is fetched when it is first needed and again when its age is over, by one request for all who wait. An old card
is better than none: it serves while it is renewed, and on when renewing fails. Knows nothing of calls and callers.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from agents import cards, own_cards, signing
from agents.bridges.accounts import Accounts
from agents.bridges.cards import ask_for_card
from agents.cards import Card
from agents.publishing import Published as Published  # what `Found` holds is named here too
from agents.publishing import Publisher
from agents.speech import CANONICAL, SPEECHES, Speech
from registry import judged
from registry.egress.http import Egress, Incoming, Outgoing
from registry.entries import Agent, Headers
from registry.errors import (
    CardRefused,
    HubError,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from registry.gate import Gate, Permit
from registry.identity import HUB
from registry.ledger.approvals import Approvals
from registry.trust.scanning import Finding, scan

logger = logging.getLogger(__name__)

PLACES = (
    "/.well-known/agent-card.json",
    "/.well-known/agent.json",  # before A2A 0.3
    "/agentCard/v1.0",  # Azure AI Foundry
    "/agentCard/v0.3",
    "/v1/card",  # Vertex AI Agent Engine
    "/invocations/.well-known/agent-card.json",  # Bedrock AgentCore
)
"""Where a card may be below an agent's URL; some platforms have places of their own, and all of them want the credentials."""

CARD_S = 10.0
"""Deadline of finding a card, in seconds: somebody waits for it."""

MAX_CARD_BYTES = 1024 * 1024
"""A larger card is not one."""

MIN_AGE_S, DEFAULT_AGE_S, MAX_AGE_S = 30.0, 300.0, 3600.0
"""How long a card is fresh: what its server says within these bounds (A2A 1.0 §8.6), the middle one if it says nothing."""

_MAX_AGE = re.compile(r"max-age=(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Route:
    """Where and how an agent is called in one speech."""

    url: str
    """JSON-RPC: where to post. HTTP+JSON: the base of the operations' paths, without a slash at its end unless it is the
    root. gRPC: `http://host:port`, or `https://host:port` for TLS."""
    headers: Headers
    tenant: str | None = None
    speech: Speech = SPEECHES[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of an agent."""

    entry: Agent
    routes: dict[Speech, Route]
    card: Published | None
    """The hub's card of it; None: the agent answers but offers no card."""
    expires: float
    source: str = ""
    """The URL of its own card."""
    etag: str | None = None
    is_verified: bool = False
    """A pinned key signed its card. Without pinned keys nobody looks."""
    parts: dict[str, str] | None = None
    """Digests of what is watched of its card."""
    pushes: bool = False
    """It says that it posts notifications itself."""
    changed: tuple[str, ...] = ()
    """What of its card is not as it was approved."""
    findings: tuple[Finding, ...] = ()
    """What is suspicious in its card."""

    @property
    def is_quarantined(self) -> bool:
        """Whether it is not to be called until its card is approved."""
        return self.entry.quarantine_drift and bool(self.changed)

    @property
    def published(self) -> Published | None:
        """The hub's card of the agent; None: the agent offers none.

        Raises:
            CardRefused: the agent is quarantined, and what its card says with it.
        """
        self._check()
        return self.card

    def _check(self) -> None:
        if self.changed and self.is_quarantined:
            what = " and ".join(self.changed)
            raise CardRefused(self.entry.name, f"its agent card changed ({what}) and waits for the operator's approval")

    def choose(self, wanted: Speech) -> Route:
        """How to call the agent: as `wanted` if it speaks so, else as the hub likes best.

        Raises:
            UpstreamInvalid: it speaks nothing that the hub speaks.
            CardRefused: it is quarantined.
        """
        self._check()
        route = self.routes.get(wanted)
        if route is not None:
            return route
        for speech in SPEECHES:
            if speech in self.routes:
                return self.routes[speech]
        raise UpstreamInvalid(self.entry.name, "its agent card lists no interface that the hub speaks")


class Discovery:
    """The cards of all agents. One for a process; `run` must be running."""

    def __init__(
        self,
        egress: Egress,
        *,
        accounts: Accounts,
        gate: Gate,
        publisher: Publisher,
        approvals: Approvals | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `approvals` (as `hubbub doctor`) nothing is compared with what was approved."""
        self._egress = egress
        self._accounts = accounts
        self._gate = gate
        self._publisher = publisher
        self._approvals = approvals
        self._clock = clock
        self._found: dict[str, Found] = {}
        self._failed: dict[str, tuple[Agent, float]] = {}
        """When an agent's card could not be had last, for those who look without waiting."""
        self._fetching: dict[str, tuple[Agent, asyncio.Task[Found | HubError]]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self.changed: Callable[[], None] = lambda: None
        """Called when what an agent says of itself has changed."""

    async def run(self) -> None:
        """Own the fetches until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.get_running_loop().create_future()

    async def find(self, entry: Agent) -> Found:
        """What is known of `entry`, fetched if need be.

        Raises:
            UpstreamUnavailable, UpstreamTimeout: it was never known and cannot be asked now.
        """
        found = self.remembered(entry)
        if found is not None:
            return found
        if entry.is_several:
            return await self._find_any(entry)
        outcome = await asyncio.shield(self._fetch(entry, None))
        if isinstance(outcome, HubError):
            raise outcome
        return outcome

    def remembered(self, entry: Agent) -> Found | None:
        """What is known of `entry`, renewed where it is old; None: `find` has to ask for it."""
        found = self._found.get(entry.instance or entry.name)
        if found is None or not (found.entry is entry or found.entry == entry):
            return None
        if self._clock() >= found.expires:
            self._fetch(entry, found)
        return found

    async def _find_any(self, entry: Agent) -> Found:
        """What is known of an agent by any of its instances: one that answered before, if there is one."""
        found = self.known(entry)
        if found is not None:
            return found
        failure: HubError = UpstreamUnavailable(entry.name, "it has no instance")
        for one in sorted(entry.instances(), key=lambda one: _key(one) in self._failed):
            try:
                return await self.find(one)
            except HubError as error:
                failure = error
        raise failure

    def known(self, entry: Agent) -> Found | None:
        """What is known of `entry` now; what is not is asked for, and there for who comes later."""
        if entry.is_several:
            all_known = [found for found in map(self.known, entry.instances()) if found is not None]
            return next((found for found in all_known if not found.is_quarantined), all_known[0] if all_known else None)
        found = self.remembered(entry)
        if found is not None:
            return found
        tried = self._failed.get(_key(entry))
        if tried is None or tried[0] != entry or self._clock() - tried[1] >= MIN_AGE_S:
            self._fetch(entry, None)
        return None

    async def approve(self, entry: Agent) -> Found:
        """Approve what the agent's card says now: from here on that is what it is compared with.

        Raises:
            UpstreamInvalid: it offers no card.
            UpstreamError: as `find`.
        """
        if entry.is_several:
            return await self._approve_all(entry)
        found = await self.find(entry)
        if found.parts is None or self._approvals is None:
            raise UpstreamInvalid(entry.name, "it offers no agent card")
        await self._approvals.approve(_key(entry), entry.url, found.parts)
        approved = replace(found, changed=())
        if self._found.get(_key(entry)) is found:  # else it was fetched anew meanwhile, and compared with this approval
            self._found[_key(entry)] = approved
            self.changed()
        return approved

    async def _approve_all(self, entry: Agent) -> Found:
        """Approve what the cards say of all instances that can be asked."""
        approved, failures = [], []
        for one in entry.instances():
            try:
                approved.append(await self.approve(one))
            except HubError as error:
                failures.append(error)
        if not approved:
            raise failures[0]
        return approved[0]

    async def rebuild(self, entry: Agent, members: object) -> judged.JsonObject | None:
        """Build the hub's card from a decoded one, such as the extended card; None: it is not one, or too large."""
        return await asyncio.to_thread(self._rebuild, entry, members)  # a large one takes a quarter of a second

    def _rebuild(self, entry: Agent, members: object) -> judged.JsonObject | None:
        card = cards.card_of(members)
        if card is None or len(judged.encode(members)) > MAX_CARD_BYTES:
            return None
        return self._publisher.build(entry, card)

    def _fetch(self, entry: Agent, old: Found | None) -> asyncio.Task[Found | HubError]:
        """Start a fetch, or join the one that is under way."""
        under_way = self._fetching.get(_key(entry))
        if under_way is not None and under_way[0] == entry and not under_way[1].done():
            return under_way[1]
        assert self._tasks is not None, "Discovery.run must be running"
        task = self._tasks.create_task(self._refresh(entry, old))
        self._fetching[_key(entry)] = entry, task
        task.add_done_callback(lambda _: self._done(_key(entry), task))
        return task

    def _done(self, name: str, task: asyncio.Task[Found | HubError]) -> None:
        if name in self._fetching and self._fetching[name][1] is task:
            del self._fetching[name]

    async def _refresh(self, entry: Agent, old: Found | None) -> Found | HubError:
        """Fetch and keep. Never raises: those who wait get the error, and nobody may wait."""
        try:
            await self._publisher.open()
            with self._gate.admit(HUB, entry) as permit:
                async with asyncio.timeout(CARD_S):
                    found = await self._ask(permit, entry, old)
        except TimeoutError:
            failure: HubError = UpstreamTimeout(entry.name, "its agent card did not come in time")
        except HubError as error:
            failure = error
        except Exception:  # a boundary: a card that trips the hub must not end the fetches of all agents
            logger.exception("reading an agent card failed", extra={"agent": entry.name})
            failure = UpstreamInvalid(entry.name, "its agent card cannot be read")
        else:
            self._found[_key(entry)] = found
            if old is None or (old.card, old.changed) != (found.card, found.changed):
                self.changed()
            return found
        if old is None:
            self._failed[_key(entry)] = entry, self._clock()
            return failure
        logger.warning("an agent's card could not be renewed", extra={"agent": entry.name, "reason": failure.text})
        self._found[_key(entry)] = replace(old, expires=self._clock() + MIN_AGE_S)
        return old

    async def _ask(self, permit: Permit, entry: Agent, old: Found | None) -> Found:
        """Ask the known places of a card, the one that had it last time first."""
        if entry.runs_here:
            return await self._of_here(permit, entry, old)
        places = card_urls(entry)
        for url in sorted(places, key=lambda place: old is None or place != old.source):
            headers = [*entry.headers, ("accept", "application/json")]
            if old is not None and old.etag is not None and url == old.source:
                headers.append(("if-none-match", old.etag))
            outgoing = Outgoing(
                url=url, method="GET", headers=tuple(headers), trusted=entry.trusted, first_byte_s=CARD_S
            )
            signed = self._accounts.send(permit, entry, outgoing) if entry.auth is not None else None
            async with signed or self._egress.send(permit, outgoing) as incoming:
                if incoming.status == 304 and old is not None:
                    return replace(old, expires=self._clock() + _age(incoming))
                card = cards.read_card(await _read(incoming, entry)) if incoming.status == 200 else None
                if card is not None:
                    return replace(await self._keep(entry, card, incoming, old), source=url)
        if old is not None and old.card is not None:
            raise UpstreamInvalid(entry.name, "its agent card is gone")
        if entry.card_keys:
            raise CardRefused(entry.name, "it offers no agent card, and the operator pinned its keys")
        routes = _routes(entry, Card({}, {}, is_silent=True))
        return Found(entry=entry, routes=routes, card=None, expires=self._clock() + MIN_AGE_S)

    async def _of_here(self, permit: Permit, entry: Agent, old: Found | None) -> Found:
        """What is known of an agent that runs here: its configuration, or its platform, says all of it."""
        if entry.own is not None:
            card = own_cards.card_of(entry, entry.own)
        else:
            card = await ask_for_card(self._egress, permit, entry)
        published = await asyncio.to_thread(self._publisher.publish, entry, card, old.card if old is not None else None)
        routes = {CANONICAL: Route("", (), speech=CANONICAL)}
        return Found(entry=entry, routes=routes, card=published, expires=self._clock() + MAX_AGE_S)

    async def _keep(self, entry: Agent, card: Card, incoming: Incoming, old: Found | None) -> Found:
        """Verify a card, compare it with the approved one, and make the hub's own of it."""
        if entry.card_keys:
            card = await asyncio.to_thread(_verified, entry, card)
        parts = cards.parts(card)
        findings = await asyncio.to_thread(scan, card.members)
        published = await asyncio.to_thread(self._publisher.publish, entry, card, old.card if old is not None else None)
        changed = await self._approvals.changed(_key(entry), entry.url, parts) if self._approvals is not None else ()
        if changed and (old is None or old.changed != changed):
            logger.warning("an agent's card changed", extra={"agent": entry.name, "changed": ", ".join(changed)})
        return Found(
            entry=entry,
            routes=_routes(entry, card),
            card=published,
            expires=self._clock() + _age(incoming),
            etag=incoming.header(b"etag"),
            is_verified=bool(entry.card_keys),
            findings=findings,
            parts=parts,
            pushes=cards.pushes(card),
            changed=changed,
        )


def _verified(entry: Agent, card: Card) -> Card:
    """What a pinned key signed of a card; raises `CardRefused` if none did."""
    try:
        signed = signing.verified(card.members, entry.card_keys)
    except ValueError as error:
        raise CardRefused(entry.name, str(error)) from None
    found = cards.card_of(signed) if signed is not None else None
    if found is None:
        raise CardRefused(entry.name, "its agent card is not signed by a key that the operator pinned")
    return found


def _key(entry: Agent) -> str:
    """What an agent, or one of its instances, is kept under. No name holds a blank."""
    return entry.instance or entry.name


def card_urls(entry: Agent) -> list[str]:
    """Where the agent's card may be: where the operator says it is, else the places below its URL."""
    base, named = cards.base_of(entry.url)
    named = entry.card_url or named
    return [named] if named is not None else [cards.card_url(base, place) for place in PLACES]


def _routes(entry: Agent, card: Card) -> dict[Speech, Route]:
    """How the agent can be called: as its card says; without one over JSON-RPC, where the operator says it is."""
    base, _ = cards.base_of(entry.url)
    interfaces = card.interfaces
    if card.is_silent:
        interfaces = {speech: cards.Interface(base) for speech in SPEECHES if speech.binding == "JSONRPC"}
    routes = {}
    for speech, interface in interfaces.items():
        url = cards.endpoint(base, interface, speech)
        if url is not None and (speech.binding != "GRPC" or entry.auth is None):
            routes[speech] = Route(url, _headers(entry, speech), interface.tenant, speech)
    if entry.grpc_url is not None:
        grpc = Speech("GRPC", "1.0")
        url = cards.grpc_endpoint(base, entry.grpc_url, is_operators=True)
        tenant = interfaces[grpc].tenant if grpc in interfaces else None
        if url is not None:
            routes[grpc] = Route(url, _headers(entry, grpc), tenant, grpc)
    return routes


async def _read(incoming: Incoming, entry: Agent) -> bytes:
    held = bytearray()
    async for chunk in incoming.chunks():
        held += chunk
        if len(held) > MAX_CARD_BYTES:
            raise UpstreamInvalid(entry.name, "its agent card is too large")
    return bytes(held)


def _age(incoming: Incoming) -> float:
    stated = _MAX_AGE.search(incoming.header(b"cache-control") or "")
    return min(max(float(stated[1]), MIN_AGE_S), MAX_AGE_S) if stated else DEFAULT_AGE_S


def _headers(entry: Agent, speech: Speech) -> Headers:
    """Headers of a call, from scratch: nothing of a caller's comes here (a2a.md 3.7)."""
    version = (("a2a-version", "1.0"),) if speech.version == "1.0" else ()
    if speech.binding == "GRPC":
        return (*entry.headers, *version)
    own = "application/a2a+json, " if speech == Speech("HTTP+JSON", "1.0") else ""
    accept = ("accept", f"{own}application/json, text/event-stream")
    return (*entry.headers, ("content-type", "application/json"), accept, *version)
