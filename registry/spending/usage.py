"""Usage: one row for each call of any kind, written in batches off the path, bounded in memory."""

from __future__ import annotations

import asyncio
import csv
import io
import logging
import sqlite3
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import astuple
from sqlmodel import Session, case, col, func, select

from registry.errors import InvalidRequest
from registry.gate import NOTHING_KNOWN, Settled
from registry.store.db import Database, insert
from registry.store.tables.spending import UsageRow

logger = logging.getLogger(__name__)

FLUSH_S = 0.5
"""How long a row may wait in memory. kill -9 loses at most these."""

ROWS_AT_ONCE = 500
"""Rows of one commit. A caller who waits for another row to be written waits no more than some milliseconds for these."""

MAX_BUFFERED = 50_000
"""Rows held while the database cannot take them; the oldest are dropped and counted: calls never fail on logs."""

UNWRITABLE = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What the driver raises for values that no attempt will write: integers of more than 64 bit, text that is no Unicode."""

KINDS = ("agent", "server", "tool", "model")

DIMENSIONS: dict[str, Any] = {
    "key": UsageRow.key_name,
    "principal": UsageRow.principal,
    "kind": UsageRow.kind,
    "name": UsageRow.name,
    "outcome": UsageRow.outcome,
    "team": UsageRow.team_id,
    "user": UsageRow.user_id,
    "end_user": UsageRow.end_user,
    "session": UsageRow.session,
    "task": UsageRow.task,
    "day": func.date(UsageRow.at, "unixepoch"),
    **{kind: case((col(UsageRow.kind) == kind, UsageRow.name)) for kind in KINDS},
}
"""Teams and users by their ids; days in UTC. Where kinds are among them, other calls than of these are left out."""

BY = "key,kind,name"
"""How usage is summed unless somebody wants it otherwise."""

SUMS = {
    "input_tokens": UsageRow.input_tokens,
    "output_tokens": UsageRow.output_tokens,
    "cached_tokens": UsageRow.cached_tokens,
    "cache_written_tokens": UsageRow.cache_written_tokens,
    "reasoning_tokens": UsageRow.reasoning_tokens,
    "audio_input_tokens": UsageRow.audio_input_tokens,
    "audio_output_tokens": UsageRow.audio_output_tokens,
    "cost_usd": UsageRow.cost_usd,
}
"""What is added up. Null: of none of the calls it is known; a cost is that of the calls whose price is known."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With what spreadsheets begin formulas: names of end users are whatever callers say."""

_CALL = "at, principal, key_name, kind, name, outcome, duration_ms, request_id"
_WHOSE = f"{_CALL}, team_id, user_id, end_user"
_PART_OF = f"{_WHOSE}, session, task"
"""In the order of `Settled`."""
_NOBODYS = (None, None, None)
_OF_NOTHING = (None, None)
_TOKENS = "input_tokens, output_tokens, estimated"
_DETAILS = "cached_tokens, cache_written_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens"
"""In the order of `Usage`, as `_TOKENS` before them and the cost behind them."""
_COUNTED = f"{_TOKENS}, cost_usd"
_DETAILED = f"{_TOKENS}, {_DETAILS}, cost_usd"


class UsageLog:
    """Takes settled calls and writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: deque[Settled] = deque(maxlen=MAX_BUFFERED)
        self._flushing = asyncio.Lock()
        self.dropped = 0
        """Rows lost because the database could not take them in time, or at all."""

    def record(self, settled: Settled) -> None:
        """Take one row; never waits, never fails."""
        if len(self._rows) == MAX_BUFFERED:
            self.dropped += 1
        self._rows.append(settled)

    async def run(self) -> None:
        """Write what has come, twice a second, until cancelled; then write the rest."""
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write everything that is buffered now; what the database cannot take stays for the next time."""
        async with self._flushing:  # who asks for usage is told of the rows that are being written, too
            due = len(self._rows)  # calls that end meanwhile wait, or each few of them would have a commit of their own
            alone = 0
            while due:
                rows = [self._rows.popleft() for _ in range(1 if alone else min(due, ROWS_AT_ONCE))]
                try:
                    await self._database.append(_insert_all, rows)
                except UNWRITABLE as error:
                    if len(rows) > 1:  # so that only the row goes that cannot be written
                        self._keep(rows)
                        alone = len(rows)
                        continue
                    self.dropped += 1
                    logger.error(  # noqa: TRY400  # where it was raised says nothing: in the driver
                        "a call's usage cannot be written and is lost",
                        extra={"reason": str(error), "request_id": rows[0].request_id},
                    )
                except sqlite3.Error as error:
                    self._keep(rows)
                    logger.warning(
                        "usage cannot be written, trying again", extra={"reason": str(error), "rows": len(rows)}
                    )
                    return
                due -= len(rows)
                alone = max(0, alone - len(rows))

    def _keep(self, rows: list[Settled]) -> None:
        """Put rows back to where they were, as many as there is room for."""
        room = MAX_BUFFERED - len(self._rows)
        self.dropped += max(0, len(rows) - room)
        self._rows.extendleft(reversed(rows[-room:] if room else []))


def _insert_all(connection: sqlite3.Connection, batches: list[list[Settled]]) -> list[None]:
    for batch in batches:
        # what is bound costs more than what is written: each call binds only what is known of it
        forms: dict[tuple[str, str], list[tuple[object, ...]]] = {}
        for row in batch:
            values = astuple(row)
            usage = values[-1]
            if values[11:13] != _OF_NOTHING:
                said, call = _PART_OF, values[:13]
            elif values[8:11] != _NOBODYS:
                said, call = _WHOSE, values[:11]
            else:
                said, call = _CALL, values[:8]
            if usage is NOTHING_KNOWN:
                used, bound = "estimated", (*call, 0)
            elif usage[:-1] == NOTHING_KNOWN[:-1]:
                used, bound = "estimated, cost_usd", (*call, 0, usage[-1])
            elif usage[3:-1] == NOTHING_KNOWN[3:-1]:
                used, bound = _COUNTED, (*call, *usage[:2], int(usage[2]), usage[-1])
            else:
                used, bound = _DETAILED, call + usage
            forms.setdefault((said, used), []).append(bound)
        for (said, used), rows in forms.items():
            insert(connection, f"usage ({said}, {used})", rows)
    return [None] * len(batches)


def dimensions(text: str) -> list[str]:
    """Names of `DIMENSIONS`, between commas; raises `InvalidRequest` for others."""
    wanted = [name for name in dict.fromkeys(text.split(",")) if name]
    unknown = [name for name in wanted if name not in DIMENSIONS]
    if unknown:
        raise InvalidRequest(f"by: {', '.join(unknown)} is none of {', '.join(DIMENSIONS)}", member="by")
    return wanted


def summary(
    session: Session,
    by: Sequence[str],
    since: float | None,
    until: float | None,
    *,
    team: str | None = None,
    only: Mapping[str, str | None] = {},
) -> list[dict[str, object]]:
    """Count calls, errors, tokens and cost, grouped by some of `DIMENSIONS`, from `since` up to `until` (seconds since 1970).

    `team` leaves out what was done otherwise than with keys of the team of this id, `only` what has another value than these in
    some of `DIMENSIONS`; None there: any.
    """
    groups = [DIMENSIONS[name] for name in by]
    query = select(  # type: ignore[call-overload]  # select is typed for up to four columns
        *groups,
        func.count(),
        func.count(case((col(UsageRow.outcome).not_in(("ok", "cached")), 1))),  # a sum of booleans would be read as one
        *(func.sum(column) for column in SUMS.values()),
    )
    if since is not None:
        query = query.where(col(UsageRow.at) >= since)
    if until is not None:
        query = query.where(col(UsageRow.at) < until)
    if team is not None:
        query = query.where(UsageRow.team_id == team)
    for name, value in only.items():
        if value is not None:
            query = query.where(DIMENSIONS[name] == value)
    if kinds := [name for name in by if name in KINDS]:
        query = query.where(col(UsageRow.kind).in_(kinds))
    if groups:
        query = query.group_by(*groups).order_by(*groups)
    names = [*by, "calls", "errors", *SUMS]
    return [dict(zip(names, row, strict=True)) for row in session.exec(query).all()]


def as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """A summary as CSV, which spreadsheets may open."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [])
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
