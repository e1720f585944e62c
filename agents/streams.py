"""Events of tasks on their way from agents to clients: each is kept before it is shown, and shown again to who missed it.

A task has one reader, here or in another process (`reading`); everybody else who wants its events follows what it keeps.
Whose a task is was checked before; how a client is written to is its door's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress

from agents import answers
from agents.agent_tasks import AgentTasks
from agents.answers import Sighting
from agents.discovery import Route
from agents.ledger import Ledger
from agents.push import Push
from agents.reading import Kept, Reading, Readings
from agents.shown import Shown, last_state, look, look_at_all
from agents.speech import CANONICAL, Speech
from agents.upstream import Events as Source
from agents.upstream import Upstream
from registry import judged
from registry.entries import Agent
from registry.errors import AgentFault, HubError, NotSupported, UpstreamError, UpstreamInvalid
from registry.gate import Permit
from registry.ledger.events import Events
from registry.ledger.ownership import FINAL_STATES

logger = logging.getLogger(__name__)

FOLLOW_S = 0.25
"""How often a task is looked at that another process reads."""

NOT_FOUND = -32001
"""TaskNotFoundError (A2A 1.0 §5.4)."""

Begun = Callable[[str], Awaitable[None]]


class _Seen:
    """What somebody has been shown of a task."""

    def __init__(self, entry: Agent, seq: int | None) -> None:
        self._entry = entry
        self._before = seq
        self.seq = seq
        """The number of the last event; None: not even the task."""
        self.state: str | None = None
        """The last one; None: none was shown yet."""

    def noted(self, batch: list[Shown]) -> list[Shown]:
        """A batch that is shown now."""
        if batch:
            self.seq, self.state = batch[-1].seq, last_state(self._entry, batch) or self.state
        return batch

    def check_missed(self) -> None:
        """Refuse to subscribe to a finished task of which nothing was missed (A2A 1.0 §3.1.6); raises `NotSupported`."""
        if self.seq == self._before:
            raise NotSupported("the task is finished; nothing more comes of it")


class Streams:
    """The event streams of all tasks. One for a process."""

    def __init__(self, upstream: Upstream, *, ledger: Ledger, events: Events, push: Push) -> None:
        self.push = push
        self.upstream = upstream
        self.ledger = ledger
        self.events = events
        self.readings = Readings(upstream, ledger=ledger, events=events, push=push)
        self.tasks = AgentTasks(upstream)
        self.background: Callable[[Coroutine[None, None, None]], None] = _nobody
        """Owns what goes on when its caller has left."""
        self.give_up: Callable[[str, str], None] = _forget
        """Has a task of an agent cancelled which nobody wants any more."""

    async def lead(
        self, permit: Permit, entry: Agent, events: Source, context_id: str | None, *, begun: Begun | None = None
    ) -> AsyncGenerator[list[Shown]]:
        """Keep and show a stream that the agent has begun; those that come together are shown together.

        `begun` is called with the task's id before its first event is kept.

        Raises:
            AgentFault: the agent ends it with an error.
            UpstreamInvalid: it is not A2A, or shows what is somebody else's.
        """
        reading: Reading | None = None
        try:
            async for batch in events.data:
                sightings, failure = look_at_all(entry, events.speech, batch)
                good = batch[: len(sightings)]
                if reading is None:
                    reading = await self._begin(permit, entry, sightings, context_id, begun)
                speech = events.speech
                shown = await reading.keep(speech, good, sightings) if reading is not None else _unkept(speech, good)
                if shown is None:
                    break
                if shown:
                    yield shown
                if failure is not None:
                    raise failure
            else:
                return
        finally:
            if reading is not None:
                reading.end()
                if permit.is_over:
                    self.give_up(entry.name, reading.task_id)
        assert reading is not None
        async with aclosing(self._passed_on(reading, events)) as rest:
            async for batch_of_others in rest:
                yield batch_of_others

    async def _passed_on(self, reading: Reading, events: Source) -> AsyncGenerator[list[Shown]]:
        """Show what comes of a task with which somebody else goes on.

        Its own stream is read to its end meanwhile: an agent may wait for its reader, or end the task when it leaves.
        """
        draining = asyncio.create_task(_drain(events))
        try:
            async for batch in self._follow(reading.entry, reading.task_id, reading.kept):
                yield batch
        finally:
            draining.cancel()
            await asyncio.wait([draining])

    async def detached(self, entry: Agent, shown: AsyncGenerator[list[Shown]]) -> AsyncGenerator[list[Shown]]:
        """Show a stream that is read to its end in the background, whether its client stays or not."""
        first: asyncio.Future[list[Shown]] = asyncio.get_running_loop().create_future()
        self.background(_pump(entry, shown, first))
        batch = await asyncio.shield(first)
        yield batch
        task_id = look(entry, batch[0].speech, batch[0].data).task_id if batch else None
        if task_id is None or not batch[0].seq:
            return
        after = batch[-1].seq
        async for batch in self._follow(entry, task_id, after):
            yield batch

    async def _follow(self, entry: Agent, task_id: str, after: int) -> AsyncIterator[list[Shown]]:
        """Show what is behind number `after`, and what comes as long as somebody reads the task, here or elsewhere."""
        while True:
            changed = self.readings.changed(entry.name, task_id)
            is_read = changed is not None or await self.events.is_read(entry.name, task_id)
            async for batch in self.readings.kept(entry, task_id, after):
                after = batch[-1].seq
                yield batch
            if not is_read:
                return
            await _news(changed)

    async def _begin(
        self, permit: Permit, entry: Agent, sightings: list[Sighting], context_id: str | None, begun: Begun | None
    ) -> Reading | None:
        """Become the reader of the task that a stream shows first; None: it shows none."""
        principal = permit.principal
        seen = next((one for one in sightings if one.task_id is not None), None)
        if seen is None or seen.task_id is None:
            for one in sightings:
                await self.ledger.record(entry.name, principal, one, context_id=context_id, instance=entry.instance)
                permit.join(one.context_id)
            return None
        try:
            is_new = await self.ledger.record(
                entry.name,
                principal,
                seen,
                context_id=context_id,
                reader=self.events.process,
                instance=entry.instance,
            )
        except asyncio.CancelledError:
            self.readings.refuse(entry.name, seen.task_id)
            raise
        permit.join(seen.context_id)
        # who goes on with a task reads it from now on, in the place of whoever did
        reading = await self.readings.begin(entry, seen.task_id, is_new=is_new)
        try:
            if begun is not None:
                await begun(reading.task_id)
        except BaseException:
            reading.end()
            raise
        return reading

    async def resume(
        self, permit: Permit, entry: Agent, route: Route, task_id: str, after: int | None
    ) -> AsyncGenerator[list[Shown]]:
        """Show a task's events to who comes back: what is behind number `after`, and what comes.

        None begins with the task as it is now (A2A 1.0 §3.1.6). An empty batch says that it is waited for events, and that
        nothing is refused any more.

        Raises:
            NotSupported: the task is finished, and everything of it was shown.
            UpstreamError: the agent cannot be asked.
        """
        # nobody has seen what is not there
        seen = _Seen(entry, None if after is None else min(after, await self.events.last(entry.name, task_id)))
        while True:
            changed = self.readings.changed(entry.name, task_id)
            if seen.seq is not None:
                async for batch in self.readings.kept(entry, task_id, seen.seq):
                    yield seen.noted(batch)
            if seen.state in FINAL_STATES or await self._has_ended(entry, task_id, seen.seq):
                seen.check_missed()
                return
            reading = await self.readings.claim(entry, task_id) if changed is None else None
            if reading is not None:
                async with aclosing(self._take_over(permit, route, reading, seen.seq)) as taken:
                    async for batch in taken:
                        yield seen.noted(batch)
                if self.readings.changed(entry.name, task_id) is None and not reading.is_lost:
                    break
            elif seen.seq is None:
                yield seen.noted([await self._now(permit, entry, route, task_id)])
            else:
                yield []
                await _news(changed)
        # of a reader that came and went meanwhile
        async for batch in self.readings.kept(entry, task_id, seen.seq or 0):
            yield batch

    async def _has_ended(self, entry: Agent, task_id: str, shown: int | None) -> bool:
        """Whether a task is finished, and who has seen its events up to number `shown` knows it; None: who is to see none.

        One that finished while nobody read it, but was looked at, has its end still to be told.
        """
        if self.ledger.state(entry.name, task_id) not in FINAL_STATES:
            return False
        if shown is None:
            return True
        seq, task = await self.readings.fold(entry, task_id)
        return seq == shown and task is not None and answers.sighting_of(task).state in FINAL_STATES

    async def _now(self, permit: Permit, entry: Agent, route: Route, task_id: str) -> Shown:
        """A task that somebody reads, as it was shown until now, under the number of the last event that it holds.

        One whose events do not begin with it is as its agent has it, which may be ahead of the number.
        """
        seq, task = await self.readings.fold(entry, task_id)
        if task is None:
            task = await self.tasks.now(permit, entry, route, task_id)
            await self.readings.check(entry, task_id, answers.sighting_of(task))
        return Shown(seq, CANONICAL, judged.encode({"task": task}))

    async def _take_over(
        self, permit: Permit, route: Route, reading: Reading, after: int | None
    ) -> AsyncGenerator[list[Shown]]:
        """Read on where nobody reads: what the agent did meanwhile is the difference to its snapshot."""
        entry, task_id = reading.entry, reading.task_id
        try:
            known = (await self.readings.fold(entry, task_id)).task
            async with aclosing(self.tasks.events(permit, entry, route, task_id, known)) as found:
                async for task, events in found:
                    await self.readings.check(entry, task_id, answers.sighting_of(task))
                    data = [judged.encode(event) for event in events]
                    batch = await reading.keep(CANONICAL, data, [answers.sighting_of(event) for event in events])
                    if batch is None:
                        return  # a client goes on with the task in a stream of its own, or another process reads it
                    if after is None:
                        after = reading.live.seq
                        batch = [Shown(after, CANONICAL, judged.encode({"task": task}))]
                    yield batch
        finally:
            reading.end()

    async def recover(self, permit: Permit, entry: Agent, route: Route, task_id: str) -> None:
        """Bring a task to its end whose reader died: read on, or say that it failed when its agent has lost it."""
        await self.ledger.know(entry.name, task_id)
        reading = await self.readings.claim(entry, task_id)
        if reading is None:
            return
        try:
            async with aclosing(self._take_over(permit, route, reading, None)) as taken:
                async for _ in taken:
                    pass
        except AgentFault as fault:
            if fault.code != NOT_FOUND:
                raise
            await self.fail(entry, task_id, f"its agent has lost it: {fault.text}")

    async def fail(self, entry: Agent, task_id: str, reason: str) -> None:
        """Say that a task failed, to all who will ask."""
        await self.ledger.know(entry.name, task_id)
        reading = await self.readings.claim(entry, task_id)
        if reading is None:
            return
        try:
            await _say_failed(reading, await self.readings.fold(entry, task_id), reason)
        finally:
            reading.end()


async def _news(changed: asyncio.Event | None) -> None:
    """Wait for the next event of a task; None: another process reads it, which is looked at again and again."""
    await (changed.wait() if changed is not None else asyncio.sleep(FOLLOW_S))


def _unkept(speech: Speech, batch: list[bytes]) -> list[Shown]:
    """Events of no task."""
    return [Shown(0, speech, one) for one in batch]


async def _say_failed(reading: Reading, kept: Kept, reason: str) -> None:
    task_id = reading.task_id
    text = {"messageId": f"hub-{task_id}", "role": "ROLE_AGENT", "parts": [{"text": reason}]}
    status = {"state": "TASK_STATE_FAILED", "message": text}
    context_id = (kept.task or {}).get("contextId", "")
    event = {"statusUpdate": {"taskId": task_id, "contextId": context_id, "status": status}}
    await reading.keep(CANONICAL, [judged.encode(event)], [answers.sighting_of(event)])


async def _drain(events: Source) -> None:
    """Read a stream of which nothing is shown."""
    with suppress(UpstreamError):
        async for _ in events.data:
            pass


def _nobody(work: Coroutine[None, None, None]) -> None:
    work.close()
    raise RuntimeError("the keeper is not running")


def _forget(_agent: str, _task_id: str) -> None:
    """Nobody cancels tasks here."""


async def _pump(entry: Agent, shown: AsyncGenerator[list[Shown]], first: asyncio.Future[list[Shown]]) -> None:
    """Read a stream to its end; what fails before its first event is its client's to hear."""
    try:
        async with aclosing(shown):
            async for batch in shown:
                if not first.done():
                    first.set_result(batch)
    except HubError as error:
        if first.done():
            logger.warning("a detached stream broke", extra={"agent": entry.name, "reason": error.text})
        else:
            first.set_exception(error)
    except Exception:  # a boundary: one stream must not end the others
        logger.exception("a detached stream failed", extra={"agent": entry.name})
    finally:
        if not first.done():
            first.set_exception(UpstreamInvalid(entry.name, "its stream ended without an event"))
