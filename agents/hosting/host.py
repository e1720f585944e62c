"""The tasks of agents that run here, asked in canonical A2A as agents elsewhere are (docs/decisions/0025-own-agents.md).

Whose a task is was checked before, by the call that all doors use. A task runs on when its caller leaves, until it is
done or cancelled. Who does the work is not known here but by `Worker`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial

from agents import wire
from agents.hosting.live import Live, now, shown
from agents.hosting.records import Records
from agents.hosting.work import Work, Worker
from agents.shown import is_over
from agents.speech import STREAMING, Ask
from registry.catalog import Catalog
from registry.entries import Agent
from registry.errors import INTERNAL, AgentFault, HubError, NotSupported, Overloaded
from registry.gate import Permit
from registry.identity import Principal
from registry.judged import JsonObject
from registry.ledger.ownership import FINAL_STATES
from registry.sealed.secrets import new_id

logger = logging.getLogger(__name__)

MAX_RUNNING = 1000
MAX_OF_ONE = 200
"""Tasks under way in one process, and those of one principal among them."""

_NOT_FOUND, _NOT_CANCELABLE, _UNSUPPORTED, _NO_EXTENDED_CARD = -32001, -32002, -32004, -32007
"""Codes of A2A 1.0 §5.4."""

_LOST = "the hub was stopped while the agent worked"


class Host:
    """All of them. One for a process; `run` must be running."""

    def __init__(
        self, records: Records, catalog: Callable[[], Catalog], worker_of: Callable[[Agent], Worker | None]
    ) -> None:
        """`worker_of` says who does the work of an agent; None: it does not run here."""
        self.records = records
        self._catalog = catalog
        self._worker_of = worker_of
        self._live: dict[tuple[str, str], Live] = {}
        self._talking: dict[tuple[str, str], asyncio.Lock] = {}
        """Contexts in which somebody speaks: what is said in one is said in order."""
        self.tasks: asyncio.TaskGroup | None = None
        """Owns what goes on by itself."""

    async def run(self) -> None:
        """Own the tasks until cancelled."""
        async with asyncio.TaskGroup() as self.tasks:
            await asyncio.get_running_loop().create_future()

    async def answer(self, permit: Permit, entry: Agent, ask: Ask) -> JsonObject:
        """Answer a unary request (agents.upstream.Here).

        Raises:
            AgentFault: A2A's own error.
            Overloaded: too many tasks are under way.
        """
        params = ask.params
        match ask.operation:
            case "SendMessage":
                live = await self._begin(permit, entry, ask)
                if wire.wants_end(params):
                    await live.over.wait()
                return {"task": shown(await live.whole(), (params.get("configuration") or {}).get("historyLength"))}
            case "GetTask":
                live = await self._look(entry, params["id"])
                return shown(await live.whole(), params.get("historyLength"))
            case "CancelTask":
                return shown(await self._cancel(permit, entry, params["id"]))
            case "GetExtendedAgentCard":
                raise AgentFault(entry.name, _NO_EXTENDED_CARD, "This agent has no extended card.")
        raise NotSupported(f"{entry.name} does not offer {ask.operation}.")

    async def follow(self, permit: Permit, entry: Agent, ask: Ask) -> AsyncGenerator[list[bytes]]:
        """Answer a streaming request (agents.upstream.Here); leaving it ends nothing. Raises as `answer`."""
        assert ask.operation in STREAMING, "others are answered"
        if ask.operation == "SendStreamingMessage":
            live = await self._begin(permit, entry, ask)
        else:
            live = await self._look(entry, ask.params["id"])
        async with aclosing(live.follow()) as batches:
            async for batch in batches:
                yield batch

    async def _begin(self, permit: Permit, entry: Agent, ask: Ask) -> Live:
        """Take a message, and begin or go on with its task."""
        self._check_room(permit.principal)
        if permit.due:
            await permit.reserve()
        permit.use()
        permit.hops = int(dict(ask.trace).get(wire.HOPS_HEADER, "0"))
        message, principal = ask.params["message"], permit.principal
        if task_id := message.get("taskId"):
            live = await self.waiting(entry, task_id)
        else:
            record = self.records.new(_new_task(message))
            live = Live(record, self.records.pieces(entry.name, record.task["id"], principal), principal)
        message = {**message, "taskId": live.id, "contextId": live.context_id}
        live.task["history"] = [*(live.task.get("history") or ()), message]
        work = Work(
            live=live,
            entry=entry,
            principal=principal,
            message=message,
            request_id=permit.request_id,
            within=permit,
        )
        return await self.start(work)

    def _check_room(self, principal: Principal) -> None:
        """Raise `Overloaded` if the principal may have no task more."""
        if sum(live.asker == principal.id for live in self._live.values()) >= MAX_OF_ONE:
            raise Overloaded("Too many tasks of this key's agents run; wait until some have ended.")
        if len(self._live) >= MAX_RUNNING:
            raise Overloaded("Too many tasks of agents run here; try again later.")

    def follow_catalog(self, _old: Catalog, new: Catalog) -> None:
        """Cancel what agents do that were switched off."""
        for (name, _), live in self._live.items():
            entry = new.agents.get(name)
            if (entry is None or self._worker_of(entry) is None) and live.work is not None:
                live.is_cancelled = True
                live.work.cancel()

    async def start(self, work: Work) -> Live:
        """Write that a task is at work, and have it be."""
        assert self.tasks is not None, "Host.run must be running"
        live, entry = work.live, work.entry
        if (entry.name, live.id) in self._live:  # somebody else answered it at the same moment
            raise AgentFault(entry.name, _UNSUPPORTED, "The task is at work; wait for its end.")
        live.asker = work.principal.id
        live.save = partial(self._write, work)
        self._live[entry.name, live.id] = live
        try:
            live.reach("WORKING")
            await self._write(work, is_new=live.owner is not None)
        except BaseException:
            self._leave(entry, live)
            raise
        live.work = self.tasks.create_task(self._run(work))
        live.work.add_done_callback(lambda _: self._leave(entry, live))  # one that is cancelled at once never runs
        if live.is_cancelled:
            live.work.cancel()
        return live

    async def waiting(self, entry: Agent, task_id: str) -> Live:
        """A task that waits for its caller, to go on with; raises `AgentFault` for any other."""
        live = await self._look(entry, task_id)
        state = live.state
        if live.work is not None or not is_over(state) or state in FINAL_STATES:
            reason = "is finished; say it in its context" if state in FINAL_STATES else "is at work; wait for its end"
            raise AgentFault(entry.name, _UNSUPPORTED, f"The task {reason}.")
        again = await live.again()
        again.task |= {"status": {"state": state}, "history": [*(live.task.get("history") or ()), *_said_in(live.task)]}
        return again

    async def _look(self, entry: Agent, task_id: str) -> Live:
        """A task that runs here, or as it is kept. One whose process died is gone on with, or has failed."""
        live = self._live.get((entry.name, task_id))
        if live is not None:
            return live
        found = await self.records.find(entry.name, task_id)
        if found is None:
            raise AgentFault(entry.name, _NOT_FOUND, "The task is not known any more.")
        live = Live(*found)
        if not is_over(live.state) and await self.records.is_lost(found.record):
            return await self._take_over(entry, live)
        live.end()
        return live

    async def _take_over(self, entry: Agent, live: Live) -> Live:
        owner = await self.records.claim(entry.name, await live.record())
        if owner is None:  # somebody was faster, here or in another process
            return await self._look(entry, live.id)
        worker = self._worker_of(entry)
        if worker is not None and worker.goes_on(entry, live.ref):
            work = Work(live=live, entry=entry, principal=owner, message=None, request_id=new_id("req"))
            return await self.start(work)
        live.reach("FAILED", _LOST)
        await self.records.write(entry.name, await live.record())
        live.end()
        return live

    async def _cancel(self, permit: Permit, entry: Agent, task_id: str) -> JsonObject:
        live, key = await self._look(entry, task_id), (entry.name, task_id)
        if self._live.get(key) is live:  # at work, about to be, or being cancelled
            live.is_cancelled = True
            if live.work is not None:
                live.work.cancel()
            await live.over.wait()
            return await live.whole()
        if live.state in FINAL_STATES:
            raise AgentFault(entry.name, _NOT_CANCELABLE, "The task is finished.")
        live = await live.again()
        if key in self._live:  # somebody answered it meanwhile
            return await self._cancel(permit, entry, task_id)
        self._live[key] = live  # nobody answers it any more
        try:
            await self._end_waiting(permit, entry, live)
        finally:
            self._leave(entry, live)
        return await live.whole()

    async def _end_waiting(self, permit: Permit, entry: Agent, live: Live) -> None:
        """Cancel a task that waits for its caller."""
        worker = self._worker_of(entry)
        assert worker is not None, "it runs here"
        work = Work(live=live, entry=entry, principal=permit.principal, message=None, request_id=permit.request_id)
        await self._stop(worker, work)
        await self._write(work)

    async def _run(self, work: Work) -> None:
        """Do a task's work, and say how it ended. A boundary: one task must not end the others."""
        live, worker = work.live, self._worker_of(work.entry)
        assert worker is not None, "it runs here"
        try:
            async with self._turn(work.entry.name, live.context_id):
                await worker.work(work)
        except asyncio.CancelledError:
            if not live.is_cancelled:  # the hub stops; whoever asks later is told so
                self._leave(work.entry, live)
                raise
            await self._stop(worker, work)
        except HubError as error:
            live.reach("FAILED", error.text)
        except Exception:
            logger.exception("an agent failed here", extra={"agent": work.entry.name, "task": live.id})
            live.reach("FAILED", INTERNAL.text)
        try:
            await self._write(work)  # before anybody is told of its end
        finally:
            self._leave(work.entry, live)

    async def _stop(self, worker: Worker, work: Work) -> None:
        """Say that a task is cancelled, once nothing works on it any more."""
        try:
            await worker.stop(work)
        except HubError as error:
            logger.warning("a task may go on elsewhere", extra={"task": work.live.id, "reason": error.text})
        work.live.reach("CANCELED")

    async def _write(self, work: Work, *, is_new: bool = False) -> None:
        live, name = work.live, work.entry.name
        record = await live.record()
        if is_new and live.owner is not None:
            await self.records.begin(name, live.owner, record)
        else:
            await self.records.write(name, record, live.owner)

    def _leave(self, entry: Agent, live: Live) -> None:
        if self._live.get((entry.name, live.id)) is live:
            del self._live[entry.name, live.id]
        live.end()

    @asynccontextmanager
    async def _turn(self, agent: str, context_id: str) -> AsyncGenerator[None]:
        """Wait until nobody else speaks in a context."""
        lock = self._talking.setdefault((agent, context_id), asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._talking.pop((agent, context_id), None)


def _new_task(message: JsonObject) -> JsonObject:
    return {
        "id": str(uuid.uuid4()),
        "contextId": message.get("contextId") or str(uuid.uuid4()),
        "status": {"state": "TASK_STATE_SUBMITTED", "timestamp": now()},
    }


def _said_in(task: JsonObject) -> list[JsonObject]:
    """What a task's status says: with the next one it is history."""
    message = (task.get("status") or {}).get("message")
    return [message] if isinstance(message, dict) else []
