"""Limits and budgets: how much may be used in one span of time. Pure.

Spans are those of the calendar, in UTC. Amounts are whole numbers, so that sums are exact: calls, tokens, and billionths of a USD.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol, cast

import msgspec

Unit = Literal["calls", "tokens", "usd", "concurrent"]
"""What is counted; the last: calls under way at a time."""

Per = Literal["minute", "day", "week", "month", "year", "moment", "task", "session"]
"""For how long it is counted; the last three: for now, as long as a task and all that is called for it, and in one conversation,
which begins anew with each month."""

NANO = 1_000_000_000
"""Parts of a USD that are counted."""

MOST = 1 << 53
"""Amounts are at most this, whatever a request says of itself: sums fit into the database's integers."""

_MOST_USD = MOST / NANO

WARN_AT = 0.8
"""The share of a budget at which the hub warns, unless it says another one. Of other limits it warns where they say so."""


Amounts = tuple[int, int, int, int, int]
"""What a call uses, or may use: calls, tokens, billionths of a USD, calls under way, and billionths of a USD once they are known.

A plain tuple: two are made for every call, and one with names takes as long as to count them.
"""

NOTHING: Amounts = (0, 0, 0, 0, 0)


def expected(tokens: int = 0, usd: float = 0.0) -> Amounts:
    """What a call may use, before it is sent."""
    return 1, min(MOST, tokens) if tokens else 0, billionths(usd), 1, 0


@lru_cache(maxsize=1024)
def priced(usd: float) -> Amounts:
    """As `expected`, of a call that has a price of its entry and no tokens; made once for all of them."""
    return expected(0, usd)


def spent(tokens: int = 0, nanos: int = 0) -> Amounts:
    """What a call used that has ended."""
    return 1, min(MOST, tokens) if tokens else 0, nanos, 0, nanos


def billionths(usd: float) -> int:
    """An amount of money as it is counted."""
    return round(usd * NANO) if usd < _MOST_USD else MOST


class Limit(NamedTuple):
    """One bound: no more than `most` of a unit in each span."""

    counter: str
    """Names what is counted, and of whom; the same for all that is counted together."""
    whose: str
    """In an error, before `limit` or `budget`."""
    unit: Unit
    per: Per
    most: int
    warn: int | None = None
    """From how much on the hub warns, once a span."""
    until: int = 0
    """When a task's counter is forgotten, in seconds since 1970."""

    @property
    def name(self) -> str:
        """As `limits` calls it."""
        if self.per == "task":
            return "max_total_tokens" if self.unit == "tokens" else f"max_{self.unit}"
        if self.per == "session":
            return f"session {self.unit}"
        if self.unit == "usd":
            return "budget"
        return "concurrent_calls" if self.unit == "concurrent" else f"{self.unit}_per_{self.per}"

    def end(self, now: float) -> int:
        """When its present span ends, in seconds since 1970; 0 for a moment."""
        return self.until or end_of(self.per, now)

    @property
    def is_paid_after(self) -> bool:
        """What a task costs counts as far as its price is known, when its calls have ended."""
        return self.per == "task" and self.unit == "usd"

    @property
    def at(self) -> int:
        """Which of a call's amounts it counts."""
        return 4 if self.is_paid_after else _AT[self.unit]

    def needed(self, amount: int) -> int:
        """How much must be left for a call that takes an amount."""
        return 1 if self.is_paid_after else amount

    def shown(self, amount: int) -> float | int:
        """An amount as people read it."""
        return amount / NANO if self.unit == "usd" else amount

    @property
    def warning(self) -> str:
        """What callers are told when so much of it is used that the hub warns."""
        if self.unit == "concurrent":
            return f"{self.whose} {self.name} of {self.most} are nearly all under way"
        most = f"{self.shown(self.most):g}" if self.unit == "usd" else f"{self.most}"
        if self.name == "budget":
            most = f"{most} USD per {self.per}"
        where = " in this conversation" if self.per == "session" else ""
        return f"{self.whose} {self.name} of {most} is nearly used up{where}"


class Pace(NamedTuple):
    """So many requests a minute, which each hub process counts by itself."""

    of: str
    """The id of the key, user or team."""
    whose: str
    """As `Limit.whose`."""
    per_minute: int
    warn: int | None = None
    """From how many on the hub warns; None: it does not."""

    @property
    def warning(self) -> str:
        """As `Limit.warning`."""
        return f"{self.whose} requests_per_minute of {self.per_minute} is nearly used up"


_AT: dict[Unit, int] = {"calls": 0, "tokens": 1, "usd": 2, "concurrent": 3}

Held = tuple[Any, Amounts]
"""What is reserved for a call: where, as who counts knows it, and how much."""


class Counting(Protocol):
    """What the gate asks of `registry.spending.counters.Counters`."""

    def at_once(self, limits: tuple[Limit, ...], amounts: Amounts) -> Held | None:
        """As `reserve`; None: somebody else has to be asked."""

    async def reserve(self, limits: tuple[Limit, ...], amounts: Amounts, held: Any = None) -> Held:
        """Take what a call may use from all of `limits`, or raise."""

    def settle(self, held: Any, used: Amounts) -> None:
        """Replace it by what the call used."""

    is_near: bool
    """Whether any limit that warns may be nearly used up, of whomever."""

    def near(self, held: Any) -> list[Limit]:
        """Those of the limits that warn, and are nearly used up."""


Span = Literal["minute", "day", "week", "month", "year"]
"""Of a budget."""


class Bounds(NamedTuple):
    """`limits` and `budget` as they are written, of a key, a team, an entry. None: no such bound."""

    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    calls_per_minute: int | None = None
    calls_per_day: int | None = None
    calls_per_month: int | None = None
    concurrent_calls: int | None = None
    usd: float | None = None
    per: Span = "month"
    warn_at: float = WARN_AT
    session_calls: int | None = None
    session_tokens: int | None = None
    session_usd: float | None = None
    pace: int | None = None
    """Requests a minute, of all keys of a user or team in one process."""
    limits_warn_at: float | None = None
    """As `warn_at`, of all but the budget; None: these do not warn."""

    def of(self, scope: str, whose: str) -> tuple[Limit, ...]:
        """These as limits of `scope`, which never names anything else."""
        found = [
            Limit(f"{scope} {unit}/{per}", whose, unit, per, most, self.warn(most))
            for name, unit, per in _COUNTED
            if (most := getattr(self, name)) is not None
        ]
        if self.usd is not None:
            most = round(self.usd * NANO)
            found.append(Limit(f"{scope} usd/{self.per}", whose, "usd", self.per, most, round(most * self.warn_at)))
        return tuple(found)

    def in_session(self, scope: str, whose: str) -> tuple[Limit, ...]:
        """Those of each conversation, whose name is to be put behind their counters."""
        found: list[Limit] = []
        for unit, most in (("calls", self.session_calls), ("tokens", self.session_tokens)):
            if most is not None:
                found.append(
                    Limit(f"{scope} session {unit}", whose, cast("Unit", unit), "session", most, self.warn(most))
                )
        if self.session_usd is not None:
            most = round(self.session_usd * NANO)
            found.append(Limit(f"{scope} session usd", whose, "usd", "session", most, self.warn(most)))
        return tuple(found)

    def warn(self, most: int) -> int | None:
        """From how much on there is a warning of a limit of so much that is no budget; None: there is none."""
        return warn_from(most, self.limits_warn_at)

    def with_limits(self, other: Bounds) -> Bounds:
        """These with the limits of others, and this budget."""
        return other._replace(usd=self.usd, per=self.per, warn_at=self.warn_at)

    def with_budget(self, other: Bounds) -> Bounds:
        """These limits, and the budget of others."""
        return self._replace(usd=other.usd, per=other.per, warn_at=other.warn_at)

    def written(self) -> str | None:
        """As they are stored."""
        said = {name: value for name, value in self._asdict().items() if value != UNBOUND_MEMBERS[name]}
        return msgspec.json.encode(said).decode() if said else None

    @classmethod
    def stored(cls, text: str | None) -> Bounds:
        """Read what `written` wrote."""
        return cls(**msgspec.json.decode(text)) if text else UNBOUND


def warn_from(most: int, share: float | None) -> int | None:
    """`Limit.warn` of one that warns at a share of what there is."""
    return None if share is None else max(1, round(most * share))


UNBOUND = Bounds()
UNBOUND_MEMBERS = UNBOUND._asdict()

_COUNTED: tuple[tuple[str, Unit, Per], ...] = (
    ("tokens_per_minute", "tokens", "minute"),
    ("tokens_per_day", "tokens", "day"),
    ("tokens_per_month", "tokens", "month"),
    ("calls_per_minute", "calls", "minute"),
    ("calls_per_day", "calls", "day"),
    ("calls_per_month", "calls", "month"),
    ("concurrent_calls", "concurrent", "moment"),
)


def end_of(per: Per, now: float) -> int:
    """When the span ends in which `now` is, both in seconds since 1970; 0 for a moment."""
    if per == "moment":
        return 0
    if per == "minute":
        return (int(now) // 60 + 1) * 60
    if per == "day":
        return (int(now) // 86_400 + 1) * 86_400
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "week":  # weeks begin on Monday (ISO 8601)
        end = day + timedelta(days=7 - day.weekday())
    elif per == "month":
        end = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    elif per == "session":
        return end_of("month", now)
    else:
        end = day.replace(year=day.year + 1, month=1, day=1)
    return int(end.timestamp())
