"""Tends tasks that nobody reads: those of a hub process that died are read on, old ones are forgotten.

Decides when; how a task is read on is `streams`' affair.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager

from agents.discovery import Discovery
from agents.instances import Instances
from agents.shown import is_over
from agents.speech import SPEECHES, Ask
from agents.streams import Streams
from registry.catalog import Catalog
from registry.entries import Agent
from registry.errors import HubError
from registry.gate import Gate
from registry.identity import HUB
from registry.ledger.events import DEAD_S, PURGE_TASKS

logger = logging.getLogger(__name__)

AT_ONCE = 1000
"""Tasks read on at the same time: each may last for days, and those beyond wait for one to end."""

TRIES, PAUSE_S = 12, (1.0, 300.0)
"""How often an agent is asked that cannot be reached, and the pauses between: the first, and the longest."""

CANCEL_S = 10.0
"""How long an agent is asked to cancel a task."""

FORGET_S = 600.0
DAY_S = 86_400.0


class Keeper:
    """One for a process; `run` must be running."""

    def __init__(
        self,
        streams: Streams,
        *,
        catalog: Callable[[], Catalog],
        discovery: Discovery,
        instances: Instances,
        gate: Gate,
        keep: tuple[float, int],
    ) -> None:
        """`keep` says for how many days finished tasks are remembered, and how many."""
        self._streams = streams
        self._catalog = catalog
        self._discovery = discovery
        self._instances = instances
        self._gate = gate
        self._days, self._count = keep
        self._tasks: asyncio.TaskGroup | None = None
        self._under_way: set[tuple[str, str]] = set()
        streams.readings.unread = self._follow_for_receivers
        streams.background = self._start
        streams.give_up = lambda agent, task_id: self._start(self._cancel(agent, task_id))
        self._places = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Tend tasks until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._forget())
            while True:
                with _logged("looking for tasks that nobody reads"):
                    for task in await self._streams.events.orphans():
                        self.read_on(task.agent, task.task_id)
                await asyncio.sleep(DEAD_S)

    def read_on(self, agent: str, task_id: str) -> None:
        """Have a task read to its end in the background, if nobody reads it."""
        if self._tasks is not None and (agent, task_id) not in self._under_way:
            self._under_way.add((agent, task_id))
            self._tasks.create_task(self._read_on(agent, task_id))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        assert self._tasks is not None, "Keeper.run must be running"
        self._tasks.create_task(work)

    def _follow_for_receivers(self, agent: str, task_id: str) -> None:
        """Read a task on that its client left, if its events are sent to somebody."""
        if self._streams.push.versions(agent, task_id) and not is_over(self._streams.ledger.state(agent, task_id)):
            self.read_on(agent, task_id)

    async def _read_on(self, agent: str, task_id: str) -> None:
        """Bring a task to its end. A boundary: one task that cannot be saved must not end the others."""
        entry = self._catalog().agents.get(agent)
        try:
            if entry is not None:  # else it may come back; who asks meanwhile is told that there is no such agent
                await self._try(entry, task_id)
        except asyncio.CancelledError:
            self._streams.events.abandon(agent, task_id)  # the hub stops: the next one reads on
            raise
        except Exception:
            logger.exception("a task could not be read on", extra={"agent": agent, "task": task_id})
        finally:
            self._under_way.discard((agent, task_id))

    async def _cancel(self, agent: str, task_id: str) -> None:
        """Cancel a task whose time is over, and read what it then says; an agent that cannot is left alone."""
        entry = self._catalog().agents.get(agent)
        if entry is None or is_over(self._streams.ledger.state(agent, task_id)):
            return
        with _logged("cancelling a task whose time is over"):
            try:
                async with self._places, asyncio.timeout(CANCEL_S):
                    place = await self._streams.ledger.place_of_task(agent, task_id)
                    with self._gate.admit(HUB, entry) as permit, self._instances.at(entry, place) as one:
                        route = (await self._discovery.find(one)).choose(SPEECHES[0])
                        ask = Ask(operation="CancelTask", params={"id": task_id})
                        await self._streams.upstream.unary(permit, one, route, ask)
            except (HubError, TimeoutError) as error:
                extra = {"agent": agent, "task": task_id, "reason": str(error) or "no answer in time"}
                logger.info("a task whose time is over was not cancelled", extra=extra)
            else:
                self.read_on(agent, task_id)

    async def _try(self, entry: Agent, task_id: str) -> None:
        loop, pause, tries = asyncio.get_running_loop(), PAUSE_S[0], 0
        while tries < TRIES:
            begin = loop.time()
            try:
                async with self._places:
                    place = await self._streams.ledger.place_of_task(entry.name, task_id)
                    with self._gate.admit(HUB, entry) as permit, self._instances.at(entry, place) as one:
                        route = (await self._discovery.find(one)).choose(SPEECHES[0])
                        await self._streams.recover(permit, one, route, task_id)
            except HubError as error:
                self._streams.events.abandon(entry.name, task_id)  # should this process die before it tries again
                logger.warning(
                    "a task is not read on yet", extra={"agent": entry.name, "task": task_id, "reason": error.text}
                )
                if loop.time() - begin > PAUSE_S[1]:  # it was reached, for long
                    pause, tries = PAUSE_S[0], 0
                await asyncio.sleep(pause)
                pause, tries = min(pause * 2, PAUSE_S[1]), tries + 1
            else:
                return
        await self._streams.fail(entry, task_id, "its agent could not be reached any more")

    async def _forget(self) -> None:
        while True:
            forgotten = 0
            with _logged("forgetting old tasks"):
                forgotten = await self._streams.events.forget(before=time.time() - self._days * DAY_S, keep=self._count)
            if forgotten < PURGE_TASKS:
                await asyncio.sleep(FORGET_S)


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """A boundary: what fails once, such as a database that is busy, must not end the hub."""
    try:
        yield
    except Exception:
        logger.exception("%s failed", what)
