import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.exchange import ClientGone
from registry import paces
from registry.access import Grants
from registry.entries import Agent, Model
from registry.errors import NotFound, RateLimited
from registry.gate import Gate, Settled, Usage
from registry.identity import HUB, Principal
from registry.limits import Pace

MODEL = Model(name="gpt-4o", provider="openai", model="gpt-4o")
AGENT = Agent(name="research", url="http://a.example")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def holder(*allow: str, per_minute: int | None = None, id: str = "key_1") -> Principal:
    paces = () if per_minute is None else (Pace(id, "the key's", per_minute),)
    return Principal(id=id, name="rita", grants=Grants.parse(allow), paces=paces)


@pytest.fixture
def rows() -> list[Settled]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(rows: list[Settled], clock: Clock) -> Gate:
    return Gate(rows.append, clock=clock)


def test_a_call_that_is_not_granted_is_answered_like_an_unknown_one(gate: Gate, rows: list[Settled]) -> None:
    with pytest.raises(NotFound) as refused:
        gate.admit(holder("agent:*"), MODEL)
    assert refused.value.text == NotFound("model", "gpt-4o").text
    assert rows == []


def test_an_admitted_call_leaves_one_row(gate: Gate, rows: list[Settled]) -> None:
    with gate.admit(holder("model:*"), MODEL, request_id="r1") as permit:
        permit.use()
        permit.usage = Usage(input_tokens=3, output_tokens=4)
    (row,) = rows
    assert (row.principal, row.key_name, row.kind, row.name) == ("key_1", "rita", "model", "gpt-4o")
    assert (row.outcome, row.request_id, row.usage) == ("ok", "r1", Usage(3, 4))
    assert row.duration_ms >= 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ValueError, "error"), (asyncio.CancelledError, "cancelled"), (ClientGone, "cancelled")],
)
def test_a_call_that_ends_badly_is_settled_as_what_it_was(
    gate: Gate, rows: list[Settled], error: type[BaseException], outcome: str
) -> None:
    with pytest.raises(error), gate.admit(holder("model:*"), MODEL):
        raise error
    assert [row.outcome for row in rows] == [outcome]


def test_an_estimate_is_marked(gate: Gate, rows: list[Settled]) -> None:
    with gate.admit(holder("model:*"), MODEL) as permit:
        permit.estimate(input_tokens=1, output_tokens=2)
    assert rows[0].usage == Usage(1, 2, estimated=True)


def test_a_settled_permit_opens_nothing_more(gate: Gate) -> None:
    with gate.admit(holder("model:*"), MODEL) as permit:
        pass
    with pytest.raises(RuntimeError):
        permit.use()
    with pytest.raises(RuntimeError):
        permit.settle("ok")


def test_the_hubs_own_calls_leave_no_row(gate: Gate, rows: list[Settled]) -> None:
    with gate.admit(HUB, AGENT):
        pass
    assert rows == []


def test_the_pace_is_a_minutes_worth_at_once_and_then_one_by_one(gate: Gate, clock: Clock) -> None:
    rita = holder("model:*", per_minute=3)
    for _ in range(3):
        gate.admit(rita, MODEL)
    with pytest.raises(RateLimited) as refused:
        gate.admit(rita, MODEL)
    assert refused.value.retry_after_s == pytest.approx(20)
    clock.now += 20
    gate.admit(rita, MODEL)
    with pytest.raises(RateLimited):
        gate.admit(rita, MODEL)


def test_one_keys_pace_is_not_anothers(gate: Gate) -> None:
    gate.admit(holder("model:*", per_minute=1), MODEL)
    gate.admit(holder("model:*", per_minute=1, id="key_2"), MODEL)


def test_a_refused_call_and_a_tool_call_within_a_chat_do_not_count(gate: Gate, rows: list[Settled]) -> None:
    rita = holder("model:*", per_minute=1)
    with pytest.raises(NotFound):
        gate.admit(rita, AGENT)
    with gate.admit(rita, MODEL, request_id="r1") as chat, gate.admit(rita, MODEL, within=chat):
        pass
    assert [row.request_id for row in rows] == ["r1", "r1"]


@given(st.integers(1, 1000), st.lists(st.floats(0, 90), max_size=200))
def test_no_minute_holds_more_than_twice_the_pace(per_minute: int, waits: list[float]) -> None:
    clock = Clock()
    gate = Gate(lambda _row: None, clock=clock)
    rita, admitted, told = holder("model:*", per_minute=per_minute), [], []
    for wait in waits:
        clock.now += wait
        try:
            gate.admit(rita, MODEL)
        except RateLimited as refused:
            told.append(refused.retry_after_s)
        else:
            admitted.append(clock.now)
    assert all(0 < retry_after_s <= 60 for retry_after_s in told)
    for start in admitted:
        assert sum(start <= at < start + 60 for at in admitted) <= 2 * per_minute


def test_pacing_many_keys_costs_bounded_memory(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paces, "MAX_PACED", 10)
    for number in range(30):
        gate.admit(holder("model:*", per_minute=1, id=f"key_{number}"), MODEL)
    assert len(gate._paces._next_free) == 10
