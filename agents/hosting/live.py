"""A task under way in this process: its events in A2A 1.0, for all who watch it.

What of an answer was told and kept is not in memory any more, so a task costs the same however long its answer is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from agents import answers, snapshot
from agents.hosting.pieces import Pieces, folded, joined, own_copy
from agents.hosting.records import TaskRecord
from agents.shown import is_over
from registry.identity import Principal
from registry.judged import JsonObject, encode

ARTIFACT = "answer"

BEHIND_BYTES = 32 * 1024
"""How far one who watches may be behind; what comes then waits for them."""

UNKEPT_BYTES = 16 * 1024
"""Pieces of artifacts that are written together."""


class Live:
    """One task. It begins when its agent does, or goes on when it is answered."""

    def __init__(self, record: TaskRecord, pieces: Pieces, owner: Principal | None = None) -> None:
        """`owner` is who begins it, if it is new."""
        self.owner = owner
        self.asker = ""
        """For whom it works now, by id."""
        self.work: asyncio.Task[None] | None = None
        self.is_cancelled = False
        """Its caller wants it to end."""
        self.save: Callable[[], Awaitable[None]] = _nowhere
        """Keeps what was said until now, and what `ref` is."""
        self.over = asyncio.Event()
        self.task: JsonObject = own_copy(record.task)
        """All of it but what it says in this turn."""
        self.ref: JsonObject = dict(record.ref)
        """Under which names the platform has it that does the work."""
        self._process = record.process
        self._pieces = pieces
        self._begun = {*record.begun, *(one["artifactId"] for one in self.task.get("artifacts") or ())}
        self._unkept: list[JsonObject] = []
        self._unkept_bytes = 0
        self._watched = _Watched()

    @property
    def id(self) -> str:
        """The task's."""
        return str(self.task["id"])

    @property
    def context_id(self) -> str:
        """Its context's."""
        return str(self.task["contextId"])

    @property
    def state(self) -> str | None:
        """The task's, as A2A writes it."""
        return answers.sighting_of(self.task).state

    def reach(self, state: str, text: str | None = None, *, metadata: JsonObject | None = None) -> None:
        """Say that the task is in a state now, and what the agent says to it."""
        self.state_with(state, [{"text": text}] if text is not None else [], metadata=metadata)

    def state_with(self, state: str, parts: Sequence[JsonObject], *, metadata: JsonObject | None = None) -> None:
        """The same, with a message of any parts (A2A 1.0 §4.1.6)."""
        status: JsonObject = {"state": f"TASK_STATE_{state}", "timestamp": now()}
        if parts:
            status["message"] = self._message(parts)
        update = {"taskId": self.id, "contextId": self.context_id, "status": status}
        event = {"statusUpdate": {**update, "metadata": metadata} if metadata else update}
        snapshot.apply(self.task, event)
        self._watched.tell(encode(event))

    def note(self, metadata: JsonObject) -> None:
        """Change what the task's metadata says."""
        self.reach("WORKING", metadata=metadata)

    def _message(self, parts: Sequence[JsonObject]) -> JsonObject:
        # the same words are the same message: who is told twice is not told of two
        name = f"{self.id}-{len(self.task.get('history') or ())}"
        ids = {"taskId": self.id, "contextId": self.context_id}
        return {"messageId": name, "role": "ROLE_AGENT", "parts": [*parts], **ids}

    async def write(self, part: JsonObject, *, artifact: str | None = None, name: str = "Answer") -> None:
        """Say more of an artifact; waits for who watches and is slow."""
        name_of = self.artifact if artifact is None else artifact
        said = {"artifactId": name_of, "name": name, "parts": [part]}
        update = {
            "taskId": self.id,
            "contextId": self.context_id,
            "artifact": said,
            "append": name_of in self._begun,
        }
        if self._unkept_bytes > UNKEPT_BYTES:  # not after this part: `ref` says that it is still to be read
            await self.save()
        self._begun.add(name_of)
        event = {"artifactUpdate": update}
        data = encode(event)
        self._unkept.append(event)
        self._unkept_bytes += len(data)
        self._watched.tell(data)
        await self.room()

    async def room(self) -> None:
        """Wait until nobody who watches is far behind."""
        await self._watched.room()

    @property
    def artifact(self) -> str:
        """The answer to each message is one of its own."""
        asked = sum(message.get("role") == "ROLE_USER" for message in self.task.get("history") or ())
        return ARTIFACT if asked <= 1 else f"{ARTIFACT}-{asked}"

    async def record(self) -> TaskRecord:
        """What is to be kept of the task beside its pieces, with `ref`: a short answer stands in it whole."""
        unkept = list(self._unkept)
        if self._pieces.count or self._unkept_bytes > UNKEPT_BYTES:
            await self._pieces.append(folded(unkept))
        else:
            for event in unkept:
                snapshot.apply(self.task, event)
        del self._unkept[: len(unkept)]
        self._unkept_bytes = 0
        begun = sorted(self._begun) if self._pieces.count else []
        return TaskRecord(self._process, self.task, self._pieces.count, begun, self.ref)

    async def whole(self) -> JsonObject:
        """The task as it is now."""
        return await self._pieces.onto(own_copy(self.task), list(self._unkept))

    async def again(self) -> Live:
        """The same task, as it is kept, for its next turn."""
        return Live(await self.record(), self._pieces)

    def end(self) -> None:
        """Nothing more comes until somebody answers."""
        self.over.set()
        self._watched.end()

    async def follow(self) -> AsyncGenerator[list[bytes]]:
        """The task as it is, and what comes of it."""
        async with self._watched.watch() as events:
            yield [encode({"task": await self.whole()})]
            async for batch in events:
                yield batch


async def _nowhere() -> None:
    """A task that does not run is kept already."""


class _Watcher:
    """One who watches, and what they were not given yet."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.size = 0
        self.news = asyncio.Event()


class _Watched:
    """All who watch a task. Nothing is held for nobody."""

    def __init__(self) -> None:
        self._watchers: set[_Watcher] = set()
        self._is_over = False
        self._read = asyncio.Event()

    def tell(self, event: bytes) -> None:
        for one in self._watchers:
            one.events.append(event)
            one.size += len(event)
            one.news.set()

    async def room(self) -> None:
        """Wait until nobody is far behind."""
        while any(one.size > BEHIND_BYTES for one in self._watchers):
            self._read.clear()
            await self._read.wait()

    def end(self) -> None:
        self._is_over = True
        for one in self._watchers:
            one.news.set()

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[AsyncGenerator[list[bytes]]]:
        """What is told from now on, those together that came together."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            yield self._events(watcher)
        finally:
            self._watchers.discard(watcher)
            self._read.set()

    async def _events(self, watcher: _Watcher) -> AsyncGenerator[list[bytes]]:
        while True:
            watcher.news.clear()
            if watcher.events:
                batch, watcher.events, watcher.size = watcher.events, [], 0
                self._read.set()
                yield batch
            elif self._is_over:
                return
            else:
                await watcher.news.wait()


def now() -> str:
    """The time as A2A writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown(task: JsonObject, history_length: object = None) -> JsonObject:
    """A task for its caller: the pieces of a finished answer as one, and as much history as is asked for (§3.2.4)."""
    found = dict(task)
    if is_over(answers.sighting_of(task).state):
        found["artifacts"] = [{**one, "parts": joined(one["parts"])} for one in task.get("artifacts") or ()]
    if not found.get("artifacts"):
        found.pop("artifacts", None)
    if history_length == 0:
        found.pop("history", None)
    elif isinstance(history_length, int) and history_length > 0:
        found["history"] = (task.get("history") or [])[-history_length:]
    return found
