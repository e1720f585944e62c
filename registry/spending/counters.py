"""Counts what calls use against limits and budgets: reserved before a call is sent, settled after it. Knows no protocol.

What may be used is added to the counters at once, in the transaction that compares them with their limits: exact over any
number of tasks and processes. A call that ends corrects them by what it used. A process that dies corrects nothing: what it
sent counts as it was reserved. Calls under way are counted for each process, and only those of living processes count
(docs/decisions/0030).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlmodel import Session, select

from registry.errors import LimitReached, OverBudget, Overloaded
from registry.ledger.events import DEAD_S
from registry.limits import Amounts, Limit, Per, end_of
from registry.store.db import Database
from registry.store.tables.spending import Counter

logger = logging.getLogger(__name__)

FLUSH_S = 0.1
"""How long what a call used in the end may wait for the next reservation, with which it is written for nothing."""

KEPT_S = 86_400.0
"""Counters of spans that ended so long ago are deleted; calls that run longer than that correct nothing."""

PRUNE_S = 3600.0

_Key = tuple[str, int, str]
"""Counter, end of its span, and for calls under way the process."""

_READ = "SELECT used, warned FROM counters WHERE counter = ? AND ends = ? AND process = ?"
_ELSEWHERE = (
    "SELECT ifnull(sum(used), 0) FROM counters WHERE counter = ? AND ends = 0 AND process != ?"
    " AND process IN (SELECT id FROM hub_processes WHERE seen_at > ?)"
)
_WRITE = "INSERT OR REPLACE INTO counters (counter, ends, process, used, warned) VALUES (?, ?, ?, ?, ?)"


class Held(NamedTuple):
    """What is reserved for a call."""

    keys: tuple[_Key, ...]
    """Of its limits, in their order."""
    reserved: tuple[int, ...]
    """For each."""
    amounts: Amounts


_Wanted = tuple[Limit, _Key, int]


class _Batch:
    """What is counted together: what earlier calls used in the end, and what one may use."""

    __slots__ = ("corrections", "is_held", "undone", "wanted")

    def __init__(
        self, wanted: Sequence[_Wanted], corrections: Sequence[tuple[_Key, int]], undone: Sequence[_Batch]
    ) -> None:
        self.wanted = wanted
        self.corrections = corrections
        self.undone = undone
        """Reservations whose callers left while they were made."""
        self.is_held = False


class _Refused(NamedTuple):
    limit: Limit
    used: int
    amount: int


class Counters:
    """All counters of the hub. One for a process; `run` must be running."""

    def __init__(self, database: Database, process: str, *, clock: Callable[[], float] = time.time) -> None:
        """`process` names this one among those on the database, as `registry.ledger.events.Events` says that it lives."""
        self._database = database
        self._process = process
        self._clock = clock
        self._ends: dict[Per, int] = {}
        self._corrections: list[tuple[_Key, int]] = []
        self._undone: list[_Batch] = []
        self._waits = asyncio.Event()
        """Something is to be written."""

    async def reserve(self, limits: Sequence[Limit], amounts: Amounts, held: Held | None = None) -> Held:
        """Take `amounts` from all of `limits`, or from none; with `held` only what is more than that.

        Raises:
            LimitReached, OverBudget: one of them has not so much left.
            Overloaded: nothing can be counted at the moment.
        """
        if held is not None:
            return await self._add(limits, amounts, held)
        now = self._clock()
        keys: list[_Key] = []
        reserved: list[int] = []
        wanted: list[_Wanted] = []
        for limit in limits:
            key = self._key(limit, now)
            is_paid_after = limit.per == "task" and limit.unit == "usd"  # as far as its price is known
            amount = 0 if is_paid_after else amounts.of(limit.unit)
            keys.append(key)
            reserved.append(amount)
            if amount or is_paid_after:
                wanted.append((limit, key, amount))
        if wanted:
            await self._take(wanted, now)
        return Held(tuple(keys), tuple(reserved), amounts)

    async def _add(self, limits: Sequence[Limit], amounts: Amounts, held: Held) -> Held:
        most = _most(amounts, held.amounts)
        reserved = [
            before if before == 0 and limit.per == "task" else most.of(limit.unit)
            for limit, before in zip(limits, held.reserved, strict=True)
        ]
        found = zip(limits, held.keys, reserved, held.reserved, strict=True)
        wanted = [(limit, key, now - before) for limit, key, now, before in found if now > before]
        if wanted:
            await self._take(wanted, self._clock())
        return Held(held.keys, tuple(reserved), most)

    def settle(self, limits: Sequence[Limit], held: Held, used: Amounts) -> None:
        """Replace what was reserved by what a call used; written some time soon."""
        for limit, key, reserved in zip(limits, held.keys, held.reserved, strict=True):
            more = -reserved if limit.unit == "concurrent" else used.of(limit.unit) - reserved
            if more:
                self._corrections.append((key, more))
        self._waits.set()

    async def used(self, limits: Sequence[Limit]) -> list[tuple[Limit, int, int]]:
        """What is used of each limit in its present span, and when that ends."""
        await self.flush()
        now = self._clock()
        living = now - DEAD_S

        def query(session: Session) -> list[tuple[Limit, int, int]]:
            found = []
            for limit in limits:
                ends = limit.end(now)
                if limit.unit == "concurrent":
                    row = session.connection().exec_driver_sql(_ELSEWHERE, (limit.counter, "", living)).scalar()
                else:
                    wanted = select(Counter.used).where(Counter.counter == limit.counter, Counter.ends == ends)
                    row = session.exec(wanted).first()
                found.append((limit, row or 0, ends))
            return found

        return await self._database.read(query)

    async def run(self) -> None:
        """Write what calls used until cancelled, then the rest; forget what is long over."""
        pruned_at = -PRUNE_S
        try:
            while True:
                if self._clock() - pruned_at > PRUNE_S:
                    pruned_at = self._clock()
                    await self._database.append(_prune, pruned_at)
                await self._waits.wait()
                await asyncio.sleep(FLUSH_S)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write what calls used up to now; what the database cannot take stays for the next time."""
        if self._corrections or self._undone:
            batch = self._batch(())
            try:
                await self._database.append(_count, batch)
            except sqlite3.Error as error:
                self._restore(batch)
                logger.warning("what calls used cannot be written, trying again", extra={"reason": str(error)})
        self._waits.clear()

    def _key(self, limit: Limit, now: float) -> _Key:
        if limit.unit == "concurrent":
            return limit.counter, 0, self._process
        if limit.until:
            return limit.counter, limit.until, ""
        ends = self._ends.get(limit.per, 0)
        if ends <= now or ends - now > _LONGEST[limit.per]:  # the latter: the clock was put back
            ends = self._ends[limit.per] = end_of(limit.per, now)
        return limit.counter, ends, ""

    async def _take(self, wanted: list[_Wanted], now: float) -> None:
        batch = self._batch(wanted)
        try:
            refused, near = await self._database.append(_count, batch)
        except sqlite3.Error as error:
            self._restore(batch)
            logger.warning("limits cannot be counted", extra={"reason": str(error)})
            raise Overloaded("The hub cannot count against limits at the moment; try again shortly.") from None
        except asyncio.CancelledError:  # it may be written all the same
            self._undone.append(batch)
            self._waits.set()
            raise
        if refused is not None:
            raise _refusal(refused, now)
        for limit, used in near:
            shown = {"counter": limit.counter, "used": limit.shown(used), "of": limit.shown(limit.most)}
            logger.warning("a budget is nearly used up", extra=shown)

    def _batch(self, wanted: Sequence[_Wanted]) -> _Batch:
        batch = _Batch(wanted, self._corrections, self._undone)
        self._corrections, self._undone = [], []
        return batch

    def _restore(self, batch: _Batch) -> None:
        self._corrections = [*batch.corrections, *self._corrections]
        self._undone = [*batch.undone, *self._undone]
        self._waits.set()


_LONGEST: dict[Per, float] = {
    "minute": 60,
    "day": 86_400,
    "week": 7 * 86_400,
    "month": 31 * 86_400,
    "year": 366 * 86_400,
}


def _most(one: Amounts, other: Amounts) -> Amounts:
    usd = None if one.usd is None or other.usd is None else max(one.usd, other.usd)
    return Amounts(max(one.calls, other.calls), max(one.tokens, other.tokens), usd)


def _refusal(refused: _Refused, now: float) -> LimitReached:
    limit = refused.limit
    ends = limit.end(now)
    kind = OverBudget if limit.unit == "usd" else LimitReached
    wait = max(1.0, ends - now) if ends else 1.0
    per = f" per {limit.per}" if limit.unit == "usd" else ""
    usd = " USD" if limit.unit == "usd" else ""
    most = f"{limit.shown(limit.most):g}{usd}{per}" if usd else f"{limit.most}"
    if refused.amount > limit.most:
        may = f"{limit.shown(refused.amount):g}{usd or f' {limit.unit}'}"
        text = f"This call may use {may}, more than {limit.whose} {limit.name} of {most}; ask for less, as with max_tokens."
    elif limit.per == "task":
        text = f"{limit.whose} {limit.name} of {limit.shown(limit.most):g} is used up, by all that was called for it together."
    elif limit.unit == "concurrent":
        text = f"{limit.whose} {limit.name} of {most} are under way; try again when one has ended."
    else:
        text = f"{limit.whose} {limit.name} of {most} is used up; try again in {wait:.0f} s."
    return kind(f"{text[0].upper()}{text[1:]}", wait)


class _Book:
    """The counters of one transaction: each is read and written once, however many calls it counts."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._pages: dict[_Key, list[int]] = {}
        """What is used, and whether somebody was warned."""
        self._changed: set[_Key] = set()
        self._elsewhere: dict[str, int] = {}

    def take(self, batch: _Batch) -> tuple[_Refused | None, Sequence[tuple[Limit, int]]]:
        """Count a batch; say which limit refused what it wants, or which budgets are nearly used up from now on."""
        batch.is_held = False
        for key, more in batch.corrections:
            self._add(key, more)
        for undone in batch.undone:
            for _, key, amount in undone.wanted if undone.is_held else ():
                self._add(key, -amount)
        for limit, key, amount in batch.wanted:
            used = (self._pages.get(key) or self._page(key))[0]
            if limit.unit == "concurrent":
                used += self._under_way(key)
            if used + amount > limit.most or (not amount and used >= limit.most):
                return _Refused(limit, used, amount), ()
        near = []
        for limit, key, amount in batch.wanted:
            page = self._pages[key]
            page[0] += amount
            self._changed.add(key)
            if limit.warn is not None and page[0] >= limit.warn and not page[1]:
                page[1] = 1
                near.append((limit, page[0]))
        batch.is_held = bool(batch.wanted)
        return None, near

    def write(self) -> None:
        """Write what changed."""
        self._connection.executemany(_WRITE, [(*key, *self._pages[key]) for key in self._changed])

    def _page(self, key: _Key) -> list[int]:
        page = self._pages.get(key)
        if page is None:
            row = self._connection.execute(_READ, key).fetchone()
            page = self._pages[key] = [0, 0] if row is None else [*row]
        return page

    def _add(self, key: _Key, more: int) -> None:
        page = self._pages.get(key) or self._page(key)
        page[0] = max(0, page[0] + more)
        self._changed.add(key)

    def _under_way(self, key: _Key) -> int:
        """Calls under way in other processes that live."""
        counter, _, process = key
        if counter not in self._elsewhere:
            values = (counter, process, time.time() - DEAD_S)
            self._elsewhere[counter] = self._connection.execute(_ELSEWHERE, values).fetchone()[0]
        return self._elsewhere[counter]


def _count(
    connection: sqlite3.Connection, batches: list[_Batch]
) -> list[tuple[_Refused | None, Sequence[tuple[Limit, int]]]]:
    book = _Book(connection)
    answers = [book.take(batch) for batch in batches]
    book.write()
    return answers


def _prune(connection: sqlite3.Connection, values: list[float]) -> list[None]:
    now = values[-1]
    connection.execute("DELETE FROM counters WHERE ends > 0 AND ends < ?", (now - KEPT_S,))
    connection.execute(
        "DELETE FROM counters WHERE ends = 0 AND process NOT IN (SELECT id FROM hub_processes WHERE seen_at > ?)",
        (now - DEAD_S,),
    )
    return [None] * len(values)
