"""Runs of the loop that wait for approvals: put down sealed, and taken up once.

What a request may leave nowhere at rest (`store: false`) is kept in memory, and so is what is asked of its approvers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from msgspec import structs

from llm.fleeting import Fleeting
from llm.storing import read_run, written_run
from llm.types import Finished, Held, Parked, Place, Ticket, Used
from registry.errors import ApprovalRefused, LimitError
from registry.gate import Permit
from registry.identity import Principal
from registry.sealed.kept import Kept
from registry.sealed.secrets import new_id
from registry.spending.tasks import Tasks
from registry.tool_approvals import Approval, Deed, Run, ToolApprovals, Wanted, new_name

_KIND, _ANSWER = "parked", "continued"

MAX_BYTES = 64 * 1024 * 1024
"""Of one principal's waiting runs at rest."""

ANSWER_S = 3600.0
"""How long an answer is kept at least, where its approvals expire earlier."""


class Parking:
    """All waiting runs. One for a process."""

    def __init__(self, approvals: ToolApprovals, kept: Kept, tasks: Tasks, *, hours: float) -> None:
        """`hours` is how long approvals are waited for."""
        self.approvals = approvals
        self._kept = kept
        self._tasks = tasks
        self._fleeting = Fleeting()
        self._seconds = hours * 3600

    async def park(
        self, finished: Finished, deeds: Sequence[Deed], permit: Permit, ticket: Ticket, used: Used
    ) -> Finished:
        """Put a run down that ended with `waiting`, whose calls come to `deeds`; they are asked approval for. `permit` is its first.

        Raises:
            LimitError: too much of the principal waits.
        """
        expires_at, principal = time.time() + self._seconds, permit.principal
        run = Run(new_id("run"), ticket.door, principal, expires_at, is_fleeting=ticket.is_fleeting)
        waiting = [replace(one, approval=new_name(), run=run.id, expires_at=run.expires_at) for one in finished.waiting]
        wanted = [
            Wanted(deed, one.offer.answerer or "admin", one.approval) for deed, one in zip(deeds, waiting, strict=True)
        ]
        last = finished.turns[-1]
        parked = Parked(
            run=run.id,
            about=ticket.about(),
            turns=finished.turns[:-1],
            reply=last.reply,
            held=Held(last.outcomes, waiting),
            expires_at=run.expires_at,
            used=used,
            place=self._place(permit),
            is_fleeting=ticket.is_fleeting,
        )
        store = self._fleeting if ticket.is_fleeting else self._kept
        value = written_run(parked)
        if len(value) + await self._kept.size(_KIND, principal) > MAX_BYTES:
            raise LimitError(
                f"This key's requests that wait for approval come to more than {MAX_BYTES} bytes; have some answered first."
            )
        await store.put(_KIND, run.id, principal, value, expires_at=run.expires_at)
        try:
            await self.approvals.ask(run, wanted)  # last: an answer finds what it is for
        except LimitError:
            await store.take(_KIND, run.id, principal)
            raise
        return replace(finished, waiting=waiting)

    async def look(self, run: str, principal: Principal) -> Parked | None:
        """A run that waits; None: it does not, or is another's."""
        found = await self._fleeting.get(_KIND, run, principal) or await self._kept.get(_KIND, run, principal)
        return None if found is None else read_run(found)

    async def take(self, run: str, principal: Principal) -> Parked | None:
        """Take a run up: of all who try, one gets it."""
        found = await self._fleeting.take(_KIND, run, principal) or await self._kept.take(_KIND, run, principal)
        return None if found is None else read_run(found)

    def _place(self, permit: Permit) -> Place:
        principal, tree = permit.principal, permit.tree()
        task = None if principal.task is None else self._tasks.pause(principal.task)
        return Place(tree.hops, tree.callers, principal.conversations, principal.session, task)

    def resumed(self, parked: Parked, principal: Principal, within: Permit | None) -> Principal:
        """Who goes on with a run, perhaps within another call: where that stood, and in the conversations that they name now, too."""
        hops, above, conversations, session, task = parked.place
        again = [limit for name in conversations for limit in principal.limits_again(name)]
        limits = tuple(dict.fromkeys((*principal.limits, *again)))
        above = tuple(above) if within is None else principal.above
        principal = structs.replace(
            principal,
            hops=max(hops, principal.hops),
            above=above,
            limits=limits,
            session=session or principal.session,
        )
        return principal if task is None else self._tasks.resume(principal, task)

    async def keep_answer(self, parked: Parked, principal: Principal, answer: bytes) -> None:
        """Keep what a run came to for its caller."""
        store = self._fleeting if parked.is_fleeting else self._kept
        expires_at = max(parked.expires_at, time.time() + ANSWER_S)
        await store.put(_ANSWER, parked.run, principal, answer, expires_at=expires_at)

    async def answer(self, run: str, principal: Principal) -> bytes | None:
        """What a run came to; None: nothing was kept."""
        return await self._fleeting.get(_ANSWER, run, principal) or await self._kept.get(_ANSWER, run, principal)

    async def still(self, parked: Parked) -> list[Approval]:
        """The approvals of a run that nobody has answered."""
        return [one for one in await self.approvals.of_run(parked.run) if one.state == "pending"]

    async def admit(self, approval: str, deed: Deed, principal: Principal) -> None:
        """Let a call be made, once.

        Raises:
            ApprovalRefused: it was denied, or approved otherwise; the text is for the model.
        """
        found = await self.approvals.find(approval)
        if found.state == "denied":
            raise ApprovalRefused(f"This call was denied{f': {found.reason}' if found.reason else '.'}")
        await self.approvals.use(approval, deed, principal)
