"""Approvals of tools' calls: asked for, answered, and used once for exactly the call that they were given for.

An approval holds for a server, a tool, its arguments, a principal and a policy together: it is kept with a digest of all
five, and one that differs in anything is refused. Arguments are sealed; of a fleeting run nothing is written, and its
approvals are in this process alone. Who asked is told through the door that the run came through; what is refused is
logged and leaves a row of usage, as every decision does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal, NamedTuple, cast

import msgspec
from sqlalchemy import ColumnElement, Update, true
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, delete, func, or_, select, update
from sqlmodel.sql.expression import SelectOfScalar

from registry.access import SEPARATOR
from registry.callers.kin import are_kin
from registry.errors import ApprovalRefused, Conflict, LimitError, NotFound
from registry.floors import Answerer
from registry.gate import Settled
from registry.identity import Principal
from registry.judged import JsonObject
from registry.sealed import places
from registry.sealed.secrets import Sealer, digest, new_id
from registry.store.db import Database
from registry.store.memory import Memory
from registry.store.tables.rules import ToolApproval

logger = logging.getLogger(__name__)

State = Literal["pending", "approved", "denied", "used", "expired"]

MAX_PENDING = 1000
"""Of one principal."""

MAX_PENDING_BYTES = 16 * 1024 * 1024
"""Of the arguments of one principal's, as they are kept."""

MAX_DECIDED_BYTES = 64 * 1024 * 1024
"""Of the arguments of fleeting ones that are pending no more. Beyond it the oldest are forgotten."""

DIRECT = "direct"
"""The door of calls that nothing waits for: their caller makes them again."""

SWEEP_S = 60.0
KEPT_S = 30 * 86_400.0
"""How long an approval is shown after it expired."""

Resume = Callable[[str, str], None]
"""Called with a run, and the id of its principal, when no approval of it is pending any more. Must not wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """One call as somebody approves it."""

    server: str
    tool: str
    """As its server calls it."""
    arguments: JsonObject = field(repr=False)
    policy: str
    """A digest of the rules and of the tool's description, as they were shown to who answers."""


class Run(NamedTuple):
    """What waits for approvals."""

    id: str
    door: str
    principal: Principal
    expires_at: float
    """In seconds since 1970: its approvals end then, and so does it."""
    is_fleeting: bool = False
    """Nothing of it may be at rest."""


class Wanted(NamedTuple):
    """A call that needs approval, and whose."""

    deed: Deed
    answerer: Answerer
    id: str = ""
    """What the approval is to be called, as `new_name` makes it; empty: another."""


class Verdict(NamedTuple):
    """An answer."""

    approve: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One approval as it is now."""

    id: str
    run: str
    door: str
    server: str
    tool: str
    arguments: JsonObject = field(repr=False)
    principal: str
    """Id of the principal in whose request the call is."""
    principal_name: str
    answerer: Answerer
    state: State
    created_at: float
    expires_at: float
    decided_at: float | None
    decided_by: str | None
    decided_by_name: str | None
    reason: str | None


class ToolApprovals:
    """All approvals of tools' calls. One for a process; `run` must be running."""

    def __init__(
        self,
        database: Database,
        *,
        sealer: Sealer,
        record: Callable[[Settled], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`record` takes the rows of usage."""
        self._database = database
        self._memory: Memory | None = None
        """With the first fleeting run."""
        self._sealer = sealer
        self._record = record
        self._clock = clock
        self._resumed: dict[str, Resume] = {}

    def subscribe(self, door: str, resume: Resume) -> None:
        """Have `resume` called for runs of `door` that somebody else than their caller decided, or that expired."""
        self._resumed[door] = resume

    async def ask(self, run: Run, wanted: Sequence[Wanted]) -> list[Approval]:
        """Ask for approvals of a run's calls; they are on disk when this returns, unless the run is fleeting.

        Raises:
            LimitError: too much of the principal is pending.
        """
        now, principal = self._clock(), run.principal
        rows = [self._row(run, one, now) for one in wanted]

        def insert(session: Session) -> None:
            _check_room(session, rows, now)
            session.add_all(rows)
            if run.is_fleeting:
                _forget(session)

        await (self._in_memory() if run.is_fleeting else self._database).write(insert)
        asked = [self._shown(row) for row in rows]
        for approval in asked:
            logger.info("approval asked for", extra=_told(approval, principal))
        return asked

    async def find(self, name: str) -> Approval:
        """One approval; raises `NotFound`."""
        for store in self._stores():
            row = await store.read(lambda session: _find(session, name))
            if row is not None:
                return self._shown(row)
        raise NotFound("approval", name)

    def _in_memory(self) -> Memory:
        if self._memory is None:
            self._memory = Memory([ToolApproval])
        return self._memory

    def _stores(self) -> Sequence[Database | Memory]:
        return (self._database,) if self._memory is None else (self._memory, self._database)

    async def _changed(self, name: str, statement: Update) -> bool:
        """Whether an approval was changed, wherever it is."""
        for store in self._stores():
            if await store.write(lambda session: session.exec(statement).rowcount):
                return True
        return False

    async def own(self, name: str, caller: Principal) -> Approval:
        """An approval that the caller's own request asked for; raises `NotFound`, and notes who tried another's."""
        approval = await self.find(name)
        if approval.principal != caller.id:
            self._note_refusal(approval, caller, "it is another key's")
            raise NotFound("approval", name)
        return approval

    async def of_run(self, run: str) -> list[Approval]:
        """The approvals of a run, in the order of its calls."""
        query = select(ToolApproval).where(ToolApproval.run == run).order_by(col(ToolApproval.number))
        return [self._shown(row) for store in self._stores() for row in await _rows(store, query)]

    async def page(self, state: State | None, after: str | None, limit: int) -> list[Approval]:
        """At most `limit` approvals in one state (None: in any) behind the one named `after`, oldest first, fleeting ones last."""
        now, stores = self._clock(), list(reversed(self._stores()))
        last: ToolApproval | None = None
        while after is not None and last is None:
            if not stores:
                return []
            last = await stores[0].read(lambda session: _find(session, after))
            stores = stores if last is not None else stores[1:]
        found: list[ToolApproval] = []
        for store in stores:
            query = select(ToolApproval).where(_is(state, now) if state else true())
            if last is not None and store is stores[0]:
                query = query.where(col(ToolApproval.number) > last.number)
            query = query.order_by(col(ToolApproval.number)).limit(limit - len(found))
            found += await _rows(store, query)
        return [self._shown(row) for row in found]

    async def decide(self, name: str, verdict: Verdict, by: Principal) -> Approval:
        """Answer in the inbox; the run goes on when nothing of it is pending any more.

        Raises:
            NotFound: there is no such approval, or it is not for `by` to know of it.
            ApprovalRefused: the principal that asked for it may not answer, nor whose key it made, nor who made its key.
            Conflict: it was answered before, or has expired.
        """
        if not by.grants.allow("admin", "approvals"):
            raise NotFound("approval", name)
        approval = await self.find(name)
        if approval.answerer == "admin" and await self._is_own(approval, by):
            text = (
                "a rule of the hub asks for somebody else's approval than the caller's own, or of a key of its making"
            )
            raise self._refused(approval, by, text)
        decided = await self._decide(approval, verdict, by)
        if not any(one.state == "pending" for one in await self.of_run(decided.run)):
            self._resume(decided.door, decided.run, decided.principal)
        return decided

    async def _is_own(self, approval: Approval, by: Principal) -> bool:
        return await self._database.read(lambda session: are_kin(session, approval.principal, by.id))

    async def answer(self, name: str, verdict: Verdict, caller: Principal) -> Approval:
        """Answer in the request that goes on with the run, which is who calls to resume.

        Raises:
            NotFound: there is no such approval of the caller's.
            ApprovalRefused: it is not the caller who answers.
            Conflict: it was answered before, or has expired.
        """
        approval = await self.own(name, caller)
        if approval.answerer != "caller":
            raise self._refused(approval, caller, "a rule of the hub asks for it, so it is answered in the hub's inbox")
        return await self._decide(approval, verdict, caller)

    async def claim(self, deed: Deed, caller: Principal, *, until: float) -> Approval | None:
        """Take an approval that somebody gave for exactly this call, or ask for one, once, until `until`.

        Returns None when the call may be made now, else what waits in the inbox. For calls that no run waits for.

        Raises:
            LimitError: too much of the principal is pending.
        """
        now, digest_of_all = self._clock(), bound(deed, caller.id)
        mine = (
            col(ToolApproval.door) == DIRECT,
            col(ToolApproval.principal) == caller.id,
            col(ToolApproval.bound) == digest_of_all,
        )

        def take(session: Session) -> ToolApproval | None:
            given = select(ToolApproval).where(*mine, _is("approved", now)).limit(1)
            found = session.exec(given).first()
            if found is None:
                return session.exec(select(ToolApproval).where(*mine, _is("pending", now)).limit(1)).first()
            found.state = "used"
            session.add(found)
            return found

        found = await self._database.write(take)
        if found is None:
            run = Run(new_id("call"), DIRECT, caller, until)
            return (await self.ask(run, [Wanted(deed, "admin")]))[0]
        return None if found.state == "used" else self._shown(found)

    async def use(self, name: str, deed: Deed, caller: Principal) -> None:
        """Take an approval for exactly this call: of all who try, one may make it.

        Raises:
            ApprovalRefused: it was not given for this, or not any more.
        """
        now = self._clock()
        statement = update(ToolApproval).values(state="used")
        statement = statement.where(col(ToolApproval.id) == name, _is("approved", now))
        statement = statement.where(
            col(ToolApproval.principal) == caller.id, col(ToolApproval.bound) == bound(deed, caller.id)
        )
        if await self._changed(name, statement):
            return
        approval = await self.find(name)
        text = "it was given for another call" if approval.state == "approved" else f"it is {approval.state}"
        raise self._refused(approval, caller, text)

    async def run(self) -> None:
        """Resume runs that were decided when nobody ran, and end what expires, until cancelled."""
        for run in await self._database.read(lambda session: _decided(session, self._clock())):
            self._resume(*run)
        while True:
            try:
                for store in self._stores():
                    for run in await store.write(lambda session: _expire(session, self._clock())):
                        self._resume(*run)
            except SQLAlchemyError as error:
                logger.warning("approvals cannot be swept, trying again", extra={"reason": str(error)})
            await asyncio.sleep(SWEEP_S)

    async def _decide(self, approval: Approval, verdict: Verdict, by: Principal) -> Approval:
        now = self._clock()
        statement = update(ToolApproval).where(col(ToolApproval.id) == approval.id, _is("pending", now))
        statement = statement.values(
            state="approved" if verdict.approve else "denied",
            decided_at=now,
            decided_by=by.id,
            decided_by_name=by.name,
            reason=verdict.reason,
        )
        done = await self._changed(approval.id, statement)
        found = await self.find(approval.id)
        if not done:
            self._note_refusal(found, by, f"it is {found.state} already")
            raise Conflict(f"The approval {found.id!r} is {found.state} already.")
        logger.info("approval decided", extra=_told(found, by))
        self._note(found, by, is_refused=False)
        return found

    def _refused(self, approval: Approval, by: Principal, text: str) -> ApprovalRefused:
        self._note_refusal(approval, by, text)
        return ApprovalRefused(f"The approval {approval.id!r} does not hold for this: {text}.")

    def _note_refusal(self, approval: Approval, by: Principal, text: str) -> None:
        logger.warning("approval refused", extra={**_told(approval, by), "refused": text})
        self._note(approval, by, is_refused=True)

    def _note(self, approval: Approval, by: Principal, *, is_refused: bool) -> None:
        name = f"{approval.server}{SEPARATOR}{approval.tool}"
        outcome: Literal["ok", "error"] = "error" if is_refused else "ok"
        self._record(Settled(time.time(), by.id, by.name, "approval", name, outcome, 0.0, approval.id))

    def _resume(self, door: str, run: str, principal: str) -> None:
        resume = self._resumed.get(door)
        if resume is not None:
            resume(run, principal)

    def _row(self, run: Run, wanted: Wanted, now: float) -> ToolApproval:
        name, deed = wanted.id or new_name(), wanted.deed
        return ToolApproval(
            id=name,
            run=run.id,
            door=run.door,
            server=deed.server,
            tool=deed.tool,
            sealed=self._sealer.seal(msgspec.json.encode(deed.arguments), about=places.approval(name)),
            principal=run.principal.id,
            principal_name=run.principal.name,
            bound=bound(deed, run.principal.id),
            answerer=wanted.answerer,
            state="pending",
            created_at=now,
            expires_at=run.expires_at,
        )

    def _shown(self, row: ToolApproval) -> Approval:
        is_over = row.state in ("pending", "approved") and row.expires_at <= self._clock()
        return Approval(
            id=row.id,
            run=row.run,
            door=row.door,
            server=row.server,
            tool=row.tool,
            arguments=msgspec.json.decode(self._sealer.open(row.sealed, about=places.approval(row.id))),
            principal=row.principal,
            principal_name=row.principal_name,
            answerer=cast("Answerer", row.answerer),
            state="expired" if is_over else cast("State", row.state),
            created_at=row.created_at,
            expires_at=row.expires_at,
            decided_at=row.decided_at,
            decided_by=row.decided_by,
            decided_by_name=row.decided_by_name,
            reason=row.reason,
        )


async def _rows(store: Database | Memory, query: SelectOfScalar[ToolApproval]) -> Sequence[ToolApproval]:
    return await store.read(lambda session: session.exec(query).all())


def new_name() -> str:
    """An id for an approval; it begins as OpenAI's do."""
    return new_id("mcpr")


def bound(deed: Deed, principal: str) -> str:
    """The digest of all that an approval holds for, over canonical JSON (RFC 8785)."""
    import rfc8785  # noqa: PLC0415  # a hub may start without approving anything

    value: list[Any] = [deed.server, deed.tool, deed.arguments, principal, deed.policy]
    try:
        canonical = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:  # a number beyond 2^53, for which the RFC has no form
        canonical = b"sorted" + msgspec.json.encode(value, order="sorted")
    return digest(canonical)


def _is(state: State, now: float) -> ColumnElement[bool]:
    """The condition of being in a state."""
    is_said = col(ToolApproval.state) == state
    if state in ("pending", "approved"):
        return is_said & (col(ToolApproval.expires_at) > now)
    return or_(is_said, _is_over(now)) if state == "expired" else is_said


def _is_over(now: float) -> ColumnElement[bool]:
    return col(ToolApproval.state).in_(("pending", "approved")) & (col(ToolApproval.expires_at) <= now)


def _check_room(session: Session, rows: Sequence[ToolApproval], now: float) -> None:
    """Raise `LimitError` when too much would be pending of the principal whose `rows` are to come."""
    size = func.coalesce(func.sum(func.length(ToolApproval.sealed)), 0)
    pending = select(func.count(), size).where(ToolApproval.principal == rows[0].principal, _is("pending", now))
    count, total = session.exec(pending).one()
    if count + len(rows) > MAX_PENDING:
        raise LimitError(f"More than {MAX_PENDING} calls of this key wait for approval; have some answered first.")
    if total + sum(len(row.sealed) for row in rows) > MAX_PENDING_BYTES:
        raise LimitError(
            f"The arguments of this key's calls that wait for approval come to more than {MAX_PENDING_BYTES} bytes;"
            " have some answered first, or call with less."
        )


def _find(session: Session, name: str) -> ToolApproval | None:
    return session.exec(select(ToolApproval).where(ToolApproval.id == name)).first()


def _forget(session: Session) -> None:
    """Forget the oldest of what is pending no more, if there is too much of it."""
    decided = select(ToolApproval.number, func.length(ToolApproval.sealed)).where(ToolApproval.state != "pending")
    sizes = session.exec(decided.order_by(col(ToolApproval.number).desc())).all()
    totals = accumulate(size for _, size in sizes)
    gone = [number for (number, _), total in zip(sizes, totals, strict=True) if total > MAX_DECIDED_BYTES]
    session.exec(delete(ToolApproval).where(col(ToolApproval.number).in_(gone)))


def _decided(session: Session, now: float) -> list[tuple[str, str, str]]:
    """Door, id and principal of runs that may go on."""
    waiting = select(ToolApproval.run).where(_is("pending", now))
    of_run = select(ToolApproval.door, ToolApproval.run, ToolApproval.principal).distinct()
    alive = (col(ToolApproval.state).in_(("approved", "denied")), col(ToolApproval.expires_at) > now)
    return list(session.exec(of_run.where(*alive, col(ToolApproval.run).not_in(waiting))).all())


def _expire(session: Session, now: float) -> list[tuple[str, str, str]]:
    """End what has expired and forget what did long ago; return door, id and principal of the runs that waited for it."""
    session.exec(delete(ToolApproval).where(col(ToolApproval.expires_at) <= now - KEPT_S))
    over = _is_over(now)
    of_run = select(ToolApproval.door, ToolApproval.run, ToolApproval.principal).distinct().where(over)
    runs = list(session.exec(of_run).all())
    session.exec(update(ToolApproval).where(over).values(state="expired"))
    return runs


def _told(approval: Approval, by: Principal) -> dict[str, object]:
    """What the log says of an approval; arguments stay out of it."""
    return {
        "approval": approval.id,
        "state": approval.state,
        "server": approval.server,
        "tool": approval.tool,
        "principal": approval.principal,
        "by": by.id,
    }
