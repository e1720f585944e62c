"""Counts what calls use against limits and budgets: reserved before a call is sent, settled after it. Knows no protocol.

A process leases parts of what is left, counts in memory what its calls take of these, and notes it where its death leaves it
(registry/spending/leases.py). Near the end of a limit there are no leases, and each call asks the database: exact over any number
of tasks and processes. A process that dies settles nothing: what it sent counts as it was reserved (docs/decisions/0030).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

from sqlmodel import Session

from registry.errors import LimitReached, OverBudget, Overloaded
from registry.limits import Amounts, Limit, Per, end_of
from registry.spending import book
from registry.spending.book import Batch, Correction, Dead, Granted, Refused, Wanted
from registry.spending.leases import ASKED, NOWHERE, Key, Lease, Leased, Record, ask, bury, is_dead, recorded, spent_of
from registry.store.db import Database

logger = logging.getLogger(__name__)

FLUSH_S = 0.1
"""How long what a call used in the end may wait for the next reservation, with which it is written for nothing; and how often a
process looks whether others ask for what it has not spent."""

ASK_S = 0.25
"""How long a call waits for what others have not spent. More than FLUSH_S, and a commit."""

HOLD_S = 2.0
"""How long a lease is kept of which nothing is used."""

TRIES = 3

PRUNE_S = 3600.0

_Wish = tuple[Limit, Lease, int]


class _Plan:
    """Where the calls count that the same limits bound. Made anew when one of its leases is over."""

    __slots__ = ("changes", "counted", "ends", "paid_after", "warns")

    def __init__(self, limits: Sequence[Limit], leases: Sequence[Lease]) -> None:
        self.counted = [(lease, lease.at) for lease in leases]
        """For each limit the lease, and which of a call's amounts it counts."""
        self.changes = any(limit.is_paid_after or limit.unit == "concurrent" for limit in limits)
        """Whether what one of them counts changes whenever a call ends, also if it used what was reserved."""
        self.paid_after = [lease for lease in leases if lease.least]
        """Those of which something must be left, though a call takes nothing of them before it ends."""
        self.ends = min([lease.ends for lease in leases if lease.ends], default=inf)
        """When the first of their spans does."""
        self.warns = [(limit, number) for number, limit in enumerate(limits) if limit.warn is not None]
        """Of the limits those that warn, and the numbers of their leases."""


Held = tuple[_Plan, Amounts]
"""What is reserved for a call, and where."""


class Counters:
    """All counters of the hub. One for a process; `run` must be running."""

    def __init__(self, database: Database, process: str, *, clock: Callable[[], float] = time.time) -> None:
        """`process` names this one among those on the database, as `registry.ledger.events.Events` says that it lives."""
        self._database = database
        self._process = process
        self._clock = clock
        self._ends: dict[Per, int] = {}
        self._leases: dict[str, Lease] = {}
        """By the names of counters."""
        self._plans: dict[tuple[Limit, ...], _Plan] = {}
        """All leases of these are open."""
        self._record = Record(database.path, process)
        self._corrections: list[Correction] = []
        self._ended: list[tuple[Lease, int]] = []
        self.is_near = False
        """Whether any limit that warns may be nearly used up."""
        self._waits = asyncio.Event()
        """Something is leased, or to be written."""

    async def reserve(self, limits: tuple[Limit, ...], amounts: Amounts, held: Held | None = None) -> Held:
        """Take `amounts` from all of `limits`, or from none; with `held` only what is more than that.

        Raises:
            LimitReached, OverBudget: one of them has not so much left.
            Overloaded: nothing can be counted at the moment.
        """
        now = self._clock()
        if held is not None:
            return await self._add(limits, amounts, held, now)
        plan = self._plan(limits, now)
        counted = zip(limits, plan.counted, strict=True)
        await self._take([(limit, lease, amounts[at]) for limit, (lease, at) in counted], now)
        return plan, amounts

    def at_once(self, limits: tuple[Limit, ...], amounts: Amounts) -> Held | None:
        """As `reserve`, of what this process holds; None: that is too little."""
        plan = self._plans.get(limits)
        if plan is None or plan.ends <= self._clock():
            return None
        for lease in plan.paid_after:
            if lease.spent >= lease.granted:
                return None
        cells = self._record.cells
        for counted in plan.counted:
            lease, at = counted
            amount = amounts[at]
            if amount:
                spent = lease.spent + amount
                if spent > lease.granted:
                    self._undo(plan, counted, amounts)
                    return None
                lease.spent = cells[lease.slot] = spent  # counts as spent from now on if the process dies
        return plan, amounts

    def _undo(self, plan: _Plan, short: tuple[Lease, int], amounts: Amounts) -> None:
        """Put back what was taken of the leases before the one that is too short."""
        for counted in plan.counted:
            if counted is short:
                return
            lease, at = counted
            lease.spent = self._record.cells[lease.slot] = lease.spent - amounts[at]

    async def _add(self, limits: tuple[Limit, ...], amounts: Amounts, held: Held, now: float) -> Held:
        plan, before = held
        most: Amounts = tuple(map(max, amounts, before))  # type: ignore[assignment]  # as many
        leases = [lease for lease, _ in plan.counted]
        wishes, late = [], []
        for number, (limit, (lease, at)) in enumerate(zip(limits, plan.counted, strict=True)):
            more = most[at] - before[at]
            if more > 0 and 0 < lease.ends <= now:  # nothing is refused in a span that is over
                late.append((lease, more))
            elif more > 0:
                leases[number] = self._lease(limit, now)
                wishes.append((limit, leases[number], more))
        if wishes:
            await self._take(wishes, now)
        for lease, more in late:
            self._correct(lease, more, is_leased=False)
        return _Plan(limits, leases), most

    def settle(self, held: Held, used: Amounts) -> None:
        """Replace what was reserved by what a call used."""
        plan, reserved = held
        if not plan.changes and used[0] == reserved[0] and used[1] == reserved[1] and used[2] == reserved[2]:
            return
        cells = self._record.cells
        for lease, at in plan.counted:
            more = used[at] - reserved[at]
            if more and lease.is_open:
                lease.spent = cells[lease.slot] = lease.spent + more
                over = lease.spent - lease.granted
                if over > 0:
                    self._correct(lease, over, is_leased=True)
                    lease.granted = lease.spent
            elif more:
                self._correct(lease, more, is_leased=False)

    def near(self, held: Held) -> list[Limit]:
        """Those of the limits that warn, and are nearly used up."""
        found = []
        for limit, number in held[0].warns:
            lease, _ = held[0].counted[number]
            if lease.granted - lease.spent <= lease.near:
                found.append(limit)
        return found

    async def used(self, limits: Sequence[Limit]) -> list[tuple[Limit, int, int]]:
        """What is used of each limit in its present span, and when that ends."""
        await self.flush()
        now = self._clock()

        def query(session: Session) -> tuple[list[tuple[Limit, int, int]], bool]:
            run = session.connection().exec_driver_sql
            found, is_whole = [], True
            for limit in limits:
                ends = limit.end(now)
                used = run(*book.sum_of(limit.counter, ends)).scalar()
                unspent = [self._unspent(Leased(*row)) for row in run(book.LEASED, (limit.counter, ends))]
                found.append((limit, max(0, (used or 0) - sum(one or 0 for one in unspent)), ends))
                is_whole = is_whole and None not in unspent
            return found, is_whole

        for _ in range(TRIES):  # the record of a dead process goes when what is read here was given back already
            found, is_whole = await self._database.read(query)
            if is_whole:
                break
        return found

    async def run(self) -> None:
        """Write what calls used until cancelled, then the rest; forget what is long over, and settle for those who died."""
        pruned_at = -PRUNE_S
        try:
            while True:
                if self._clock() - pruned_at > PRUNE_S:
                    pruned_at = self._clock()
                    await self._database.append(book.prune, pruned_at)
                    for process in recorded(self._database.path):
                        await self._bury(process)
                await self._waits.wait()
                await asyncio.sleep(FLUSH_S)
                self._give_back()
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write what calls used up to now; what the database cannot take stays for the next time."""
        if self._corrections or self._ended:
            batch = self._batch(())
            try:
                await self._database.append(book.count, batch)
            except sqlite3.Error as error:
                self._restore(batch)
                logger.warning("what calls used cannot be written, trying again", extra={"reason": str(error)})
            else:
                self._written(batch)
        if not self._leases and not self._corrections and not self._ended:
            self._waits.clear()

    async def aclose(self) -> None:
        """Give back all that is leased; when nothing is reserved any more."""
        for lease in list(self._leases.values()):
            self._close(lease)
        await self.flush()
        if not self._ended:
            self._record.close()

    def _give_back(self) -> None:
        """Give back what others ask for, and what is used no more."""
        is_asked = self._record.cells[ASKED]
        self._record.cells[ASKED] = 0
        self.is_near = any(lease.near >= 0 for lease in self._leases.values())
        now = self._clock()
        for lease in list(self._leases.values()):
            if lease.asking:
                continue
            if lease.spent != lease.seen:
                lease.seen, lease.seen_at = lease.spent, now
            elif lease.seen_at <= now - HOLD_S and (
                lease.ends or not lease.spent
            ):  # calls under way end where they began
                self._close(lease)
                continue
            if is_asked and lease.left:
                self._correct(lease, -lease.left, is_leased=True)
                lease.granted = lease.spent

    def _plan(self, limits: tuple[Limit, ...], now: float) -> _Plan:
        plan = self._plans[limits] = _Plan(limits, [self._lease(limit, now) for limit in limits])
        return plan

    def _lease(self, limit: Limit, now: float) -> Lease:
        lease = self._leases.get(limit.counter)
        return self._open(limit, now) if lease is None or 0 < lease.ends <= now else lease

    def _open(self, limit: Limit, now: float) -> Lease:
        before = self._leases.get(limit.counter)
        if before is not None:
            self._close(before)
        lease = Lease(limit, self._key(limit, now), self._process, self._record.slot())
        lease.seen_at = now
        self._leases[limit.counter] = lease
        self._waits.set()
        return lease

    def _close(self, lease: Lease) -> None:
        del self._leases[lease.key[0]]
        self._plans.clear()
        lease.is_open = False
        self._correct(lease, -lease.left, is_leased=True)
        lease.granted = lease.spent
        self._ended.append((lease, lease.slot))
        lease.slot = NOWHERE

    def _correct(self, lease: Lease, amount: int, *, is_leased: bool) -> None:
        self._corrections.append(Correction(lease, amount, is_leased))
        self._waits.set()

    def _key(self, limit: Limit, now: float) -> Key:
        if limit.unit == "concurrent":
            return limit.counter, 0, self._process
        if limit.until:
            return limit.counter, limit.until, ""
        ends = self._ends.get(limit.per, 0)
        if ends <= now or ends - now > _LONGEST[limit.per]:  # the latter: the clock was put back
            ends = self._ends[limit.per] = end_of(limit.per, now)
        return limit.counter, ends, ""

    async def _take(self, wishes: Sequence[_Wish], now: float) -> None:
        """Take all, with the database's help; what others hold and have not spent is asked for before it is refused."""
        for again in reversed(range(TRIES)):
            refused = await self._try(wishes, now)
            if refused is None:
                return
            limit, lease, lacks, amount = refused.wanted
            is_back = limit.needed(amount) - lease.left < lacks
            if not again or not (is_back or await self._reclaim(refused.elsewhere)):
                raise _refusal(limit, amount, now)

    async def _try(self, wishes: Sequence[_Wish], now: float) -> Refused | None:
        aside = []
        wanted = []
        for limit, lease, amount in wishes:
            needed = limit.needed(amount)
            here = min(lease.left, needed)
            lease.granted -= here  # nobody else's meanwhile
            lease.asking += 1
            aside.append(here)
            if here < needed:
                wanted.append(Wanted(limit, lease, needed - here, amount))
        try:
            refused = await self._ask(wanted, now) if wanted else None
        finally:
            for (_, lease, _), here in zip(wishes, aside, strict=True):
                lease.granted += here
                lease.asking -= 1
        if refused is None:
            cells = self._record.cells
            for _, lease, amount in wishes:
                lease.spent = cells[lease.slot] = lease.spent + amount
        return refused

    async def _ask(self, wanted: Sequence[Wanted], now: float) -> Refused | None:
        """Have the database grant what is wanted."""
        batch = self._batch(wanted)
        asked = asyncio.ensure_future(self._database.append(book.count, batch))
        try:
            answer = await asyncio.shield(asked)
        except sqlite3.Error as error:
            self._restore(batch)
            logger.warning("limits cannot be counted", extra={"reason": str(error)})
            raise Overloaded("The hub cannot count against limits at the moment; try again shortly.") from None
        except asyncio.CancelledError:  # it is granted all the same
            asked.add_done_callback(partial(self._granted_late, batch))
            raise
        return self._granted(batch, answer)

    def _granted(self, batch: Batch, answer: Refused | Granted) -> Refused | None:
        self._written(batch)
        if isinstance(answer, Refused):
            return answer
        for wanted, amount, near in zip(batch.wanted, answer.amounts, answer.near, strict=True):
            wanted.lease.granted += amount
            wanted.lease.near = near
            self.is_near = self.is_near or near >= 0
        for limit, used in answer.warned:
            shown = {"counter": limit.counter, "used": limit.shown(used), "of": limit.shown(limit.most)}
            logger.warning("a limit is nearly used up", extra=shown)
        return None

    def _granted_late(self, batch: Batch, asked: asyncio.Future[Refused | Granted]) -> None:
        if asked.cancelled() or asked.exception() is not None:
            self._restore(batch)
        else:
            self._granted(batch, asked.result())

    async def _reclaim(self, held: Sequence[Leased]) -> bool:
        """Have other processes give back what they did not spend, also for those that died; False: they spent everything."""
        is_asked = is_found = False
        for one in held:
            if is_dead(self._database.path, one.process):
                await self._bury(one.process)
                is_found = True
            elif self._unspent(one):
                ask(self._database.path, one.process)
                is_asked = True
        if is_asked:
            await asyncio.sleep(ASK_S)
        return is_asked or is_found

    async def _bury(self, process: str) -> None:
        if process != self._process and is_dead(self._database.path, process):
            await self._database.append(book.settle, Dead(self._database.path, process))
            bury(self._database.path, process)

    def _unspent(self, one: Leased) -> int | None:
        """What is left of a lease; None: nobody knows."""
        spent = spent_of(self._database.path, one.process, one.slot)
        return None if spent is None else one.granted - spent

    def _batch(self, wanted: Sequence[Wanted]) -> Batch:
        batch = Batch(wanted, self._corrections, self._ended)
        self._corrections, self._ended = [], []
        return batch

    def _restore(self, batch: Batch) -> None:
        self._corrections = [*batch.corrections, *self._corrections]
        self._ended = [*batch.ended, *self._ended]
        self._waits.set()

    def _written(self, batch: Batch) -> None:
        for _, slot in batch.ended:
            self._record.free(slot)


_LONGEST: dict[Per, float] = {
    "minute": 60,
    "day": 86_400,
    "week": 7 * 86_400,
    "month": 31 * 86_400,
    "year": 366 * 86_400,
    "session": 31 * 86_400,
}


def _refusal(limit: Limit, amount: int, now: float) -> LimitReached:
    ends = limit.end(now)
    kind = OverBudget if limit.unit == "usd" else LimitReached
    wait: float | None = max(1.0, ends - now) if ends else 1.0
    per = f" per {limit.per}" if limit.unit == "usd" else ""
    usd = " USD" if limit.unit == "usd" else ""
    bare, asked = (f"{limit.shown(one):g}" if usd else f"{one}" for one in (limit.most, amount))
    most = f"{bare}{usd}{per}"
    if amount > limit.most or limit.per in ("task", "session"):
        wait = None
    if amount > limit.most:
        may = f"{asked}{usd or f' {limit.unit}'}"
        text = f"This call may use {may}, more than {limit.whose} {limit.name} of {most}; ask for less, as with max_tokens."
    elif limit.per == "task":
        text = f"{limit.whose} {limit.name} of {bare} is used up, by all that was called for it together."
    elif limit.per == "session":
        text = f"{limit.whose} {limit.name} of {bare} is used up in this conversation; begin another one."
    elif limit.unit == "concurrent":
        text = f"{limit.whose} {limit.name} of {most} are under way; try again when one has ended."
    else:
        text = f"{limit.whose} {limit.name} of {most} is used up; try again in {wait:.0f} s."
    return kind(f"{text[0].upper()}{text[1:]}", wait)
