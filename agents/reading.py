"""Tasks that this process reads: their events are numbered, kept, and sent to whom their owners want them sent.

A task has one reader, here or in another process. Where events come from is `streams`' affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from itertools import count, repeat
from typing import NamedTuple

from agents import answers, screening, snapshot
from agents.answers import Sighting
from agents.ledger import Ledger
from agents.push import Push
from agents.shown import Shown
from agents.speech import CANONICAL, SPEECHES, Speech
from agents.spoken import event_of
from agents.upstream import Upstream
from registry import judged
from registry.entries import Agent
from registry.errors import GuardRefused, UpstreamError, UpstreamInvalid
from registry.judged import JsonObject
from registry.ledger.events import Batch, Events
from registry.ledger.ownership import FINAL_STATES
from registry.rules.judging import Posted

TRIES = 20
"""How often an event that an agent posted is tried to be kept: each time another one came in between."""

Append = Callable[[str, str, Batch], Awaitable[bool]]


class Kept(NamedTuple):
    """A task as its kept events make it."""

    seq: int
    """The number of the last one."""
    task: JsonObject | None
    """None: they do not begin with it."""


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


class Readings:
    """All that this process reads. One for a process."""

    def __init__(self, upstream: Upstream, *, ledger: Ledger, events: Events, push: Push) -> None:
        self.unread: Callable[[str, str], None] = lambda _agent, _task_id: None
        """Called with agent and task when this process reads a task no more."""
        self._upstream = upstream
        self._ledger = ledger
        self._events = events
        self._push = push
        self._live: dict[tuple[str, str], _Live] = {}
        self._telling: set[asyncio.Future[bool]] = set()

    def changed(self, agent: str, task_id: str) -> asyncio.Event | None:
        """What is set at the next event of a task, or when it is read no more; None: this process does not read it."""
        live = self._live.get((agent, task_id))
        return live.changed if live is not None else None

    async def begin(self, entry: Agent, task_id: str, *, is_new: bool) -> Reading:
        """Become a task's reader in the place of whoever is; `is_new`: nobody ever was but this process."""
        old = self._live.get((entry.name, task_id))
        reading = self._new(entry, task_id)
        if is_new:
            return reading
        try:
            await self._events.take(entry.name, task_id)
            reading.kept = await self._events.last(entry.name, task_id)
            reading.live.seq = max(old.seq if old is not None else 0, reading.kept)
        except BaseException:
            reading.end()
            raise
        finally:
            if old is not None:
                old.change()
        return reading

    async def claim(self, entry: Agent, task_id: str) -> Reading | None:
        """Become the reader of a task that nobody reads; None: somebody does."""
        if (entry.name, task_id) in self._live:
            return None
        reading = self._new(entry, task_id)  # before anything is awaited: two who come together are not both it
        try:
            if await self._events.lead(entry.name, task_id):
                reading.live.seq = await self._events.last(entry.name, task_id)
                return reading
        except BaseException:
            reading.end()
            raise
        del self._live[entry.name, task_id]
        reading.live.change()
        return None

    def refuse(self, agent: str, task_id: str) -> None:
        """Take back that this process was named as the reader of a task that it does not read."""
        if (agent, task_id) not in self._live:
            self._events.leave(agent, task_id)

    def _new(self, entry: Agent, task_id: str) -> Reading:
        live = self._live[entry.name, task_id] = _Live()
        return Reading(self, entry, task_id, live)

    def is_reader(self, agent: str, task_id: str, live: _Live) -> bool:
        """Whether a reading is still the task's own."""
        return self._live.get((agent, task_id)) is live

    def left(self, agent: str, task_id: str, live: _Live) -> None:
        """A reader is done."""
        live.change()
        if self.is_reader(agent, task_id, live):  # else another one reads it now
            del self._live[agent, task_id]
            self._events.leave(agent, task_id)
            self.unread(agent, task_id)

    async def kept(self, entry: Agent, task_id: str, after: int) -> AsyncIterator[list[Shown]]:
        """The kept events behind number `after`; no more of them are in memory than one page."""
        while events := await self._events.after(entry.name, task_id, after):
            yield [Shown(one.seq, SPEECHES[one.form], one.data) for one in events]
            after = events[-1].seq

    async def fold(self, entry: Agent, task_id: str) -> Kept:
        """The task as its kept events make it."""
        seq, task = 0, None
        async for batch in self.kept(entry, task_id, 0):
            for one in batch:
                with suppress(UpstreamError):  # one that only its own version's clients can read
                    task = snapshot.apply(task, event_of(entry, one.speech, one.data))
            seq = batch[-1].seq
        return Kept(seq, task)

    async def heard(self, entry: Agent, task_id: str, event: JsonObject) -> None:
        """Keep an event that an agent posted of a task that nobody reads; a reader sees it by itself.

        Raises:
            UpstreamInvalid: it shows what is somebody else's.
        """
        await self._ledger.know(entry.name, task_id)
        event = self._upstream.contexts.shown(entry, task_id, event)
        await self.check(entry, task_id, answers.sighting_of(event))
        for _ in range(TRIES):
            if await self._events.is_read(entry.name, task_id):
                return
            last, known = await self.fold(entry, task_id)
            if known is not None and answers.sighting_of(known).state in FINAL_STATES:
                return
            found = snapshot.difference(known, event["task"]) if "task" in event else [event]
            batch = Batch(last + 1, SPEECHES.index(CANONICAL), [judged.encode(one) for one in found])
            if not found or await self.append(entry, task_id, batch, self._events.append_unread):
                for one in found:
                    await self._ledger.advance(entry.name, answers.sighting_of(one))
                return

    def context(self, entry: Agent, task_id: str) -> str | None:
        """The context of a task; None when it is not remembered."""
        return self._ledger.context(entry.name, task_id)

    async def check(self, entry: Agent, task_id: str, seen: Sighting) -> None:
        """Let pass what an agent shows with a task.

        Raises:
            UpstreamInvalid: it is another task, or somebody else's context.
        """
        if seen.task_id not in {None, task_id}:
            raise UpstreamInvalid(entry.name, "its stream shows another task")
        if seen.context_id is not None and not await self._ledger.fits(entry.name, task_id, seen.context_id):
            raise UpstreamInvalid(entry.name, "its stream shows a context of somebody else")

    async def note(self, entry: Agent, speech: Speech, data: bytes, seen: Sighting) -> None:
        """Note the state that an event shows, and what is odd about it."""
        await self._ledger.advance(entry.name, seen)
        if seen.form == "odd":
            self._upstream.look(entry, speech, data)

    def append(self, entry: Agent, task_id: str, batch: Batch, append: Append | None = None) -> Awaitable[bool]:
        """Keep events of a task, and send them to whom its owner wants them sent; False: they are not its next ones.

        `append` is how they are kept, if it is not this process that reads it.
        """
        append = append or self._events.append
        if not self._push.versions(entry.name, task_id):
            return append(entry.name, task_id, batch)
        # finished also when its client leaves meanwhile: what is kept is told
        telling = asyncio.ensure_future(self._keep_and_tell(entry, task_id, batch, append))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        return asyncio.shield(telling)

    async def _keep_and_tell(self, entry: Agent, task_id: str, batch: Batch, append: Append) -> bool:
        if not await append(entry.name, task_id, batch):
            return False
        if versions := self._push.versions(entry.name, task_id):
            screen = self._push.guards(entry.name)
            told = await self._told(screen, entry, task_id, batch)
            # 0.3 sends whole tasks: one for each state, not for each piece of an artifact
            task = None
            if "0.3" in versions and any(answers.sighting_of(event).state is not None for event in told):
                task = (await self.fold(entry, task_id)).task
            with suppress(GuardRefused):
                if task is not None and screen is not None:
                    screen.is_told = False  # its events said it
                    task = await screening.whole(screen, task)
                for event in told:
                    await self._push.notify(entry.name, task_id, event, task=task)
        return True

    async def _told(self, screen: Posted | None, entry: Agent, task_id: str, batch: Batch) -> list[JsonObject]:
        """What is posted of a task now that a batch is kept."""
        told: list[JsonObject] = []
        for data in batch.data:
            with suppress(UpstreamError):
                told.append(event_of(entry, SPEECHES[batch.form], data))
        if screen is None:
            return told
        if all(screening.is_piece(event) for event in told):
            return []
        return await screening.posted(screen, entry, self.kept(entry, task_id, 0), batch.seq)


class Reading:
    """This process reading one task."""

    __slots__ = ("_readings", "entry", "is_lost", "kept", "live", "task_id")

    def __init__(self, readings: Readings, entry: Agent, task_id: str, live: _Live) -> None:
        self._readings = readings
        self.entry = entry
        self.task_id = task_id
        self.live = live
        self.kept = 0
        """The number of the last event that is kept."""
        self.is_lost = False
        """Somebody else reads the task now."""

    async def keep(self, speech: Speech, batch: list[bytes], sightings: list[Sighting]) -> list[Shown] | None:
        """Number events, keep them, and return them to be shown; None: somebody else reads the task now.

        Raises:
            UpstreamInvalid: one is of another task, or of somebody else's context.
        """
        task_id, own = self.task_id, self._readings.context(self.entry, self.task_id)
        for data, seen in zip(batch, sightings, strict=True):
            if seen.task_id != task_id or seen.context_id != own:
                await self._readings.check(self.entry, task_id, seen)
            if seen.state is not None:
                await self._readings.note(self.entry, speech, data, seen)
        # from here to the append nothing is awaited: another reader begins behind these numbers
        self.is_lost = not self._readings.is_reader(self.entry.name, self.task_id, self.live)
        if self.is_lost:
            return None
        if not batch:
            return []
        first = self.live.seq + 1
        self.live.seq += len(batch)
        events = Batch(first, SPEECHES.index(speech), batch)
        self.is_lost = not await self._readings.append(self.entry, task_id, events)
        if self.is_lost:
            return None
        self.kept = first + len(batch) - 1
        self.live.change()
        return list(map(Shown, count(first), repeat(speech), batch, sightings))

    def end(self) -> None:
        """Read no more."""
        self._readings.left(self.entry.name, self.task_id, self.live)
