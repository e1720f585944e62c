"""Events of tasks on their way from agents to clients: each is kept before it is shown, and shown again to who missed it.

A task has one reader, here or in another process; everybody else who wants its events follows what the reader keeps.
Whose a task is was checked before; how a client is written to is its door's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress

from agents import answers, snapshot
from agents.answers import Sighting
from agents.discovery import Route
from agents.ledger import Ledger
from agents.push import Push
from agents.shown import Shown, is_over, last_state, look, look_at_all
from agents.speech import SPEECHES, Ask, Speech
from agents.upstream import CANONICAL, Upstream, event_of
from agents.upstream import Events as Source
from registry import judged
from registry.entries import Agent
from registry.errors import AgentFault, HubError, NotSupported, UpstreamError, UpstreamInvalid
from registry.events import Event, Events
from registry.gate import Permit
from registry.judged import JsonObject
from registry.ownership import FINAL_STATES

logger = logging.getLogger(__name__)

POLL_S = (0.25, 5.0)
"""Pauses between two looks at a task whose agent cannot be subscribed to: the first, and the longest."""

FOLLOW_S = 0.25
"""How often a task is looked at that another process reads."""

NOT_FOUND = -32001
"""TaskNotFoundError (A2A 1.0 §5.4)."""

CHUNK = 200


Begun = Callable[[str], Awaitable[None]]


class _Live:
    """A task that this process reads."""

    def __init__(self) -> None:
        self.seq = 0
        self.changed = asyncio.Event()
        """Set at the next event, or the end. To be taken before one looks what there is, or a change is missed."""

    def change(self) -> None:
        """Wake the followers."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class Streams:
    """The event streams of all tasks. One for a process."""

    def __init__(self, upstream: Upstream, *, ledger: Ledger, events: Events, push: Push) -> None:
        self.unread: Callable[[str, str], None] = lambda _agent, _task_id: None
        """Called with agent and task when this process reads a task no more."""
        self.push = push
        self._upstream = upstream
        self.look = upstream.look
        self.ledger = ledger
        self.events = events
        self._live: dict[tuple[str, str], _Live] = {}
        self._hearing = asyncio.Lock()
        self._telling: set[asyncio.Future[None]] = set()
        self.background: Callable[[Coroutine[None, None, None]], None] = _nobody
        """Owns what goes on when its caller has left."""

    async def lead(
        self, permit: Permit, entry: Agent, events: Source, context_id: str | None, *, begun: Begun | None = None
    ) -> AsyncGenerator[list[Shown]]:
        """Keep and show a stream that the agent has begun; those that come together are shown together.

        `begun` is called with the task's id before its first event is kept.

        Raises:
            AgentFault: the agent ends it with an error.
            UpstreamInvalid: it is not A2A, or shows what is somebody else's.
        """
        reading: _Reading | None = None
        speech = events.speech
        try:
            async for batch in events.data:
                sightings, failure = look_at_all(entry, speech, batch)
                good = batch[: len(sightings)]
                if reading is None:
                    reading = await self._begin(permit, entry, sightings, context_id)
                    if reading is not None and begun is not None:
                        await begun(reading.task_id)
                if reading is not None:
                    if (shown := await reading.keep(speech, good, sightings)) is None:
                        return  # its client goes on with the task in another stream, which shows what comes
                    yield shown
                elif good:
                    yield [Shown(0, speech, one) for one in good]
                if failure is not None:
                    raise failure
        finally:
            if reading is not None:
                reading.end()

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
        while True:
            live = self._live.get((entry.name, task_id))
            changed = live.changed if live is not None else None
            async for batch in self._kept(entry, task_id, after):
                after = batch[-1].seq
                yield batch
            if changed is None:
                return
            await changed.wait()

    async def _begin(
        self, permit: Permit, entry: Agent, sightings: list[Sighting], context_id: str | None
    ) -> _Reading | None:
        """Become the reader of the task that a stream shows first; None: it shows none."""
        owner = permit.principal.id
        seen = next((one for one in sightings if one.task_id is not None), None)
        if seen is None or seen.task_id is None:
            for one in sightings:
                await self.ledger.record(entry.name, owner, one, context_id=context_id)
            return None
        task_id = seen.task_id
        # one that goes on with no context makes a task; else the agent may go on with an old one that is not remembered
        is_new = context_id is None and self.ledger.state(entry.name, task_id) is None
        try:
            await self.ledger.record(entry.name, owner, seen, context_id=context_id, reader=self.events.process)
        except asyncio.CancelledError:
            self.events.leave(entry.name, task_id)
            raise
        # who goes on with a task reads it from now on, in the place of whoever did
        old, reading = self._live.get((entry.name, task_id)), self._reading(entry, task_id)
        if is_new:
            return reading
        try:
            await self.events.lead(entry.name, task_id)
            reading.live.seq = max(old.seq if old is not None else 0, await self.events.last(entry.name, task_id))
        except BaseException:
            reading.end()
            raise
        finally:
            if old is not None:
                old.change()
        return reading

    def _reading(self, entry: Agent, task_id: str) -> _Reading:
        live = self._live[entry.name, task_id] = _Live()
        return _Reading(self, entry, task_id, live)

    async def _claim(self, entry: Agent, task_id: str) -> _Reading | None:
        """Become the reader of a task that nobody reads; None: somebody does."""
        if (entry.name, task_id) in self._live:
            return None
        reading = self._reading(entry, task_id)  # before anything is awaited: two who come together are not both it
        try:
            if await self.events.lead(entry.name, task_id):
                reading.live.seq = await self.events.last(entry.name, task_id)
                return reading
        except BaseException:
            reading.end()
            raise
        reading.end(is_told=True)
        return None

    def is_reader(self, agent: str, task_id: str, live: _Live) -> bool:
        """Whether a reading is still the task's own."""
        return self._live.get((agent, task_id)) is live

    async def resume(
        self, permit: Permit, entry: Agent, route: Route, task_id: str, after: int | None
    ) -> AsyncGenerator[list[Shown]]:
        """Show a task's events to who comes back: what is behind number `after`, and what comes.

        None begins with the task as it is now (A2A 1.0 §3.1.6).

        Raises:
            NotSupported: the task is finished, and everything of it was shown.
            UpstreamError: the agent cannot be asked.
        """
        shown = after
        state = self.ledger.state(entry.name, task_id)
        while True:
            live = self._live.get((entry.name, task_id))
            changed = live.changed if live is not None else None
            if shown is not None:
                async for batch in self._kept(entry, task_id, shown):
                    shown = batch[-1].seq
                    state = last_state(entry, batch) or state
                    yield batch
            if state in FINAL_STATES or (live is None and self.ledger.state(entry.name, task_id) in FINAL_STATES):
                _refuse_nothing(shown, after)
                return
            reading = await self._claim(entry, task_id) if live is None else None
            if reading is not None:
                async with aclosing(self._take_over(permit, route, reading, shown)) as taken:
                    async for batch in taken:
                        shown = batch[-1].seq
                        yield batch
                if (entry.name, task_id) not in self._live:
                    break
            elif shown is None:
                shown, task = await self._now(permit, entry, route, task_id)
                state = answers.sighting_of(task).state or state
                yield [Shown(shown, CANONICAL, judged.encode({"task": task}))]
            else:
                await (changed.wait() if changed is not None else asyncio.sleep(FOLLOW_S))

        async for batch in self._kept(entry, task_id, shown or 0):  # of a reader that came and went meanwhile
            yield batch

    async def _now(self, permit: Permit, entry: Agent, route: Route, task_id: str) -> tuple[int, JsonObject]:
        """A task that somebody reads, as it is now, and the number of an event that it holds for sure."""
        last = await self.events.last(entry.name, task_id)
        return last, await self._task(permit, entry, route, task_id)

    async def _kept(self, entry: Agent, task_id: str, after: int) -> AsyncIterator[list[Shown]]:
        while events := await self.events.after(entry.name, task_id, after, limit=CHUNK):
            yield [Shown(one.seq, SPEECHES[one.form], one.data) for one in events]
            after = events[-1].seq

    async def _take_over(
        self, permit: Permit, route: Route, reading: _Reading, after: int | None
    ) -> AsyncGenerator[list[Shown]]:
        """Read on where nobody reads: what the agent did meanwhile is the difference to its snapshot."""
        entry, task_id = reading.entry, reading.task_id
        try:
            known = await self._fold(entry, task_id)
            async with aclosing(self._agent_events(permit, entry, route, task_id, known)) as found:
                async for task, events in found:
                    data = [judged.encode(event) for event in events]
                    batch = await reading.keep(CANONICAL, data, [answers.sighting_of(event) for event in events])
                    if batch is None:
                        return  # a client goes on with the task in a stream of its own
                    if after is None:
                        after = reading.live.seq
                        batch = [Shown(after, CANONICAL, judged.encode({"task": task}))]
                    if batch:
                        yield batch
        finally:
            reading.end()

    async def _fold(self, entry: Agent, task_id: str) -> JsonObject | None:
        """The task as its kept events make it."""
        task: JsonObject | None = None
        async for batch in self._kept(entry, task_id, 0):
            for one in batch:
                with suppress(UpstreamError):  # one that only its own version's clients can read
                    task = snapshot.apply(task, event_of(entry, one.speech, one.data))
        return task

    async def _agent_events(
        self, permit: Permit, entry: Agent, route: Route, task_id: str, known: JsonObject | None
    ) -> AsyncGenerator[tuple[JsonObject, list[JsonObject]]]:
        """What the agent says of a task from now on, each time with the task as it is then; first what is new to `known`."""
        task = known
        try:
            ask = Ask(operation="SubscribeToTask", params={"id": task_id})
            async with self._upstream.stream(permit, entry, route, ask) as stream:
                async for batch in stream.data:
                    told = [event_of(entry, stream.speech, data) for data in batch]
                    # 0.3 need not begin with the task: what was missed is asked for
                    if task is known and "task" not in told[0]:
                        told = [{"task": await self._task(permit, entry, route, task_id)}]
                    found: list[JsonObject] = []
                    for event in told:
                        found += snapshot.difference(task, event["task"]) if "task" in event else [event]
                        task = snapshot.apply(task, event)
                    if task is not None:
                        yield task, found
        except UpstreamError as error:  # it has no SubscribeToTask, or broke it off: then it is asked again and again
            logger.info("a task is polled", extra={"agent": entry.name, "task": task_id, "reason": error.text})
            self._upstream.quirks.note_no_subscribe(entry, error)
        state = answers.sighting_of(task).state if task is not None else None
        pause = POLL_S[0]
        while not is_over(state):
            now = await self._task(permit, entry, route, task_id)
            found = snapshot.difference(task, now)
            if found:
                yield now, found
            elif task is known:
                yield now, []  # who came back is told that there is nothing new
            task, state = now, answers.sighting_of(now).state
            if not is_over(state):
                await asyncio.sleep(pause)
                pause = min(pause * 2, POLL_S[1])

    async def _task(self, permit: Permit, entry: Agent, route: Route, task_id: str) -> JsonObject:
        ask = Ask(operation="GetTask", params={"id": task_id})
        task = (await self._upstream.unary(permit, entry, route, ask)).result
        if task.get("id") != task_id:
            raise UpstreamInvalid(entry.name, "it answered with another task")
        return task

    async def settled(self, permit: Permit, entry: Agent, route: Route, task_id: str) -> JsonObject:
        """Wait, in the place of an agent that did not, until a task is finished or interrupted, and return it."""
        self._upstream.quirks.note(entry, "nonblocking")
        pause = POLL_S[0]
        while True:
            task = await self._task(permit, entry, route, task_id)
            if is_over(answers.sighting_of(task).state):
                return task
            await asyncio.sleep(pause)
            pause = min(pause * 2, POLL_S[1])

    async def recover(self, permit: Permit, entry: Agent, route: Route, task_id: str) -> None:
        """Bring a task to its end whose reader died: read on, or say that it failed when its agent has lost it."""
        await self.ledger.know(entry.name, task_id)
        reading = await self._claim(entry, task_id)
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
        reading = await self._claim(entry, task_id)
        if reading is None:
            return
        try:
            await self._say_failed(reading, reason)
        finally:
            reading.end()

    async def _say_failed(self, reading: _Reading, reason: str) -> None:
        task_id = reading.task_id
        known = await self._fold(reading.entry, task_id)
        text = {"messageId": f"hub-{task_id}", "role": "ROLE_AGENT", "parts": [{"text": reason}]}
        status = {"state": "TASK_STATE_FAILED", "message": text}
        event = {"statusUpdate": {"taskId": task_id, "contextId": (known or {}).get("contextId", ""), "status": status}}
        await reading.keep(CANONICAL, [judged.encode(event)], [answers.sighting_of(event)])

    async def heard(self, entry: Agent, task_id: str, event: JsonObject) -> None:
        """Keep an event that an agent posted of a task that nobody reads; a reader sees it by itself."""
        async with self._hearing:
            await self.ledger.know(entry.name, task_id)
            if self.ledger.state(entry.name, task_id) in FINAL_STATES:
                return
            reading = await self._claim(entry, task_id)
            if reading is None:
                return
            event = self._upstream.contexts.shown(entry, task_id, event)
            try:
                known = await self._fold(entry, task_id)
                found = snapshot.difference(known, event["task"]) if "task" in event else [event]
                sightings = [answers.sighting_of(one) for one in found]
                await reading.keep(CANONICAL, [judged.encode(one) for one in found], sightings)
            finally:
                reading.end(is_told=True)

    def left(self, agent: str, task_id: str, live: _Live, *, is_told: bool) -> None:
        """A reader is done."""
        live.change()
        if self._live.get((agent, task_id)) is not live:
            return  # another one reads it now
        del self._live[agent, task_id]
        self.events.leave(agent, task_id)
        if not is_told:
            self.unread(agent, task_id)

    async def append(self, entry: Agent, task_id: str, events: list[Event]) -> None:
        """Keep events of a task that this process reads, and send them to whom its owner wants them sent."""
        if not self.push.versions(entry.name, task_id):
            await self.events.append(entry.name, task_id, events)
            return
        # finished also when its client leaves meanwhile: what is kept is told
        telling = asyncio.ensure_future(self._keep_and_tell(entry, task_id, events))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        await asyncio.shield(telling)

    async def _keep_and_tell(self, entry: Agent, task_id: str, events: list[Event]) -> None:
        await self.events.append(entry.name, task_id, events)
        if versions := self.push.versions(entry.name, task_id):
            told: list[JsonObject] = []
            for one in events:
                with suppress(UpstreamError):
                    told.append(event_of(entry, SPEECHES[one.form], one.data))
            # 0.3 sends whole tasks: one for each state, not for each piece of an artifact
            task = None
            if "0.3" in versions and any(answers.sighting_of(event).state is not None for event in told):
                task = await self._fold(entry, task_id)
            for event in told:
                await self.push.notify(entry.name, task_id, event, task=task)

    def advance(self, agent: str, seen: Sighting) -> None:
        """Note a state that an event shows."""
        self.ledger.advance(agent, seen)


class _Reading:
    """This process reading one task."""

    __slots__ = ("_streams", "entry", "live", "task_id")

    def __init__(self, streams: Streams, entry: Agent, task_id: str, live: _Live) -> None:
        self._streams = streams
        self.entry = entry
        self.task_id = task_id
        self.live = live

    @property
    def is_current(self) -> bool:
        """Whether this is the task's reader still."""
        return self._streams.is_reader(self.entry.name, self.task_id, self.live)

    async def keep(self, speech: Speech, batch: list[bytes], sightings: list[Sighting]) -> list[Shown] | None:
        """Number events, keep them, and return them to be shown; None: somebody else reads the task now.

        Raises:
            UpstreamInvalid: one is of another task.
        """
        if not self.is_current:
            return None
        if not batch:
            return []
        agent, form, seq = self.entry.name, SPEECHES.index(speech), self.live.seq
        events: list[Event] = []
        for data, seen in zip(batch, sightings, strict=True):
            if seen.task_id not in {None, self.task_id}:
                raise UpstreamInvalid(agent, "its stream shows another task")
            if seen.state is not None:
                self._streams.advance(agent, seen)
                if seen.form == "odd":
                    self._streams.look(self.entry, speech, data)
            seq += 1
            events.append(Event(seq, form, data))
        self.live.seq = seq
        await self._streams.append(self.entry, self.task_id, events)
        self.live.change()
        return [Shown(one.seq, speech, one.data) for one in events]

    def end(self, *, is_told: bool = False) -> None:
        """Read no more; `is_told`: the agent itself tells the hub what comes."""
        self._streams.left(self.entry.name, self.task_id, self.live, is_told=is_told)


def _refuse_nothing(shown: int | None, after: int | None) -> None:
    """Subscribing to a finished task is an error, unless something of it was missed (A2A 1.0 §3.1.6)."""
    if shown == after:
        raise NotSupported("the task is finished; nothing more comes of it")


def _nobody(work: Coroutine[None, None, None]) -> None:
    work.close()
    raise RuntimeError("the keeper is not running")


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
