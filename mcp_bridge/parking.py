"""Calls of 2026-07-28 clients to older servers that wait for an answer of their caller's.

The call goes on in a task of its own. What its server asks is answered to the caller as `input_required` with a sealed
handle; the retry that brings the answer waits for the next question or for the result. A call that nobody comes back
for is cancelled, at its server too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from mcp_bridge.handles import Handles, refused
from mcp_bridge.listener import NOT_ANSWERED, Front, Listener, Unanswered
from mcp_bridge.rounds import LASTS_S, MAX_QUESTIONS, Round, input_required
from mcp_bridge.wire import Answer
from registry.errors import Overloaded, UpstreamUnavailable
from registry.judged import JsonObject
from registry.sealed.secrets import new_id

MAX_PARKED = 16
"""Calls of one principal that may wait at one server for its answer."""

MAX_IN_ALL = 1000
"""Calls of all principals that may, and results that nobody has come back for."""

Run = Callable[[Listener], Awaitable[Answer]]
"""Makes the call; the listener is its caller, present or not."""


class Parked:
    """One call, the listener that its server hears. It is told what the caller who waits at the moment is told."""

    front: Front | None = None

    def __init__(self, principal: str, run: Run) -> None:
        self.principal = principal
        self.id = new_id("parked")
        self.present: Listener | None = None
        """Who waits for the answer; None: nobody, until a retry."""
        self._asked = 0
        self._questions: dict[str, tuple[str, JsonObject, asyncio.Future[JsonObject]]] = {}
        self._changed = asyncio.Event()
        self.task: asyncio.Task[Answer] = asyncio.get_running_loop().create_task(_answer(run, self))
        self.task.add_done_callback(self._ended)

    async def opened(self) -> None:
        """As `Listener.opened`."""
        if self.present is not None:
            await self.present.opened()

    async def notified(self, message: bytes) -> None:
        """As `Listener.notified`; what comes while nobody waits is lost."""
        if self.present is not None:
            await self.present.notified(message)

    async def asked(self, method: str, params: JsonObject) -> JsonObject:
        """Put a question to the caller; returns what the retry brings for it."""
        if len(self._questions) >= MAX_QUESTIONS:
            raise Unanswered(NOT_ANSWERED, "too much is asked at once")
        self._asked += 1
        key = f"{method.partition('/')[0]}-{self._asked}"
        answer: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        asked = {name: value for name, value in params.items() if name != "elicitationId"}  # not of 2026-07-28
        self._questions[key] = method, asked, answer
        self._changed.set()
        try:
            return await answer  # ends with the call, when nobody comes back for it
        finally:
            del self._questions[key]

    def bring(self, responses: Mapping[str, JsonObject]) -> None:
        """Hand the server what a retry brings; keys that were not asked for count for nothing."""
        for key, response in responses.items():
            question = self._questions.get(key)
            if question is not None and not question[2].done():
                question[2].set_result(response)

    async def next(self, listener: Listener) -> Round | Answer:
        """Wait for what comes next, for a caller who is there; who leaves meanwhile cancels the call."""
        self.present = listener
        try:
            while True:
                self._changed.clear()
                if self.task.done():
                    return self.task.result()
                asked = {
                    key: (method, params) for key, (method, params, at) in self._questions.items() if not at.done()
                }
                if asked:
                    return Round(asked)
                await self._changed.wait()
        except BaseException:
            self.task.cancel()
            raise
        finally:
            self.present = None

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        self._changed.set()
        if not task.cancelled():
            task.exception()  # it is the next caller's, if one comes


async def _answer(run: Run, parked: Parked) -> Answer:
    return await run(parked)


class Parking:
    """The parked calls of one server."""

    def __init__(self, server: str, handles: Handles) -> None:
        self._server = server
        self._handles = handles
        self._parked: dict[str, tuple[Parked, asyncio.TimerHandle | None]] = {}
        """Also those whose caller waits at the moment."""
        self._stopped = False

    async def call(self, principal: str, run: Run, listener: Listener, *, about: str) -> Answer:
        """Make a call that may be parked.

        Raises:
            Overloaded: it would have to wait, and too many of the principal's do already.
            HubError: as `run`.
        """
        return await self._next(Parked(principal, run), listener, about)

    async def resume(
        self, parked_id: str, responses: Mapping[str, JsonObject], listener: Listener, *, about: str
    ) -> Answer:
        """Go on with a parked call.

        Raises:
            InvalidParams: it is there no more, or somebody goes on with it already.
            HubError: as `call`.
        """
        parked, timer = self._parked.get(parked_id, (None, None))
        if parked is None or parked.present is not None:
            raise refused()
        if timer is not None:
            timer.cancel()
        parked.bring(responses)
        return await self._next(parked, listener, about)

    async def _next(self, parked: Parked, listener: Listener, about: str) -> Answer:
        self._parked[parked.id] = parked, None
        try:
            found = await parked.next(listener)
        except asyncio.CancelledError:
            self._parked.pop(parked.id, None)
            if parked.task.cancelled() and not _is_leaving():
                raise UpstreamUnavailable(self._server, "it was switched off") from None
            raise
        except BaseException:
            self._parked.pop(parked.id, None)
            raise
        del self._parked[parked.id]
        if isinstance(found, Answer):
            return found
        if self._stopped or not self._has_room(parked.principal):
            parked.task.cancel()
            if self._stopped:
                raise UpstreamUnavailable(self._server, "its entry was changed meanwhile; call again")
            raise Overloaded("Too many calls wait for input; answer or leave some of them.")
        timer = asyncio.get_running_loop().call_later(LASTS_S, self._expire, parked.id)
        self._parked[parked.id] = parked, timer
        state = self._handles.seal({"parked": parked.id}, about=about, lasts_s=LASTS_S)
        return input_required(Round(found.questions, state))

    def _has_room(self, principal: str) -> bool:
        waiting = [parked for parked, _ in self._parked.values() if parked.present is None]
        mine = sum(parked.principal == principal and not parked.task.done() for parked in waiting)
        return mine < MAX_PARKED and len(waiting) < MAX_IN_ALL

    def _expire(self, parked_id: str) -> None:
        found = self._parked.pop(parked_id, None)
        if found is not None:
            found[0].task.cancel()

    def stop(self, *, at_once: bool) -> list[asyncio.Task[Answer]]:
        """Cancel all that are parked; `at_once`, those too whose caller waits. Returns the tasks that end.

        The others may end, but not ask any more.
        """
        self._stopped = True
        tasks = []
        for parked_id, (parked, timer) in list(self._parked.items()):
            if at_once or parked.present is None:
                if timer is not None:
                    timer.cancel()
                parked.task.cancel()
                tasks.append(parked.task)
                del self._parked[parked_id]
        return tasks


def _is_leaving() -> bool:
    """Whether the cancellation under way is the caller's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
