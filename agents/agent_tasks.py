"""Tasks as their agents have them: as they are now, as they are when they are done, and what becomes of them.

Keeps nothing: what is shown of a task and to whom is `streams`' affair.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from agents import answers, snapshot
from agents.discovery import Route
from agents.shown import is_over
from agents.speech import Ask
from agents.spoken import event_of
from agents.upstream import Upstream
from registry.entries import Agent
from registry.errors import UpstreamError, UpstreamInvalid
from registry.gate import Permit
from registry.judged import JsonObject

logger = logging.getLogger(__name__)

POLL_S = (0.25, 5.0)
"""Pauses between two looks at a task whose agent cannot be subscribed to: the first, and the longest."""


class AgentTasks:
    """Asks agents about tasks. One for a process."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def now(
        self, permit: Permit, entry: Agent, route: Route, task_id: str, *, history_length: object = None
    ) -> JsonObject:
        """A task as it is; `history_length` as A2A 1.0 §3.2.4 has it.

        Raises:
            AgentFault: the agent answered with an error.
            UpstreamError: it did not answer, or with another task.
        """
        params: JsonObject = {"id": task_id}
        if history_length is not None:
            params["historyLength"] = history_length
        task = await self._upstream.result(permit, entry, route, Ask(operation="GetTask", params=params))
        if task.get("id") != task_id:
            raise UpstreamInvalid(entry.name, "it answered with another task")
        if history_length == 0:  # 0.3 knows no such 0
            task.pop("history", None)
        return task

    async def settled(
        self, permit: Permit, entry: Agent, route: Route, task_id: str, *, history_length: object = None
    ) -> JsonObject:
        """Wait, in the place of an agent that did not, until a task is finished or interrupted, and return it."""
        self._upstream.quirks.note(entry, "nonblocking")
        pause = POLL_S[0]
        while True:
            task = await self.now(permit, entry, route, task_id, history_length=history_length)
            if is_over(answers.sighting_of(task).state):
                return task
            await asyncio.sleep(pause)
            pause = min(pause * 2, POLL_S[1])

    async def followed(
        self, permit: Permit, entry: Agent, route: Route, task_id: str, *, history_length: object = None
    ) -> JsonObject:
        """As `settled`, of an agent that was asked not to wait: it is subscribed to, if that can be done."""
        async with aclosing(self.events(permit, entry, route, task_id, None)) as events:
            async for task, _ in events:
                if is_over(answers.sighting_of(task).state):
                    break
        return await self.now(permit, entry, route, task_id, history_length=history_length)

    async def events(
        self, permit: Permit, entry: Agent, route: Route, task_id: str, known: JsonObject | None
    ) -> AsyncGenerator[tuple[JsonObject, list[JsonObject]]]:
        """What the agent says of a task from now on, each time with the task as it is then; first what is new to `known`."""
        task = known
        try:
            ask = Ask(operation="SubscribeToTask", params={"id": task_id})
            async with self._upstream.stream(permit, entry, route, ask) as stream:
                async for batch in stream.data:
                    told = [_of(task_id, entry, event_of(entry, stream.speech, data)) for data in batch]
                    # 0.3 need not begin with the task: what was missed is asked for
                    if task is known and "task" not in told[0]:
                        told = [{"task": await self.now(permit, entry, route, task_id)}]
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
        is_known = task is known  # nothing was heard: it may have gone on since, and be over
        while is_known or not is_over(state):
            is_known = False
            now = await self.now(permit, entry, route, task_id)
            found = snapshot.difference(task, now)
            if found:
                yield now, found
            elif task is known:
                yield now, []  # who came back is told that there is nothing new
            task, state = now, answers.sighting_of(now).state
            if not is_over(state):
                await asyncio.sleep(pause)
                pause = min(pause * 2, POLL_S[1])


def _of(task_id: str, entry: Agent, event: JsonObject) -> JsonObject:
    """An event of a subscription; raises UpstreamInvalid when it is another task."""
    if "task" in event and event["task"].get("id") != task_id:
        raise UpstreamInvalid(entry.name, "its stream shows another task")
    return event
