"""Has platforms do the work of tasks: what bridges say, said on the task (agents.hosting.work.Worker)."""

from __future__ import annotations

import hashlib
from contextlib import aclosing

import msgspec

from agents.bridges.bridge import Asks, Bridge, Piece, Remember, Running, Step, Steps, Text, Turn, Working
from agents.bridges.kinds import BridgeInvalid, make
from agents.bridges.repeats import LEFT_OUT
from agents.bridges.way import Way
from agents.hosting.live import Live
from agents.hosting.records import Records
from agents.hosting.work import Work
from agents.shown import is_over
from registry.egress.http import Egress
from registry.entries import Agent
from registry.errors import NotSupported
from registry.gate import Gate, Permit
from registry.identity import HUB
from registry.judged import JsonObject, encode

_session = msgspec.json.Decoder(JsonObject)


class Bridges:
    """All of them. One for a process."""

    def __init__(self, egress: Egress, *, gate: Gate, records: Records) -> None:
        self._egress = egress
        self._gate = gate
        self._records = records
        self._made: dict[str, tuple[Agent, Bridge]] = {}

    async def work(self, work: Work) -> None:
        """Have the platform answer (agents.hosting.work.Worker)."""
        bridge = self._bridge(work.entry)
        with self._gate.admit(HUB, work.entry) as permit:  # its caller's may have ended long before the task does
            turn = await self._turn(work, permit)
            if work.message is not None:
                work.live.ref = {}
            await self._tell(work, bridge.run(turn) if work.message is not None else bridge.rejoin(turn))
        if not is_over(work.live.state):
            work.live.reach("COMPLETED")

    async def stop(self, work: Work) -> None:
        """Have the platform end what it does (agents.hosting.work.Worker)."""
        if not work.live.ref:
            return
        with self._gate.admit(HUB, work.entry) as permit:
            await self._bridge(work.entry).cancel(await self._turn(work, permit))

    def goes_on(self, entry: Agent, ref: JsonObject) -> bool:
        """Whether the platform can be asked again for what it does (agents.hosting.work.Worker)."""
        return bool(ref) and self._bridge(entry).rejoins

    def _bridge(self, entry: Agent) -> Bridge:
        made = self._made.get(entry.name)
        if made is not None and made[0] == entry:
            return made[1]
        assert entry.bridged is not None, "it is on a platform"
        try:
            bridge = make(entry.url, entry.bridged)
        except BridgeInvalid as error:
            raise NotSupported(f"{entry.name} cannot be called as it is configured: {error}") from None
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

    async def _tell(self, work: Work, steps: Steps) -> None:
        """Say what a bridge says, as it comes."""
        async with aclosing(steps):
            async for step in steps:
                if isinstance(step, Remember):
                    session = encode(step.session)
                    await self._records.remember(work.entry.name, work.live.context_id, work.principal, session)
                else:
                    await _say(work.live, step)


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
        case Asks(parts):
            live.state_with("INPUT_REQUIRED", parts)
