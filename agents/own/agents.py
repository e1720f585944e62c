"""The agents that are made here, asked in canonical A2A as agents elsewhere are (docs/decisions/0025-own-agents.md).

Whose a task is was checked before, by the call that all doors use. A task runs on when its caller leaves, until it is
done or cancelled; one whose process ends has failed, which is said when somebody asks for it.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import NamedTuple, Protocol

from agents import answers, wire
from agents.own import words
from agents.own.live import AgentVoice, Live, now, shown
from agents.own.records import Records
from agents.shown import is_over
from agents.speech import STREAMING, Ask
from llm import types as llm_types
from llm.parking import Parking
from llm.ports import ToolExecutor, Voice
from llm.rounds import Caller
from llm.spending import total
from llm.types import Parked, Ticket, Waiting
from llm.verdicts import pending as pending_of
from registry.access import Through
from registry.catalog import Catalog
from registry.entries import Agent, Model, Own
from registry.errors import (
    INTERNAL,
    AgentFault,
    Conflict,
    HubError,
    NotFound,
    NotSupported,
    Overloaded,
    UpstreamInvalid,
)
from registry.gate import Permit
from registry.identity import Principal
from registry.judged import JsonObject, decode, encode
from registry.ledger.ownership import FINAL_STATES
from registry.sealed.secrets import new_id

DOOR = "own-agent"
"""By which runs that wait for approvals are theirs."""

APPROVALS = "urn:hubbub:approvals"
"""The member of a task's metadata that lists the calls that wait for approval."""

logger = logging.getLogger(__name__)

MAX_RUNNING = 1000
MAX_OF_ONE = 200
"""Tasks under way in one process, and those of one principal among them."""

_NOT_FOUND, _NOT_CANCELABLE, _UNSUPPORTED, _NO_EXTENDED_CARD = -32001, -32002, -32004, -32007
"""Codes of A2A 1.0 §5.4."""

_LOST = "the hub was stopped while the agent worked"


class Loop(Protocol):
    """The tool loop: `llm.run.Loop`."""

    def find(self, name: str) -> Model:
        """The entry that a model's name means; raises `NotFound`."""

    async def answer(self, ask: llm_types.Ask, model: Model, caller: Caller, *, voice: Voice) -> None:
        """Run the loop over one request; raises `HubError`."""


class Means(NamedTuple):
    """What own agents work with."""

    loop: Loop
    tools: ToolExecutor
    parking: Parking
    living: Callable[[Collection[str]], Awaitable[Mapping[str, Principal]]]
    """Those of some principals, by id, whose keys are valid."""


class _Work(NamedTuple):
    """What a task has to do now."""

    live: Live
    entry: Agent
    own: Own
    principal: Principal
    """Who asks, as they came."""
    caller: Caller
    """The same, as the agent acts for them."""
    message: JsonObject | None
    """What they say; None: they were not asked."""
    run: str | None = None
    """The run of the loop that waits for approvals."""


class OwnAgents:
    """All of them. One for a process; `run` must be running."""

    def __init__(self, means: Means, records: Records, catalog: Callable[[], Catalog]) -> None:
        self._loop, self._tools, self._parking, self._living = means
        self._records = records
        self._catalog = catalog
        self._live: dict[tuple[str, str], Live] = {}
        self._talking: dict[tuple[str, str], asyncio.Lock] = {}
        """Contexts in which somebody speaks: what is said in one is said in order."""
        self._tasks: asyncio.TaskGroup | None = None
        self._parking.approvals.subscribe(DOOR, self._approved)

    async def run(self) -> None:
        """Own the tasks until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
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
                return {"task": shown(live.task, (params.get("configuration") or {}).get("historyLength"))}
            case "GetTask":
                return shown(await self._task(entry, params["id"]), params.get("historyLength"))
            case "CancelTask":
                return shown(await self._cancel(entry, params["id"]))
            case "GetExtendedAgentCard":
                raise AgentFault(entry.name, _NO_EXTENDED_CARD, "This agent has no extended card.")
        raise NotSupported(f"{entry.name} does not offer {ask.operation}.")

    async def follow(self, permit: Permit, entry: Agent, ask: Ask) -> AsyncGenerator[list[bytes]]:
        """Answer a streaming request (agents.upstream.Here); leaving it ends nothing. Raises as `answer`."""
        assert ask.operation in STREAMING, "others are answered"
        if ask.operation == "SendStreamingMessage":
            live = await self._begin(permit, entry, ask)
        else:
            running = self._live.get((entry.name, ask.params["id"]))
            live = running or Live(await self._task(entry, ask.params["id"]))
            if running is None:
                live.end()
        async with aclosing(live.follow()) as batches:
            async for batch in batches:
                yield batch

    async def _begin(self, permit: Permit, entry: Agent, ask: Ask) -> Live:
        """Take a message, and begin or go on with its task."""
        assert entry.own is not None, "it is made here"
        assert self._tasks is not None, "OwnAgents.run must be running"
        self._check_room(permit.principal)
        if permit.due:
            await permit.reserve()
        permit.use()
        permit.hops = int(dict(ask.trace).get(wire.HOPS_HEADER, "0"))
        message = ask.params["message"]
        task_id = message.get("taskId")
        task = await self._waiting(entry, task_id) if task_id else _new_task(message)
        message = {**message, "taskId": task["id"], "contextId": task["contextId"]}
        history = [*(task.get("history") or ()), message]
        live = Live({**task, "history": history}, owner=None if task_id else permit.principal)
        principal, own = permit.principal, entry.own
        caller = Caller(acting(principal, own), permit.request_id, within=permit)
        work = _Work(live, entry, own, principal, caller, message, await self._run_of(task))
        return await self._start(work)

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
            if (entry is None or entry.own is None) and live.work is not None:
                live.is_cancelled = True
                live.work.cancel()

    async def _start(self, work: _Work) -> Live:
        """Write that a task is at work, and have it be."""
        assert self._tasks is not None, "OwnAgents.run must be running"
        live, entry = work.live, work.entry
        live.asker = work.principal.id
        self._live[entry.name, live.id] = live
        try:
            live.reach("WORKING")
            if live.owner is None:
                await self._records.write(entry.name, live.task)
            else:
                await self._records.begin(entry.name, live.owner, live.task)
        except BaseException:
            self._leave(entry, live)
            raise
        live.work = self._tasks.create_task(self._run(work))
        live.work.add_done_callback(lambda _: self._leave(entry, live))  # one that is cancelled at once never runs
        if live.is_cancelled:
            live.work.cancel()
        return live

    async def _run_of(self, task: JsonObject) -> str | None:
        """The run of the loop that waits for approvals that a task names; None: it names none."""
        names = [one["id"] for one in (task.get("metadata") or {}).get(APPROVALS) or ()]
        try:
            return (await self._parking.approvals.find(names[0])).run if names else None
        except NotFound:  # long ago
            return None

    def _approved(self, run: str, principal_id: str) -> None:
        """Go on with a run whose approvals were given, denied, or have expired."""
        if self._tasks is not None:
            self._tasks.create_task(self._go_on(run, principal_id))

    async def _go_on(self, run: str, principal_id: str) -> None:
        """A boundary: one run that cannot go on must not end the others."""
        try:
            principal = (await self._living([principal_id])).get(principal_id)
            parked = await self._parking.look(run, principal) if principal is not None else None
            if principal is None or parked is None:  # its key is not valid, or its caller was faster
                return
            about = decode(parked.about)
            entry = self._catalog().agents.get(about["agent"])
            if entry is None or entry.own is None:
                return
            live = Live(await self._waiting(entry, about["task"]))
            principal = replace(principal, requests_per_minute=None)  # its pace was counted when the request came
            caller = Caller(acting(principal, entry.own), new_id("req"), hops=about["hops"])
            await self._start(_Work(live, entry, entry.own, principal, caller, None, run))
        except HubError as error:  # the task was cancelled, or is gone
            logger.info("an own agent does not go on", extra={"run": run, "reason": error.text})
        except Exception:
            logger.exception("an own agent could not go on", extra={"run": run})

    async def _waiting(self, entry: Agent, task_id: str) -> JsonObject:
        """A task that waits for its caller; raises `AgentFault` for any other."""
        task = await self._task(entry, task_id)
        state = answers.sighting_of(task).state
        if not is_over(state) or state in FINAL_STATES:
            reason = "is finished; say it in its context" if state in FINAL_STATES else "is at work; wait for its end"
            raise AgentFault(entry.name, _UNSUPPORTED, f"The task {reason}.")
        return {**task, "status": {"state": state}, "history": [*(task.get("history") or ()), *_said_in(task)]}

    async def _task(self, entry: Agent, task_id: str) -> JsonObject:
        """A task as it is now."""
        live = self._live.get((entry.name, task_id))
        if live is not None:
            return live.task
        record = await self._records.task(entry.name, task_id)
        if record is None:
            raise AgentFault(entry.name, _NOT_FOUND, "The task is not known any more.")
        if is_over(answers.sighting_of(record.task).state) or not await self._records.is_lost(record):
            return record.task
        lost = Live(record.task)
        lost.reach("FAILED", _LOST)
        await self._records.write(entry.name, lost.task)
        return lost.task

    async def _cancel(self, entry: Agent, task_id: str) -> JsonObject:
        live = self._live.get((entry.name, task_id))
        if live is not None:
            live.is_cancelled = True
            if live.work is not None:
                live.work.cancel()
            await live.over.wait()
            if is_over(answers.sighting_of(live.task).state):
                return live.task
        task = await self._task(entry, task_id)
        if answers.sighting_of(task).state in FINAL_STATES:
            raise AgentFault(entry.name, _NOT_CANCELABLE, "The task is finished.")
        waiting = Live(task)
        waiting.reach("CANCELED")
        await self._records.write(entry.name, waiting.task)
        return waiting.task

    async def _run(self, work: _Work) -> None:
        """Do a task's work, and say how it ended. A boundary: one task must not end the others."""
        live = work.live
        try:
            async with self._turn(work.entry.name, live.context_id):
                await (self._converse(work) if work.run is None else self._take_up(work, work.run))
        except asyncio.CancelledError:
            if not live.is_cancelled:  # the hub stops; whoever asks later is told so
                self._leave(work.entry, live)
                raise
            live.reach("CANCELED")
        except HubError as error:
            live.reach("FAILED", error.text)
        except Exception:
            logger.exception("an own agent failed", extra={"agent": work.entry.name, "task": live.id})
            live.reach("FAILED", INTERNAL.text)
        await self._close(work)

    async def _close(self, work: _Work) -> None:
        """Write a task's end before anybody is told of it."""
        try:
            await self._records.write(work.entry.name, work.live.task, work.live.owner)
        finally:
            self._leave(work.entry, work.live)

    def _leave(self, entry: Agent, live: Live) -> None:
        if self._live.get((entry.name, live.id)) is live:
            del self._live[entry.name, live.id]
        live.end()

    async def _converse(self, work: _Work) -> None:
        """Have the model answer a message in its context."""
        assert work.message is not None, "somebody said something"
        said = await self._records.said(work.entry.name, work.live.context_id, work.principal)
        await self._speak(work, [*said, words.simple(words.content_of(work.message))])

    async def _take_up(self, work: _Work, run: str) -> None:
        """Go on with what waited for approvals, if they were all answered."""
        principal = work.caller.principal
        parked = await self._parking.look(run, principal)
        if parked is None:  # it has expired
            if work.message is None:
                raise Conflict("What waited for approval has ended.")
            work.live.note({APPROVALS: []})
            await self._converse(work)
            return
        pending = {one.id for one in await self._parking.still(parked)}
        waiting = [one for one in parked.held.waiting if one.approval in pending]
        if waiting:
            _wait(work.live, waiting)
            return
        taken = await self._parking.take(run, principal)
        if taken is None:
            raise Conflict("What waited for approval goes on elsewhere.")
        work.live.note({APPROVALS: []})
        await self._speak(work, decode(taken.about)["messages"], taken)

    async def _speak(self, work: _Work, messages: Sequence[JsonObject], parked: Parked | None = None) -> None:
        """Run the loop over what was said, and say what it came to."""
        live, own, name, caller = work.live, work.own, work.entry.name, work.caller
        hops = caller.within.hops if caller.within is not None else caller.hops
        about = {"agent": name, "task": live.id, "messages": messages, "hops": hops}
        if own.tools:
            await self._tools.prepare(caller.principal)
        has_tools = bool(own.tools) and bool(self._tools.offered(caller.principal, None))
        ask = words.ask_of(own, messages, has_tools=has_tools)
        voice = AgentVoice(live)
        ask = replace(ask, ticket=Ticket(DOOR, lambda: encode(about)), parked=parked)
        await self._loop.answer(ask, self._loop.find(own.model), caller, voice=voice)
        assert voice.finished is not None, "the loop ended well"
        if caller.within is not None:
            caller.within.used_within = total(voice.finished)
        if voice.finished.waiting:
            _wait(live, voice.finished.waiting)
            return
        question = words.question_in(voice.finished)
        if question is None and voice.finished.own:
            raise UpstreamInvalid(own.model, "it called a tool that it was not offered")
        told = {"role": "assistant", "content": "\n\n".join(one for one in (voice.text, question) if one)}
        *before, last = messages
        await self._records.say(name, live.context_id, work.principal, [*before, words.remembered(last), told])
        if question is not None:
            live.reach("INPUT_REQUIRED", question)
        else:
            live.reach("COMPLETED")

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


def _wait(live: Live, waiting: Sequence[Waiting]) -> None:
    """Say which calls of tools wait for approval."""
    calls = "\n".join(f"{one.offer.tool.exposed} {encode(one.arguments).decode()}" for one in waiting)
    text = f"This waits for approval:\n{calls}"
    live.reach("INPUT_REQUIRED", text, metadata={APPROVALS: [pending_of(one) for one in waiting]})


def acting(principal: Principal, own: Own) -> Principal:
    """The caller as an own agent acts for it."""
    grants = Through.of(own.grants, principal.grants, delegates=own.delegates)
    return replace(principal, grants=grants, is_admin=False)


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
