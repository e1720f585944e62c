from datetime import UTC, datetime
from typing import Any

import pytest

from registry.limits import MOST, NANO, UNBOUND, Bounds, billionths, end_of, expected, spent

AT = datetime(2026, 12, 30, 23, 59, 30, tzinfo=UTC).timestamp()  # a Wednesday


@pytest.mark.parametrize(
    ("per", "ends"),
    [
        ("minute", datetime(2026, 12, 31, tzinfo=UTC)),
        ("day", datetime(2026, 12, 31, tzinfo=UTC)),
        ("week", datetime(2027, 1, 4, tzinfo=UTC)),
        ("month", datetime(2027, 1, 1, tzinfo=UTC)),
        ("year", datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_spans_are_those_of_the_calendar_in_utc(per: str, ends: datetime) -> None:
    assert end_of(per, AT) == ends.timestamp()  # type: ignore[arg-type]
    assert end_of(per, ends.timestamp()) > ends.timestamp()  # type: ignore[arg-type]


def test_each_bound_is_a_limit_with_a_counter_of_its_own() -> None:
    bounds = Bounds(tokens_per_day=100, calls_per_minute=2, concurrent_calls=3, usd=1.5, per="week")
    limits = bounds.of("key_1", "the key's")
    assert [(limit.name, limit.most) for limit in limits] == [
        ("tokens_per_day", 100),
        ("calls_per_minute", 2),
        ("concurrent_calls", 3),
        ("budget", 1_500_000_000),
    ]
    assert len({limit.counter for limit in limits}) == 4
    assert limits[-1].warn == 1_200_000_000
    assert {limit.counter for limit in limits}.isdisjoint(limit.counter for limit in bounds.of("key_2", "the key's"))


def test_limits_warn_where_they_say_so_each_at_a_share_of_itself() -> None:
    counted = {"tokens_per_minute": 100, "tokens_per_day": 1, "calls_per_minute": 3, "concurrent_calls": 10}
    said: Any = {**counted, "session_calls": 4, "session_tokens": 5, "session_usd": 1.0, "usd": 1.0}
    for share, warned in ((None, [None] * 7), (0.5, [50, 1, 2, 5, 2, 2, NANO // 2])):
        bounds = Bounds(**said, limits_warn_at=share)
        limits = (*bounds.of("key_1", "the key's"), *bounds.in_session("key_1", "the key's"))
        assert [one.warn for one in limits if one.name != "budget"] == warned
        assert [one.warn for one in limits if one.name == "budget"] == [NANO * 8 // 10]


def test_bounds_are_stored_and_read_again() -> None:
    bounds = Bounds(calls_per_month=7, usd=0.25, per="day", warn_at=0.5, limits_warn_at=0.7)
    assert Bounds.stored(bounds.written()) == bounds
    assert UNBOUND.written() is None
    assert Bounds.stored(None) == UNBOUND
    assert UNBOUND.of("key_1", "the key's") == ()


def test_amounts_are_exact_and_bounded() -> None:
    assert sum(billionths(0.02) for _ in range(50)) == NANO
    assert expected(tokens=10**30, usd=1e30) == (1, MOST, MOST, 1, 0)
    assert spent(tokens=10**30, nanos=7) == (1, MOST, 7, 0, 7)
