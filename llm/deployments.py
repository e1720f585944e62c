"""The deployments of models: how each does, and which of several is asked. Knows no wire.

A deployment that has had enough, or that fails again and again, is left alone for a while; then one call is let through to
see. Calls of one conversation stay where their beginning is in the prompt cache. A model with one deployment has no state here.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from email.utils import parsedate_to_datetime
from random import random

from registry.entries import Model
from registry.errors import (
    AddressRefused,
    DeploymentsBusy,
    HubError,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from registry.gate import Usage
from registry.judged import JsonObject
from registry.prices import Price

FAILURES = 3
"""Calls that fail one after the other before a deployment is left alone."""

PAUSE_S, MAX_PAUSE_S = 10.0, 120.0
"""How long it is left alone at first; doubled each time that the call fails which tries it."""

LIMITED_S, MAX_LIMITED_S = 5.0, 300.0
"""How long after a 429: when that said nothing, and at most."""

FULL_S = 1.0
"""When to ask again for a place at one that has all the calls it may have at a time."""

EXPLORED = 0.05
"""Share of the calls that go elsewhere than to the fastest, so that the others' figures stay true."""

CACHED_FROM = 4096
"""Bytes at the start of a conversation that make it worth to stay: providers cache no prompt below 1,024 tokens."""

KEPT_S = 600.0
KEPT_CONVERSATIONS = 20_000
"""How long, and for how many conversations, it is known where they were."""

KEPT_STATES = 10_000

TYPICAL = Usage(input_tokens=3000, output_tokens=1000)

Prices = Callable[[Model], Price | None]
"""Says what a call of a model costs; None: that is not known."""


async def wait(seconds: float) -> None:
    """Wait, if there is anything to wait for."""
    if seconds > 0:
        await asyncio.sleep(seconds)


class Pace:
    """So many a minute, counted by one number (GCRA, as in the gate)."""

    __slots__ = ("_free_at", "_interval")

    def __init__(self, per_minute: int | None) -> None:
        self._interval = 0.0 if per_minute is None else 60.0 / per_minute
        self._free_at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until one more may pass."""
        wait = self._free_at - now - 60.0 + self._interval if self._interval else 0.0
        return wait if wait > 1e-6 else 0.0  # not what rounding leaves

    def take(self, now: float, many: int) -> None:
        """Count `many`, even beyond what is left; fewer than none gives some back."""
        self._free_at = max(self._free_at, now) + many * self._interval


class Place:
    """One deployment: what runs on it, what it may be asked, and how it does."""

    __slots__ = (
        "again_at",
        "busy",
        "cools",
        "failures",
        "is_limited",
        "latency_s",
        "number",
        "pace",
        "requests",
        "tokens",
        "used",
        "weight",
    )

    def __init__(self, model: Model, number: int, *, cools: bool) -> None:
        self.number = number
        """Its position among the model's deployments."""
        self.weight = model.weight
        self.pace = model.pace
        self.cools = cools
        """It is left alone after failures: there is somewhere else to go."""
        self.busy = 0
        self.failures = 0
        self.again_at = 0.0
        self.is_limited = False
        """Its provider said 429, and `again_at` is when that is over."""
        self.latency_s: float | None = None
        """Until answers begin, of late; None: not known yet."""
        self.used = 0
        """When it was chosen last: the number of that choice."""
        self.requests = Pace(model.pace.requests_per_minute)
        self.tokens = Pace(model.pace.tokens_per_minute)

    def state(self, now: float) -> str:
        """`healthy`; `cooling`: it is left alone; `probing`: one call tries it, or may."""
        if now < self.again_at:
            return "cooling"
        return "probing" if self.failures >= FAILURES else "healthy"

    def wait(self, now: float) -> float:
        """Seconds until it may be asked."""
        most = self.pace.concurrency
        full = FULL_S if most is not None and self.busy >= most else 0.0
        return max(self.again_at - now, full, self.requests.wait(now), self.tokens.wait(now))

    def inherit(self, before: Place) -> None:
        """Take over how the deployment did, when what is configured around it has changed."""
        self.failures, self.again_at, self.is_limited = before.failures, before.again_at, before.is_limited
        self.latency_s = before.latency_s
        if before.pace == self.pace:
            self.requests, self.tokens = before.requests, before.tokens

    def begin(self, now: float) -> None:
        """Count a call; of those that may try a failing deployment this is the one."""
        self.busy += 1
        self.requests.take(now, 1)
        if self.failures >= FAILURES:
            self.again_at = now + _pause(self.failures)

    def answered(self, seconds: float, now: float) -> None:
        """An answer began, so many seconds after it was asked for."""
        self.failures = 0
        if not (self.is_limited and now < self.again_at):
            self.again_at, self.is_limited = 0.0, False
        self.latency_s = seconds if self.latency_s is None else self.latency_s + (seconds - self.latency_s) / 5

    def failed(self, error: HubError, now: float, *, was_sent: bool) -> None:
        """Learn from a failure; one that is about the request says nothing about the deployment."""
        if not self.cools:
            return
        asked = retry_after(error)
        if asked is not None or isinstance(error, UpstreamLimited):
            self.is_limited = True
            self.again_at = now + min(asked or LIMITED_S, MAX_LIMITED_S)
            return
        if isinstance(error, UpstreamRefused | AddressRefused) or (
            isinstance(error, UpstreamUnavailable) and not was_sent
        ):
            self.failures = max(
                self.failures + 1, FAILURES
            )  # the hub's account or the entry: another call mends nothing
        elif isinstance(error, UpstreamUnavailable | UpstreamTimeout | UpstreamInvalid):
            self.failures += 1
        else:
            return
        if self.failures >= FAILURES:
            self.is_limited = False
            self.again_at = now + _pause(self.failures)

    def shown(self, now: float) -> JsonObject:
        """How it does, for the operator."""
        latency = None if self.latency_s is None else round(self.latency_s * 1000)
        return {"state": self.state(now), "calls": self.busy, "latency_ms": latency}


class Deployments:
    """The deployments of all models. One for a process."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = wait,
        chance: Callable[[], float] = random,
        prices: Prices = lambda _model: None,
    ) -> None:
        """`pause` waits before what failed is tried again; `chance` gives numbers from 0 up to 1."""
        self.clock = clock
        self.pause = pause
        self.chance = chance
        self._prices = prices
        self._known: OrderedDict[str, tuple[Model, list[Place]]] = OrderedDict()
        self._homes: OrderedDict[int, tuple[str, float]] = OrderedDict()
        self._choices = 0

    def of(self, entry: Model) -> list[Place]:
        """The places of a model; those that it had before keep their state. One alone is nobody's to remember."""
        if not entry.deployments:
            return [Place(entry, 0, cools=False)]
        name = entry.deployments[0].deployment
        known = self._known.get(name)
        if known is not None and _is_same(known[0], entry):
            return known[1]
        old = {} if known is None else dict(zip(map(_address, known[0].deployments), known[1], strict=True))
        cools = len(entry.deployments) > 1 or bool(entry.routing.fallbacks)
        places = []
        for number, model in enumerate(entry.deployments):
            place = Place(model, number, cools=cools)
            if (before := old.pop(_address(model), None)) is not None:
                place.inherit(before)
            places.append(place)
        self._known[name] = entry, places
        self._known.move_to_end(name)
        if len(self._known) > KEPT_STATES:
            self._known.popitem(last=False)
        return places

    def shown(self, entry: Model) -> list[JsonObject]:
        """The deployments of a model for its operator; empty when it has one only."""
        if not entry.deployments:
            return []
        now = self.clock()
        return [
            {"deployment": name_of(model), **place.shown(now)}
            for model, place in zip(entry.deployments, self.of(entry), strict=True)
        ]

    def home(self, entry: Model, principal_id: str, start: bytes) -> int | None:
        """What tells a conversation from others, for `choose`; None: it is too short for any prompt cache."""
        if len(entry.deployments) < 2 or len(start) < CACHED_FROM:
            return None
        return hash((entry.name, principal_id, start[:CACHED_FROM]))

    def choose(self, entry: Model, places: Sequence[Place], home: int | None) -> Place:
        """Choose one of `places`, which are some of the entry's.

        Raises:
            DeploymentsBusy: all have as many requests as they may have.
            UpstreamUnavailable: all do nothing but fail.
        """
        now = self.clock()
        free = [place for place in places if place.wait(now) <= 0]
        if not free:
            raise nobody(entry, places, now)
        chosen = free[0] if len(free) == 1 else self._at_home(entry, home, free) or self._by_rule(entry, free)
        self._choices += 1
        chosen.used = self._choices
        if home is not None:
            self._homes[home] = entry.deployments[chosen.number].deployment, now
            self._homes.move_to_end(home)
            if len(self._homes) > KEPT_CONVERSATIONS:
                self._homes.popitem(last=False)
        return chosen

    def _at_home(self, entry: Model, home: int | None, free: Collection[Place]) -> Place | None:
        known = None if home is None else self._homes.get(home)
        if known is None or self.clock() - known[1] > KEPT_S:
            return None
        return next((place for place in free if entry.deployments[place.number].deployment == known[0]), None)

    def _by_rule(self, entry: Model, free: Sequence[Place]) -> Place:
        rule = entry.routing.rule
        if rule == "least_busy":
            return min(free, key=lambda place: (place.busy / place.weight, place.used))
        if rule == "lowest_latency" and self.chance() >= EXPLORED:
            return min(free, key=lambda place: (place.latency_s or 0.0, place.used))
        if rule == "lowest_cost":
            prices = [typical_cost(self._prices(entry.deployments[place.number])) for place in free]
            least = min((price for price in prices if price is not None), default=None)
            free = [place for place, price in zip(free, prices, strict=True) if price == least]
        return self._weighted(free)

    def _weighted(self, free: Sequence[Place]) -> Place:
        left = self.chance() * sum(place.weight for place in free)
        for place in free:
            left -= place.weight
            if left < 0:
                return place
        return free[-1]


def typical_cost(price: Price | None) -> float | None:
    """What a call of usual size costs, to compare deployments by; None: that is not known."""
    return None if price is None else price.cost(TYPICAL)


def name_of(model: Model) -> str:
    """What callers are told of a deployment: never its address."""
    return f"{model.provider}/{model.model}"


def _is_same(one: Model, other: Model) -> bool:
    """Whether two entries have the same places, which those have that a wildcard makes of its names."""
    return one is other or (
        len(one.deployments) == len(other.deployments)
        and one.routing == other.routing
        and all(map(_is_same_place, one.deployments, other.deployments))
    )


def _is_same_place(one: Model, other: Model) -> bool:
    return (one.weight, one.pace, _address(one)) == (other.weight, other.pace, _address(other))


def _address(model: Model) -> tuple[object, ...]:
    return model.provider, model.base_url, model.api_key, model.headers, "" if "*" in model.deployment else model.model


def _pause(failures: int) -> float:
    return min(PAUSE_S * 2.0 ** min(failures - FAILURES, 10), MAX_PAUSE_S)


def nobody(entry: Model, places: Sequence[Place], now: float) -> HubError:
    """Why none of `places` may be asked now."""
    soonest = min(places, key=lambda place: place.wait(now))
    wait = soonest.wait(now)
    if soonest.again_at > now and not soonest.is_limited:
        many = "its deployments do" if entry.deployments else "it does"
        return UpstreamUnavailable(entry.name, f"{many} nothing but fail; asked again in {wait:.0f} s")
    return DeploymentsBusy(entry.name, wait)


def retry_after(error: HubError) -> float | None:
    """Seconds that a provider asked to wait (RFC 9110 §10.2.3); None: it said nothing of use."""
    said = error.retry_after if isinstance(error, UpstreamLimited | UpstreamOverloaded) else None
    if said is None:
        return None
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None
