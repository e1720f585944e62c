"""The counters in the database: what one transaction does with them. Each is read and written once, however many calls it counts."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from registry.ledger.events import DEAD_S
from registry.limits import Limit
from registry.spending.leases import Key, Lease, Leased, spent_of

KEPT_S = 86_400.0
"""Counters of spans that ended so long ago are deleted; calls that run longer than that correct nothing."""

AT_ONCE = 1024
"""Calls like the one that asks, of which a lease has as many at most."""

PART = 16
"""A lease is at most so little of what is left, so that near the end there are none."""

_READ = "SELECT used, warned FROM counters WHERE counter = ? AND ends = ? AND process = ?"
_ELSEWHERE = (
    "SELECT ifnull(sum(used), 0) FROM counters WHERE counter = ? AND ends = 0 AND process != ?"
    " AND process IN (SELECT id FROM hub_processes WHERE seen_at > ?)"
)
_USED = "SELECT used FROM counters WHERE counter = ? AND ends = ? AND process = ''"
_WRITE = "INSERT OR REPLACE INTO counters (counter, ends, process, used, warned) VALUES (?, ?, ?, ?, ?)"
LEASED = "SELECT process, slot, granted FROM leases WHERE counter = ? AND ends = ?"
_HELD_ELSEWHERE = f"{LEASED} AND process != ?"
_GRANT = (
    "INSERT INTO leases (counter, ends, process, slot, granted) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET granted = granted + excluded.granted"
)
_END = "DELETE FROM leases WHERE counter = ? AND ends = ? AND process = ?"


class Wanted(NamedTuple):
    """What a call wants of one limit, beyond what this process has of it."""

    limit: Limit
    lease: Lease
    lacks: int
    """What is not there."""
    amount: int
    """What the call may use in all."""


class Correction(NamedTuple):
    """What is to be added to a counter, whether there is room for it or not."""

    lease: Lease
    amount: int
    is_leased: bool
    """It belongs to what the process holds of it."""


class Batch:
    """What is counted together: what one call wants, and what came up before."""

    __slots__ = ("corrections", "ended", "wanted")

    def __init__(
        self, wanted: Sequence[Wanted], corrections: Sequence[Correction] = (), ended: Sequence[tuple[Lease, int]] = ()
    ) -> None:
        self.wanted = wanted
        self.corrections = corrections
        self.ended = ended
        """Leases that are over, of which nothing is left, and their slots."""


class Dead(NamedTuple):
    """A process that died, and whose database it used."""

    database: Path
    process: str


class Refused(NamedTuple):
    """The limit that has too little left."""

    wanted: Wanted
    elsewhere: Sequence[Leased]
    """What other processes hold of it."""


class Granted(NamedTuple):
    """What became of one call's wants."""

    amounts: Sequence[int]
    """What the process got of each, the call's own included."""
    warned: Sequence[tuple[Limit, int]]
    """Limits that are nearly used up from now on, and what is used of them."""
    near: Sequence[int]
    """For each: `Lease.near`."""


class _Page:
    __slots__ = ("is_changed", "no_more", "used", "warned")

    def __init__(self, used: int, warned: int) -> None:
        self.used = used
        self.warned = warned
        self.is_changed = False
        self.no_more = False
        """Nothing is leased any more beyond what calls need now: somebody was refused, or it is done."""


class _Book:
    """The counters of one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._pages: dict[Key, _Page] = {}
        self._granted: dict[Key, list[int]] = {}
        """By the names of leases: slot and amount."""
        self._elsewhere: dict[str, int] = {}

    def correct(self, batch: Batch) -> None:
        """Add what came up before."""
        for lease, amount, is_leased in batch.corrections:
            page = self._page(lease.key)
            page.used = max(0, page.used + amount)
            page.is_changed = True
            if is_leased:
                self._grant(lease, amount)
        for lease, _ in batch.ended:
            name = _name(lease)
            self._granted.pop(name, None)
            self._connection.execute(_END, name)

    def take(self, batch: Batch) -> Refused | list[tuple[Limit, int]]:
        """Count all that a batch wants, or nothing; say which limits are nearly used up from now on."""
        for wanted in batch.wanted:
            page = self._page(wanted.lease.key)
            if page.used + self._under_way(wanted) + wanted.lacks > wanted.limit.most:
                page.no_more = True
                held = self._connection.execute(_HELD_ELSEWHERE, _name(wanted.lease))
                return Refused(wanted, [Leased(*row) for row in held])
        warned = []
        for limit, lease, lacks, _ in batch.wanted:
            page = self._pages[lease.key]
            page.used += lacks
            page.is_changed = True
            if lease.is_recorded:
                self._grant(lease, lacks)
            if limit.warn is not None and page.used >= limit.warn and not page.warned:
                page.warned = 1
                warned.append((limit, page.used))
        return warned

    def more(self, wanted: Wanted) -> int:
        """Lease what a process would have beyond what its calls need now; how much of that it gets."""
        limit, lease = wanted.limit, wanted.lease
        page = self._pages[lease.key]
        if page.no_more or not lease.is_recorded:
            return 0
        page.no_more = True
        # up to where something is to be said or refused, which is seen here alone
        end = limit.warn if limit.warn is not None and page.used < limit.warn else limit.most
        part = (end - page.used - self._under_way(wanted)) // PART
        # for whole calls: parts of one are of no use to anybody
        amount = min(AT_ONCE, part // wanted.amount) * wanted.amount if wanted.amount else part
        if amount <= 0:
            return 0
        page.used += amount
        self._grant(lease, amount)
        return amount

    def near(self, wanted: Wanted) -> int:
        """How much of a lease may be left of a limit that is nearly used up; -1: it does not warn, or is not."""
        warn = wanted.limit.warn
        if warn is None:
            return -1
        return max(-1, self._pages[wanted.lease.key].used + self._under_way(wanted) - warn)

    def write(self) -> None:
        """Write what changed."""
        changed = [(*key, page.used, page.warned) for key, page in self._pages.items() if page.is_changed]
        self._connection.executemany(_WRITE, changed)
        self._connection.executemany(_GRANT, [(*name, *granted) for name, granted in self._granted.items()])

    def _page(self, key: Key) -> _Page:
        page = self._pages.get(key)
        if page is None:
            row = self._connection.execute(_READ, key).fetchone()
            page = self._pages[key] = _Page(*row or (0, 0))
        return page

    def _grant(self, lease: Lease, amount: int) -> None:
        granted = self._granted.setdefault(_name(lease), [lease.slot, 0])
        granted[1] += amount

    def _under_way(self, wanted: Wanted) -> int:
        """Calls under way in other processes that live, where these are what is counted."""
        if wanted.limit.unit != "concurrent":
            return 0
        counter, _, process = wanted.lease.key
        if counter not in self._elsewhere:
            values = (counter, process, time.time() - DEAD_S)
            self._elsewhere[counter] = self._connection.execute(_ELSEWHERE, values).fetchone()[0]
        return self._elsewhere[counter]


def _name(lease: Lease) -> Key:
    return *lease.key[:2], lease.owner


def sum_of(counter: str, ends: int) -> tuple[str, tuple[object, ...]]:
    """The statement for what is used of a counter, with all that is leased."""
    return (_USED, (counter, ends)) if ends else (_ELSEWHERE, (counter, "", time.time() - DEAD_S))


def count(connection: sqlite3.Connection, batches: list[Batch]) -> list[Refused | Granted]:
    """Count batches, one after the other."""
    book = _Book(connection)
    taken = []
    for batch in batches:
        book.correct(batch)
        taken.append(book.take(batch))
    answers: list[Refused | Granted] = []
    for batch, found in zip(batches, taken, strict=True):
        if isinstance(found, Refused):
            answers.append(found)
        else:  # leases come after all calls that need something now
            amounts = [wanted.lacks + book.more(wanted) for wanted in batch.wanted]
            answers.append(Granted(amounts, found, [book.near(wanted) for wanted in batch.wanted]))
    book.write()
    return answers


def settle(connection: sqlite3.Connection, dead: list[Dead]) -> list[None]:
    """Give back what processes did not spend that have died."""
    for database, process in dead:
        leases = connection.execute("SELECT counter, ends, slot, granted FROM leases WHERE process = ?", (process,))
        for counter, ends, slot, granted in leases.fetchall():
            spent = spent_of(database, process, slot)
            if not ends:
                connection.execute(
                    "DELETE FROM counters WHERE counter = ? AND ends = 0 AND process = ?", (counter, process)
                )
            elif spent is not None:
                connection.execute(
                    "UPDATE counters SET used = max(0, used - ?) WHERE counter = ? AND ends = ? AND process = ''",
                    (granted - spent, counter, ends),
                )
        connection.execute("DELETE FROM leases WHERE process = ?", (process,))
    return [None] * len(dead)


def prune(connection: sqlite3.Connection, values: list[float]) -> list[None]:
    """Forget counters of spans that are long over, and of processes that have died."""
    now = values[-1]
    connection.execute("DELETE FROM counters WHERE ends > 0 AND ends < ?", (now - KEPT_S,))
    connection.execute(
        "DELETE FROM counters WHERE ends = 0 AND process NOT IN (SELECT id FROM hub_processes WHERE seen_at > ?)",
        (now - DEAD_S,),
    )
    connection.execute("DELETE FROM leases WHERE ends > 0 AND ends < ?", (now - KEPT_S,))
    return [None] * len(values)
