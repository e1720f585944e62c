"""Has platforms do the work of tasks: what bridges say, said on the task (agents.hosting.work.Worker)."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field

import msgspec

from agents.bridges.bridge import Asks, Bridge, Piece, Remember, Running, Step, Steps, Text, Turn, Waits, Working
from agents.bridges.kinds import bridge_to
from agents.bridges.repeats import LEFT_OUT
from agents.bridges.way import Way
from agents.hosting.host import Host
from agents.hosting.live import Live
from agents.hosting.work import Work
from agents.shown import is_over
from registry.egress.http import Egress
from registry.entries import Agent
from registry.errors import Overloaded, UpstreamInvalid
from registry.gate import Gate, Permit
from registry.identity import HUB
from registry.judged import JsonObject, encode

logger = logging.getLogger(__name__)

_SHAPE = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What a bridge stumbles over in JSON of another shape than its platform's reference has it."""

WAITS_S = 600.0
"""How long a platform is kept waiting for an answer."""

MAX_WAITING = 1000
MAX_WAITING_OF_ONE = 16
"""Platforms that wait in one process, and those of one principal's tasks among them: each holds a connection."""

_session = msgspec.json.Decoder(JsonObject)


_WAITED = "urn:hubbub:waited"
"""The member of a task's reference that says that its platform waited for an answer, in the process that asked."""


@dataclass(eq=False, slots=True)
class _Talk:
    """What is held open at a platform while it answers, or waits for who is to."""

    entry: Agent
    permit: Permit
    steps: Steps
    open: AsyncExitStack
    """Ends the steps and the permit."""
    principal: str = ""
    waits: Waits | None = None
    """What it asks; None: it has not."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """It waits no more: it was answered, or cancelled."""


class Bridges:
    """All of them. One for a process."""

    def __init__(self, egress: Egress, *, gate: Gate, host: Host) -> None:
        self._egress = egress
        self._gate = gate
        self._host = host
        self._records = host.records
        self._made: dict[str, tuple[Agent, Bridge]] = {}
        self._waiting: dict[tuple[str, str], _Talk] = {}
        """By agent and task."""

    async def work(self, work: Work) -> None:
        """Have the platform answer (agents.hosting.work.Worker)."""
        talk = await self._taken_up(work) or await self._begun(work)
        async with talk.open:
            talk.waits = await self._tell(work, talk.steps)
            if talk.waits is not None:
                self._keep(work, talk)
        if not is_over(work.live.state):
            work.live.reach("COMPLETED")

    async def stop(self, work: Work) -> None:
        """Have the platform end what it does (agents.hosting.work.Worker)."""
        talk = self._left(work)
        if talk is not None:
            await talk.open.aclose()
        if not work.live.ref:
            return
        with self._gate.admit(HUB, work.entry) as permit:
            await self._bridge(work.entry).cancel(await self._turn(work, permit))

    async def _begun(self, work: Work) -> _Talk:
        """Say a message, or go on with what another process began."""
        bridge = self._bridge(work.entry)
        async with AsyncExitStack() as stack:
            # its caller's permit may have ended long before the task does
            permit = stack.enter_context(self._gate.admit(HUB, work.entry))
            turn = await self._turn(work, permit)
            if work.message is not None:
                work.live.ref = {}
            steps = _readable(work.entry, bridge.run(turn) if work.message is not None else bridge.rejoin(turn))
            await stack.enter_async_context(aclosing(steps))
            return _Talk(work.entry, permit, steps, stack.pop_all())

    async def _taken_up(self, work: Work) -> _Talk | None:
        """Answer a platform that waits; None: none does. Raises `UpstreamInvalid` if it does so no more."""
        if _WAITED not in work.live.ref:
            return None
        talk = self._left(work)
        if talk is None or talk.waits is None or talk.entry != work.entry:
            if talk is not None:
                await talk.open.aclose()
            raise UpstreamInvalid(work.entry.name, "it does not wait for this answer any more; begin anew")
        work.live.ref.pop(_WAITED)
        talk.waits.answer = await self._turn(work, talk.permit)
        return talk

    def _keep(self, work: Work, talk: _Talk) -> None:
        """Hold a talk open until it is answered; raises `Overloaded`."""
        talk.principal = work.principal.id
        mine = sum(one.principal == talk.principal for one in self._waiting.values())
        if mine >= MAX_WAITING_OF_ONE or len(self._waiting) >= MAX_WAITING:
            raise Overloaded("Too many tasks of agents wait for answers; answer or cancel some of them.")
        assert self._host.tasks is not None, "Host.run must be running"
        work.live.ref = {**work.live.ref, _WAITED: True}
        talk.open = talk.open.pop_all()
        talk.left = asyncio.Event()
        self._waiting[work.entry.name, work.live.id] = talk
        self._host.tasks.create_task(self._wait((work.entry.name, work.live.id), talk, talk.left))

    def _left(self, work: Work) -> _Talk | None:
        """The talk of a task, which waits no more; None: none does."""
        talk = self._waiting.pop((work.entry.name, work.live.id), None)
        if talk is not None:
            talk.left.set()
        return talk

    async def _wait(self, key: tuple[str, str], talk: _Talk, left: asyncio.Event) -> None:
        """Own a talk while it waits. A boundary: what a bridge does at its end must not end the others."""
        try:
            async with asyncio.timeout(WAITS_S):
                await left.wait()
        except TimeoutError:
            pass
        finally:
            if not left.is_set():
                del self._waiting[key]
                try:
                    await talk.open.aclose()
                except Exception:
                    logger.exception("a bridge failed at its end", extra={"agent": key[0], "task": key[1]})

    def goes_on(self, entry: Agent, ref: JsonObject) -> bool:
        """Whether the platform can be asked again for what it does (agents.hosting.work.Worker)."""
        return bool(ref) and self._bridge(entry).rejoins

    def _bridge(self, entry: Agent) -> Bridge:
        made = self._made.get(entry.name)
        if made is not None and made[0] == entry:
            return made[1]
        bridge = bridge_to(entry)
        self._made[entry.name] = entry, bridge
        return bridge

    async def _turn(self, work: Work, permit: Permit) -> Turn:
        live, entry = work.live, work.entry
        found = await self._records.remembered(entry.name, live.context_id, work.principal)
        ids: JsonObject = {"taskId": live.id, "contextId": live.context_id}
        return Turn(
            way=Way(self._egress, permit, entry, self._bridge(entry).credentials),
            message=work.message or ids,
            task_id=live.id,
            context_id=live.context_id,
            user=hashlib.sha256(f"{entry.name}/{work.principal.id}".encode()).hexdigest(),
            session=_session.decode(found) if found is not None else {},
            shelf=self._records.shelf(entry.name, live.context_id, work.principal),
            ref=live.ref,
            is_answer=live.owner is None and work.message is not None,
        )

    async def _tell(self, work: Work, steps: Steps) -> Waits | None:
        """Say what a bridge says, as it comes, until it has ended or, as is returned, waits."""
        async for step in steps:
            if isinstance(step, Remember):
                session = encode(step.session)
                await self._records.remember(work.entry.name, work.live.context_id, work.principal, session)
            else:
                await _say(work.live, step)
            if isinstance(step, Waits):
                return step
        return None


async def _readable(entry: Agent, steps: Steps) -> Steps:
    """What a bridge says; that its platform's words are none that it can read is the platform's failure, or the bridge's, and no other's."""
    try:
        async with aclosing(steps):
            async for step in steps:
                yield step
    except _SHAPE:
        logger.exception("a bridge cannot read its platform", extra={"agent": entry.name})
        raise UpstreamInvalid(entry.name, "its bridge cannot read what its platform says") from None


async def _say(live: Live, step: Step) -> None:
    match step:
        case Text(text, artifact):
            if text and text != LEFT_OUT:
                await live.write({"text": text}, artifact=artifact)
        case Piece(part, artifact):
            await live.write(part, artifact=artifact)
        case Working(text, metadata):
            live.reach("WORKING", text, metadata=metadata)
            await live.room()
        case Running(ref):
            is_new, live.ref = not live.ref, ref
            if is_new:  # who cancels after a restart, or goes on, must know it
                await live.save()
        case Asks(parts) | Waits(parts):
            live.state_with("INPUT_REQUIRED", parts)
