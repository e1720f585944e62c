"""Several instances of one agent: which of them is called, and which of them can be.

What an agent keeps lives in the instance where it was made: a task and a context are asked for there and nowhere else.
What nobody has goes to the least busy instance. One that fails again and again is left alone for a while, then tried by one
call. Knows no wire; an agent with one instance passes through without a trace.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Literal, TypeVar

from agents.ledger import Ledger
from agents.wire import Naming
from registry.entries import Agent
from registry.errors import AgentFault, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from registry.gate import Permit
from registry.judged import JsonObject

logger = logging.getLogger(__name__)

T = TypeVar("T")

State = Literal["closed", "open", "half-open"]
"""Of a circuit breaker: calls pass, none does, or one does to see."""

FAILURES = 3
"""Calls that fail one after the other before an instance is left alone."""

PAUSE_S = 10.0
"""How long it is, and how long before the next call when that one fails too."""


class Instance:
    """One instance: what runs on it, and its circuit breaker."""

    __slots__ = ("busy", "entry", "failures", "number", "retry_at", "used")

    def __init__(self, entry: Agent, number: int) -> None:
        self.entry = entry
        self.number = number
        """Its place among the agent's `urls`, from 1: what callers are told of it."""
        self.busy = 0
        self.failures = 0
        self.retry_at = 0.0
        self.used = 0
        """When it was chosen last: the number of that choice."""

    def state(self, now: float) -> State:
        """Whether it may be called."""
        if self.failures < FAILURES:
            return "closed"
        return "half-open" if now >= self.retry_at else "open"


class Instances:
    """The instances of all agents. One for a process."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._known: dict[str, tuple[Agent, list[Instance]]] = {}
        self._choices = 0

    def shown(self, entry: Agent) -> list[JsonObject]:
        """The instances of an agent for its operator; empty when it has one only."""
        if not entry.is_several:
            return []
        now = self._clock()
        return [
            {"instance": one.number, "url": one.entry.url, "state": one.state(now), "calls": one.busy}
            for one in self._of(entry)
        ]

    @asynccontextmanager
    async def lend(
        self, permit: Permit, entry: Agent, naming: Naming, call: Callable[[Agent], AbstractAsyncContextManager[T]]
    ) -> AsyncIterator[T]:
        """Make a call on the instance that has what it names, or on the least busy one.

        An instance that cannot be reached is passed over, if nothing was sent to it and it has nothing that is named.

        Raises:
            NotFound: a task or a context is not the caller's.
            UpstreamUnavailable: the instance that has it cannot be reached, or none can.
            HubError: as `call`.
        """
        place = await self._ledger.place(entry.name, permit.principal, naming)
        new_context = naming.context_id if place is None else None
        tried: list[Instance] = []
        while True:
            one = self._choose(entry, place, tried)
            before = permit.requests
            async with AsyncExitStack() as stack:
                stack.enter_context(self._watched(one))
                if new_context is not None:
                    self._ledger.hold(entry.name, new_context, one.entry.instance)
                try:
                    lent = await stack.enter_async_context(call(one.entry))
                except UpstreamError as error:
                    is_sent = not error.is_unsent or permit.requests - before > 1
                    if not is_sent and new_context is not None:
                        self._ledger.release(entry.name, new_context)
                    if is_sent or place is not None or len(tried) + 1 == len(entry.urls):
                        await self._settle(entry, new_context if is_sent else None, one)
                        raise
                    self._failed(one, error)
                    tried.append(one)
                    continue
                await self._settle(entry, new_context, one)
                yield lent
                return

    @contextmanager
    def at(self, entry: Agent, place: str) -> Iterator[Agent]:
        """Call the instance that has a task; an agent with one instance is that.

        Raises:
            UpstreamUnavailable: it cannot be reached.
        """
        if not entry.is_several:
            yield entry
            return
        one = self._choose(entry, place, [])
        with self._watched(one):
            yield one.entry

    def _of(self, entry: Agent) -> list[Instance]:
        """The agent's instances; those that it had before keep their state."""
        known = self._known.get(entry.name)
        if known is not None and (known[0] is entry or known[0] == entry):
            return known[1]
        old = {one.entry.instance: one for one in known[1]} if known is not None else {}
        made = []
        for number, of_one in enumerate(entry.instances(), start=1):
            one = old.get(of_one.instance) or Instance(of_one, number)
            one.entry, one.number = of_one, number
            made.append(one)
        self._known[entry.name] = entry, made
        return made

    def _choose(self, entry: Agent, place: str | None, tried: list[Instance]) -> Instance:
        now, instances = self._clock(), self._of(entry)
        if place is None:
            free = [one for one in instances if one not in tried and one.state(now) != "open"]
            if not free:
                raise UpstreamUnavailable(entry.name, "none of its instances can be reached")
            one = min(free, key=lambda one: (one.busy, one.used))
        else:
            found = next((one for one in instances if one.entry.instance == place), None if place else instances[0])
            if found is None:
                logger.warning("an instance is gone that has a task", extra={"agent": entry.name, "instance": place})
                raise UpstreamUnavailable(entry.name, "the instance that has this is gone")
            one = found
            if one.state(now) == "open":
                raise UpstreamUnavailable(entry.name, f"its instance {one.number}, which has this, cannot be reached")
        if one.failures >= FAILURES:
            one.retry_at = now + PAUSE_S  # this call is the one that tries
        self._choices += 1
        one.used = self._choices
        return one

    @contextmanager
    def _watched(self, one: Instance) -> Iterator[None]:
        """Count a call, and learn from how it ends. Whoever leaves early says nothing about the instance."""
        one.busy += 1
        failures = one.failures
        try:
            yield
        except (UpstreamUnavailable, UpstreamTimeout) as error:
            self._failed(one, error)
            raise
        except AgentFault:
            one.failures = 0
            raise
        else:
            if one.failures == failures:  # else it failed, and another one was called
                one.failures = 0
        finally:
            one.busy -= 1

    def _failed(self, one: Instance, error: UpstreamError) -> None:
        if isinstance(error, UpstreamUnavailable | UpstreamTimeout):
            one.failures += 1
            one.retry_at = self._clock() + PAUSE_S

    async def _settle(self, entry: Agent, new_context: str | None, one: Instance) -> None:
        if new_context is not None:
            await self._ledger.settle(entry.name, new_context, one.entry.instance)


@asynccontextmanager
async def answered(answer: Awaitable[T]) -> AsyncIterator[T]:
    """A call that is over when it is answered, for `lend`."""
    yield await answer
