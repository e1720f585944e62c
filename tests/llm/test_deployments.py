"""How a deployment is chosen, in numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from llm.deployments import MAX_LIMITED_S, Deployments, Pace, Place, retry_after, typical_cost
from registry.entries import Model
from registry.errors import DeploymentsBusy, UpstreamLimited, UpstreamTimeout, UpstreamUnavailable
from registry.prices import Price
from tests.llm.test_routing import model


class Dice:
    """Chance, evenly spread."""

    def __init__(self) -> None:
        self.thrown = 9

    def __call__(self) -> float:
        self.thrown += 1
        return (self.thrown % 100) / 100


def places(rule: str, **weights: float) -> Model:
    found = [{"provider": "openai", "model": name, "weight": weight} for name, weight in weights.items()]
    return model("m", deployments=found, routing=rule)


def chosen(of: Deployments, entry: Model, times: int) -> Counter[str]:
    """What is chosen so often; each call stays under way."""
    counted: Counter[str] = Counter()
    for _ in range(times):
        place = of.choose(entry, of.of(entry), None)
        place.begin(0.0)
        counted[entry.deployments[place.number].model] += 1
    return counted


def test_weights_are_shares_of_the_calls() -> None:
    of = Deployments(clock=lambda: 0.0, chance=Dice())
    assert chosen(of, places("weighted", a=3, b=1), 400) == {"a": 300, "b": 100}


def test_the_least_busy_is_that_for_its_weight() -> None:
    of = Deployments(clock=lambda: 0.0)
    assert chosen(of, places("least_busy", a=3, b=1), 40) == {"a": 30, "b": 10}


def test_the_fastest_of_late_is_chosen_but_for_some_calls_that_keep_the_figures_true() -> None:
    of = Deployments(clock=lambda: 0.0, chance=Dice())
    entry = places("lowest_latency", a=1, b=1)
    assert chosen(of, entry, 2) == {"a": 1, "b": 1}  # each once, to know it
    slow, fast = of.of(entry)
    slow.answered(2.0, 0.0)
    fast.answered(0.5, 0.0)
    counted = chosen(of, entry, 100)
    assert 0 < counted["a"] < 10
    for _ in range(20):
        slow.answered(0.1, 0.0)
    assert chosen(of, entry, 100)["a"] > 90


@pytest.mark.parametrize(
    ("prices", "only"),
    [
        ({"a": 2.0, "b": 1.0}, "b"),
        ({"a": None, "b": 50.0}, "b"),
    ],
)
def test_the_cheapest_is_that_whose_price_is_known(prices: dict[str, float | None], only: str) -> None:
    def price(place: Model) -> Price | None:
        usd = prices[place.model]
        return None if usd is None else Price(input=usd, output=usd)

    of = Deployments(clock=lambda: 0.0, prices=price)
    assert chosen(of, places("lowest_cost", a=1, b=1), 10) == {only: 10}


def test_where_no_price_is_known_weights_decide() -> None:
    of = Deployments(clock=lambda: 0.0, chance=Dice())
    assert chosen(of, places("lowest_cost", a=3, b=1), 400) == {"a": 300, "b": 100}
    assert typical_cost(None) is None


def test_a_pace_lets_a_minutes_worth_pass_at_once_and_then_one_after_the_other() -> None:
    pace = Pace(60)
    for _ in range(60):
        assert pace.wait(0.0) == 0
        pace.take(0.0, 1)
    assert pace.wait(0.0) == pytest.approx(1.0)
    assert pace.wait(1.0) == 0
    pace.take(1.0, 500)
    assert pace.wait(1.0) == pytest.approx(501 - 1)
    assert Pace(None).wait(0.0) == 0


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("nan", 0.0), ("soon", None), (None, None)],
)
def test_what_a_provider_asks_to_wait_is_read_if_it_is_of_use(said: str | None, seconds: float | None) -> None:
    assert retry_after(UpstreamLimited("m", said)) == seconds


def test_a_date_to_wait_for_is_read_too() -> None:
    assert retry_after(UpstreamLimited("m", "Fri, 01 Jan 1999 00:00:00 GMT")) == 0.0
    assert (retry_after(UpstreamLimited("m", "Fri, 01 Jan 2999 00:00:00 GMT")) or 0.0) > 1e9


def test_no_provider_keeps_itself_away_for_long() -> None:
    place = Place(places("weighted", a=1, b=1).deployments[0], 0, cools=True)
    place.failed(UpstreamLimited("m", "inf"), 0.0, was_sent=True)
    assert place.wait(0.0) == MAX_LIMITED_S


def test_one_that_fails_again_and_again_is_left_alone_for_longer_and_longer() -> None:
    place = Place(places("weighted", a=1, b=1).deployments[0], 0, cools=True)
    for _ in range(2):
        place.failed(UpstreamTimeout("m", "late"), 0.0, was_sent=True)
    assert (place.state(0.0), place.wait(0.0)) == ("healthy", 0)
    waits, now = [], 0.0
    for _ in range(6):
        place.failed(UpstreamTimeout("m", "late"), now, was_sent=True)
        waits.append(place.wait(now))
        assert place.state(now) == "cooling"
        now += waits[-1]
        assert place.state(now) == "probing"
    assert waits == [10, 20, 40, 80, 120, 120]
    place.answered(1.0, now)
    assert place.state(now) == "healthy"


def test_one_that_cannot_be_called_as_it_is_configured_is_left_alone_at_once() -> None:
    place = Place(places("weighted", a=1, b=1).deployments[0], 0, cools=True)
    place.failed(UpstreamUnavailable("m", "it has no key"), 0.0, was_sent=False)
    assert place.state(0.0) == "cooling"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(UpstreamLimited("m", "7"), DeploymentsBusy), (UpstreamUnavailable("m", "no key"), UpstreamUnavailable)],
)
def test_where_nobody_can_be_asked_the_reason_is_told(error: Any, kind: Any) -> None:
    of = Deployments(clock=lambda: 0.0)
    entry = places("weighted", a=1, b=1)
    for place in of.of(entry):
        place.failed(error, 0.0, was_sent=False)
    with pytest.raises(kind, match=r"^m: .* in (7|10) s"):
        of.choose(entry, of.of(entry), None)


def test_a_changed_entry_keeps_what_is_known_of_the_places_that_it_still_has() -> None:
    of = Deployments(clock=lambda: 0.0)
    before = places("weighted", a=1, b=1)
    of.of(before)[1].failed(UpstreamLimited("m", "7"), 0.0, was_sent=True)
    after = places("weighted", c=1, b=2)
    assert [place.state(0.0) for place in of.of(after)] == ["healthy", "cooling"]
    assert of.of(after) is of.of(places("weighted", c=1, b=2))
