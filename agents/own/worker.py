"""The work of agents that are made here: the tool loop over what was said (docs/decisions/0025-own-agents.md)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from msgspec import structs

from agents.hosting.host import Host
from agents.hosting.live import Live
from agents.hosting.work import Work
from agents.own import words
from agents.own.voice import AgentVoice
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
from registry.errors import Conflict, HubError, NotFound, UpstreamInvalid
from registry.identity import Principal
from registry.judged import JsonObject, decode, encode
from registry.sealed.secrets import new_id

DOOR = "own-agent"
"""By which runs that wait for approvals are theirs."""

APPROVALS = "urn:hubbub:approvals"
"""The member of a task's metadata that lists the calls that wait for approval."""

logger = logging.getLogger(__name__)


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


class OwnAgents:
    """All of them. One for a process (agents.hosting.work.Worker)."""

    def __init__(self, means: Means, host: Host, catalog: Callable[[], Catalog]) -> None:
        self._loop, self._tools, self._parking, self._living = means
        self._host = host
        self._catalog = catalog
        self._parking.approvals.subscribe(DOOR, self._approved)

    async def work(self, work: Work) -> None:
        """Answer as the agent (agents.hosting.work.Worker)."""
        run = await self._run_of(work.live.task)
        await (self._converse(work) if run is None else self._take_up(work, run))

    async def stop(self, work: Work) -> None:
        """Nothing works elsewhere."""

    def goes_on(self, _entry: Agent, _ref: JsonObject) -> bool:
        """What the loop had in memory is lost with its process."""
        return False

    async def _run_of(self, task: JsonObject) -> str | None:
        """The run of the loop that waits for approvals that a task names; None: it names none."""
        names = [one["id"] for one in (task.get("metadata") or {}).get(APPROVALS) or ()]
        try:
            return (await self._parking.approvals.find(names[0])).run if names else None
        except NotFound:  # long ago
            return None

    def _approved(self, run: str, principal_id: str) -> None:
        """Go on with a run whose approvals were given, denied, or have expired."""
        if self._host.tasks is not None:
            self._host.tasks.create_task(self._go_on(run, principal_id))

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
            live = await self._host.waiting(entry, about["task"])
            principal = structs.replace(principal, paces=())  # its pace was counted when the request came
            await self._host.start(
                Work(
                    live=live,
                    entry=entry,
                    principal=principal,
                    message=None,
                    request_id=new_id("req"),
                )
            )
        except HubError as error:  # the task was cancelled, or is gone
            logger.info("an own agent does not go on", extra={"run": run, "reason": error.text})
        except Exception:
            logger.exception("an own agent could not go on", extra={"run": run})

    async def _converse(self, work: Work) -> None:
        """Have the model answer a message in its context."""
        assert work.message is not None, "somebody said something"
        found = await self._host.records.remembered(work.entry.name, work.live.context_id, work.principal)
        said = words.recalled(found) if found is not None else []
        await self._speak(work, [*said, words.simple(words.content_of(work.message))])

    async def _take_up(self, work: Work, run: str) -> None:
        """Go on with what waited for approvals, if they were all answered."""
        principal = _caller(work).principal
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

    async def _speak(self, work: Work, messages: Sequence[JsonObject], parked: Parked | None = None) -> None:
        """Run the loop over what was said, and say what it came to."""
        live, name, own, caller = work.live, work.entry.name, _own(work), _caller(work)
        about = {"agent": name, "task": live.id, "messages": messages}
        if own.tools:
            await self._tools.prepare(caller.principal, (None,))
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
        memory = words.memory_of([*before, words.remembered(last), told])
        await self._host.records.remember(name, live.context_id, work.principal, memory)
        if question is not None:
            live.reach("INPUT_REQUIRED", question)
        else:
            live.reach("COMPLETED")


def _wait(live: Live, waiting: Sequence[Waiting]) -> None:
    """Say which calls of tools wait for approval."""
    calls = "\n".join(f"{one.offer.tool.exposed} {encode(one.arguments).decode()}" for one in waiting)
    text = f"This waits for approval:\n{calls}"
    live.reach("INPUT_REQUIRED", text, metadata={APPROVALS: [pending_of(one) for one in waiting]})


def acting(principal: Principal, own: Own) -> Principal:
    """The caller as an own agent acts for it."""
    grants = Through.of(own.grants, principal.grants, delegates=own.delegates)
    return structs.replace(principal, grants=grants, is_admin=False)


def _own(work: Work) -> Own:
    assert work.entry.own is not None, "it is made here"
    return work.entry.own


def _caller(work: Work) -> Caller:
    """Who asks, as the agent acts for them."""
    return Caller(acting(work.principal, _own(work)), work.request_id, within=work.within)
