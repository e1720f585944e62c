"""Where agents are and what they say of themselves: their cards, fetched through egress and kept fresh.

A card is fetched when it is first needed and again when its age is over, by one request for all who wait. An old card
is better than none: it serves while it is renewed, and on when renewing fails. Knows nothing of calls and callers.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from agents import cards
from agents.cards import Card
from agents.wire import EXTENSIONS_HEADER, Dialect
from registry import judged
from registry.egress.http import Egress, Incoming, Outgoing
from registry.entries import Agent, Headers
from registry.errors import HubError, UpstreamInvalid, UpstreamTimeout, VersionNotSupported
from registry.gate import Gate, Permit
from registry.identity import HUB

logger = logging.getLogger(__name__)

WELL_KNOWN = ("/.well-known/agent-card.json", "/.well-known/agent.json")
"""Where a card may be: since A2A 0.3, and before."""

CARD_S = 10.0
"""Deadline of finding a card, in seconds: somebody waits for it."""

MAX_CARD_BYTES = 1024 * 1024
"""A larger card is not one."""

MIN_AGE_S, DEFAULT_AGE_S, MAX_AGE_S = 30.0, 300.0, 3600.0
"""How long a card is fresh: what its server says within these bounds (A2A 1.0 §8.6), the middle one if it says nothing."""

_MAX_AGE = re.compile(r"max-age=(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Route:
    """Where and how an agent is called in one dialect."""

    url: str
    headers: Headers
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """The hub's card of an agent, ready to be sent."""

    body: bytes
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of an agent."""

    entry: Agent
    routes: dict[Dialect, Route]
    published: Published | None
    """None: the agent answers but offers no card."""
    expires: float
    source: str = WELL_KNOWN[0]
    etag: str | None = None

    def route(self, dialect: Dialect) -> Route:
        """Where to call the agent in the caller's dialect.

        Raises:
            VersionNotSupported: its card lists no JSON-RPC interface of it.
        """
        route = self.routes.get(dialect)
        if route is None:
            raise VersionNotSupported(dialect, tuple(self.routes))
        return route


class Discovery:
    """The cards of all agents. One for a process; `run` must be running."""

    def __init__(
        self, egress: Egress, *, gate: Gate, public_url: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._egress = egress
        self._gate = gate
        self._public_url = public_url.rstrip("/")
        self._clock = clock
        self._found: dict[str, Found] = {}
        self._fetching: dict[str, tuple[Agent, asyncio.Task[Found | HubError]]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Own the fetches until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.get_running_loop().create_future()

    async def find(self, entry: Agent) -> Found:
        """What is known of `entry`, fetched if need be.

        Raises:
            UpstreamUnavailable, UpstreamTimeout: it was never known and cannot be asked now.
        """
        found = self._found.get(entry.name)
        if found is not None and (found.entry is entry or found.entry == entry):
            if self._clock() >= found.expires:
                self._fetch(entry, found)
            return found
        outcome = await asyncio.shield(self._fetch(entry, None))
        if isinstance(outcome, HubError):
            raise outcome
        return outcome

    def rebuild(self, entry: Agent, members: object) -> judged.JsonObject | None:
        """Build the hub's card from a decoded one, such as the extended card; None: it is not a card."""
        card = cards.card_of(members)
        return None if card is None else self._publish(entry, card)

    def _publish(self, entry: Agent, card: Card) -> judged.JsonObject:
        return cards.publish(card, configured=entry.url, address=f"{self._public_url}/a2a/{entry.name}/")

    def _fetch(self, entry: Agent, old: Found | None) -> asyncio.Task[Found | HubError]:
        """Start a fetch, or join the one that is under way."""
        under_way = self._fetching.get(entry.name)
        if under_way is not None and under_way[0] == entry and not under_way[1].done():
            return under_way[1]
        assert self._tasks is not None, "Discovery.run must be running"
        task = self._tasks.create_task(self._refresh(entry, old))
        self._fetching[entry.name] = entry, task
        task.add_done_callback(lambda _: self._done(entry.name, task))
        return task

    def _done(self, name: str, task: asyncio.Task[Found | HubError]) -> None:
        if name in self._fetching and self._fetching[name][1] is task:
            del self._fetching[name]

    async def _refresh(self, entry: Agent, old: Found | None) -> Found | HubError:
        """Fetch and keep. Never raises: those who wait get the error, and nobody may wait."""
        try:
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
            self._found[entry.name] = found
            return found
        if old is None:
            return failure
        logger.warning("an agent's card could not be renewed", extra={"agent": entry.name, "reason": failure.text})
        self._found[entry.name] = replace(old, expires=self._clock() + MIN_AGE_S)
        return old

    async def _ask(self, permit: Permit, entry: Agent, old: Found | None) -> Found:
        """Ask the known places of a card, the one that had it last time first."""
        for place in sorted(WELL_KNOWN, key=lambda place: old is None or place != old.source):
            headers = [*entry.headers, ("accept", "application/json")]
            if old is not None and old.etag is not None and place == old.source:
                headers.append(("if-none-match", old.etag))
            url = cards.card_url(entry.url, place)
            outgoing = Outgoing(
                url=url, method="GET", headers=tuple(headers), trusted=entry.trusted, first_byte_s=CARD_S
            )
            async with self._egress.send(permit, outgoing) as incoming:
                if incoming.status == 304 and old is not None:
                    return replace(old, expires=self._clock() + _age(incoming))
                card = cards.read_card(await _read(incoming, entry)) if incoming.status == 200 else None
                if card is not None:
                    return self._keep(entry, card, incoming, place)
        if old is not None and old.published is not None:
            raise UpstreamInvalid(entry.name, "its agent card is gone")
        # an agent without a card is called where the operator said it is, in its caller's dialect
        routes = {dialect: Route(entry.url, _headers(entry, dialect)) for dialect in EXTENSIONS_HEADER}
        return Found(entry=entry, routes=routes, published=None, expires=self._clock() + MIN_AGE_S)

    def _keep(self, entry: Agent, card: Card, incoming: Incoming, place: str) -> Found:
        body = judged.encode(self._publish(entry, card))
        routes = {
            dialect: Route(cards.endpoint(entry.url, interface), _headers(entry, dialect), interface.tenant)
            for dialect, interface in card.interfaces.items()
        }
        return Found(
            entry=entry,
            routes=routes,
            published=Published(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'),
            expires=self._clock() + _age(incoming),
            source=place,
            etag=incoming.header("etag"),
        )


async def _read(incoming: Incoming, entry: Agent) -> bytes:
    held = bytearray()
    async for chunk in incoming.chunks():
        held += chunk
        if len(held) > MAX_CARD_BYTES:
            raise UpstreamInvalid(entry.name, "its agent card is too large")
    return bytes(held)


def _age(incoming: Incoming) -> float:
    stated = _MAX_AGE.search(incoming.header("cache-control") or "")
    return min(max(float(stated[1]), MIN_AGE_S), MAX_AGE_S) if stated else DEFAULT_AGE_S


def _headers(entry: Agent, dialect: Dialect) -> Headers:
    """Headers of a call, from scratch: nothing of a caller's comes here (a2a.md 3.7)."""
    version = (("a2a-version", "1.0"),) if dialect == "1.0" else ()
    accept = ("accept", "application/json, text/event-stream")
    return (*entry.headers, ("content-type", "application/json"), accept, *version)
