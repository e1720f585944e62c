"""Answers to approvals that stand in the input of OpenAI's Responses API, and the runs that go on with them.

The caller answers what its own request asked for; what a rule of the hub asks for is answered in the inbox, and the caller's
item then only says that it is back.
"""

from __future__ import annotations

from collections.abc import Sequence

from llm.parking import Parking
from llm.types import Parked
from registry.errors import Conflict, InvalidRequest, NotFound
from registry.identity import Principal
from registry.judged import JsonObject
from registry.tool_approvals import Approval, Verdict

DOOR = "responses"
KIND = "mcp_approval_response"

MAX_REASON = 1000


class Gone(Conflict):
    """The run that was answered does not wait any more: it went on by itself, has ended, or has expired."""

    def __init__(self, run: str) -> None:
        super().__init__("What waited for this approval has ended, expired or was interrupted; ask again without it.")
        self.run = run


class Assents:
    """One for a process."""

    def __init__(self, parking: Parking) -> None:
        self._parking = parking

    async def given(self, run: str) -> list[JsonObject]:
        """The answers that a run's approvals were given, as items of a request."""
        return [_item(approval) for approval in await self._parking.approvals.of_run(run)]

    async def look(self, items: Sequence[JsonObject], principal: Principal, *, is_continued: bool) -> Parked | None:
        """Note the answers in a request's new items, and find the run that goes on; None: nothing is answered.

        `is_continued`: the items stand for themselves; otherwise all that was said before stands in front of the answers.

        Raises:
            NotFound: an approval that is not the caller's.
            InvalidRequest: answers for several runs, or something beside them.
            ApprovalRefused: it is not for the caller to answer.
            Conflict: another answer is missing.
            Gone: the run does not wait any more.
        """
        first = next((at for at, item in enumerate(items) if item["type"] == KIND), None)
        if first is None:
            return None
        answers = items[first:]
        if any(item["type"] != KIND for item in answers) or (first and is_continued):
            raise InvalidRequest("answers to approvals stand alone, behind what was said before", member="input")
        named = [await self._own(item["approval_request_id"], principal) for item in answers]
        run = named[0].run
        if any(approval.run != run for approval in named):
            raise InvalidRequest("these approvals belong to several responses; answer each by itself", member="input")
        parked = await self._parking.look(run, principal)
        if parked is None:
            raise Gone(run)
        for approval, item in zip(named, answers, strict=True):
            await self._answer(approval, item, principal)
        pending = ", ".join(one.id for one in await self._parking.still(parked))
        if pending:
            raise Conflict(f"These approvals are not answered yet: {pending}. Answer all of them in one request.")
        return parked

    async def take(self, parked: Parked, principal: Principal) -> Parked:
        """Take the run up; raises `Gone` when another has."""
        taken = await self._parking.take(parked.run, principal)
        if taken is None:
            raise Gone(parked.run)
        return taken

    async def _own(self, name: str, principal: Principal) -> Approval:
        approval = await self._parking.approvals.own(name, principal)
        if approval.door != DOOR:
            raise NotFound("approval", name)
        return approval

    async def _answer(self, approval: Approval, item: JsonObject, principal: Principal) -> None:
        wanted = item["approve"]
        if approval.state in (("approved",) if wanted else ("denied",)):
            return
        reason = item.get("reason")
        said = reason[:MAX_REASON] if isinstance(reason, str) else None
        await self._parking.approvals.answer(approval.id, Verdict(wanted, said), principal)


def _item(approval: Approval) -> JsonObject:
    answer = {"type": KIND, "approval_request_id": approval.id, "approve": approval.state == "approved"}
    return {**answer, "reason": approval.reason}
