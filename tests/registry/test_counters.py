import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from registry.access import Grants
from registry.entries import Agent, Model
from registry.errors import LimitReached, OverBudget, PriceUnknown, UpstreamRefused, UpstreamTimeout
from registry.gate import Gate, Permit, Usage
from registry.identity import HUB, Principal
from registry.ledger.events import DEAD_S, Events
from registry.limits import NOTHING, Bounds, Limit, expected, spent
from registry.spending.counters import Counters
from registry.store.db import Database, open_database

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
AGENT = Agent(name="research", url="http://a.example", call_usd=0.02)
MODEL = Model(name="gpt", provider="openai", model="gpt")


class Clock:
    now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counters(database: Database, clock: Clock) -> Counters:
    return Counters(database, "one", clock=clock)


@pytest.fixture
def gate(counters: Counters) -> Gate:
    return Gate(lambda _settled: None, counters)


def limits(**bounds: object) -> tuple[Limit, ...]:
    return Bounds(**bounds).of("key_1", "the key's")  # type: ignore[arg-type]


def holder(**bounds: object) -> Principal:
    return Principal(id="key_1", name="rita", grants=Grants.parse(["agent:*", "model:*"]), limits=limits(**bounds))


async def used(counters: Counters, wanted: tuple[Limit, ...]) -> list[float]:
    return [limit.shown(amount) for limit, amount, _ in await counters.used(wanted)]


async def call(gate: Gate, principal: Principal) -> None:
    with gate.admit(principal, AGENT) as permit:
        await permit.reserve()
        permit.use()
        permit.charge(AGENT.call_usd)


async def passed(gate: Gate, principal: Principal, tries: int) -> int:
    outcomes = await asyncio.gather(*(call(gate, principal) for _ in range(tries)), return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, LimitReached) for outcome in outcomes), outcomes
    return outcomes.count(None)


@pytest.mark.parametrize("bounds", [{"calls_per_day": 50}, {"usd": 1.0, "per": "day"}])
@pytest.mark.attack("2.1/41", defence="registry.spending.counters:Counters._ask")
async def test_exactly_as_many_calls_pass_as_the_limit_has_at_once(gate: Gate, bounds: dict[str, object]) -> None:
    assert await passed(gate, holder(**bounds), 100) == 50


async def test_two_processes_share_what_is_left(address: str, clock: Clock) -> None:
    async with open_database(address) as one, open_database(address) as other:
        gates = [
            Gate(lambda _settled: None, Counters(data, name, clock=clock)) for data, name in ((one, "a"), (other, "b"))
        ]
        found = await asyncio.gather(*(passed(gate, holder(calls_per_day=50), 100) for gate in gates))
    assert sum(found) == 50


async def test_what_one_limit_refuses_is_taken_from_none(gate: Gate, counters: Counters) -> None:
    principal = holder(calls_per_day=2, usd=0.02, per="day")
    assert await passed(gate, principal, 5) == 1
    assert await used(counters, principal.limits) == [1, 0.02]


async def test_what_one_lease_is_too_short_for_is_taken_from_no_other(gate: Gate, counters: Counters) -> None:
    rita = holder(calls_per_day=1000, usd=1.0, per="day")
    assert sum([await passed(gate, rita, 1) for _ in range(60)]) == 50
    assert await used(counters, rita.limits) == [50, 1.0]


async def test_a_span_ends_and_a_refusal_says_when(gate: Gate, clock: Clock) -> None:
    principal = holder(calls_per_minute=1)
    clock.now = NOON + 45
    await call(gate, principal)
    with pytest.raises(LimitReached, match=r"The key's calls_per_minute of 1 is used up; try again in 15 s") as refused:
        await call(gate, principal)
    assert refused.value.retry_after_s == 15
    clock.now = NOON + 60
    await call(gate, principal)


async def test_a_budget_that_is_used_up_is_an_error_of_its_own(gate: Gate) -> None:
    principal = holder(usd=0.03, per="month")
    await call(gate, principal)
    with pytest.raises(OverBudget, match=r"budget of 0.03 USD per month is used up"):
        await call(gate, principal)


async def test_a_budget_of_a_minute_is_there_again_with_the_next_one(gate: Gate, clock: Clock) -> None:
    principal = holder(usd=0.03, per="minute")
    clock.now = NOON + 45
    await call(gate, principal)
    with pytest.raises(OverBudget, match=r"budget of 0.03 USD per minute is used up; try again in 15 s") as refused:
        await call(gate, principal)
    assert refused.value.retry_after_s == 15
    clock.now = NOON + 60
    await call(gate, principal)


async def test_a_call_that_can_never_fit_is_told_so(gate: Gate) -> None:
    with gate.admit(holder(tokens_per_day=2_000_000), MODEL) as permit:
        permit.expect(tokens=2_000_001, usd=None)
        with pytest.raises(
            LimitReached, match="may use 2000001 tokens, more than the key's tokens_per_day of 2000000"
        ) as never:
            await permit.reserve()
        assert never.value.retry_after_s is None


async def test_under_a_budget_what_has_no_price_is_refused_by_name(gate: Gate, counters: Counters) -> None:
    principal = holder(usd=1.0)
    with pytest.raises(PriceUnknown, match="gpt has no price"), gate.admit(principal, MODEL) as permit:
        await permit.reserve()
    with gate.admit(principal, MODEL) as permit:
        permit.expect(tokens=10, usd=0.0)
        await permit.reserve()
        permit.use()
    assert await used(counters, principal.limits) == [0]


async def test_nothing_is_sent_that_was_not_reserved(gate: Gate) -> None:
    with gate.admit(holder(calls_per_day=5), AGENT) as permit:
        with pytest.raises(RuntimeError, match="before it was reserved"):
            permit.use()
        await permit.reserve()
        permit.use()
        permit.expect(tokens=5, usd=0.0)
        with pytest.raises(RuntimeError, match="before it was reserved"):
            permit.use()


@pytest.mark.attack("2.1/37")
async def test_a_gate_without_counters_lets_nobody_through_who_has_limits() -> None:
    with Gate(lambda _settled: None).admit(holder(calls_per_day=5), AGENT) as permit:
        with pytest.raises(AssertionError):
            await permit.reserve()
        with pytest.raises(RuntimeError):
            permit.use()


async def test_the_hub_itself_counts_against_no_entrys_limits(gate: Gate) -> None:
    entry = Agent(name="a", url="http://a.example", limits=limits(calls_per_day=1))
    for _ in range(2):
        with gate.admit(HUB, entry) as permit:
            permit.use()


async def test_an_entrys_limits_are_those_of_all_its_callers(gate: Gate) -> None:
    entry = Agent(name="a", url="http://a.example", limits=Bounds(calls_per_day=1).of("agent a", "a's"))
    callers = [Principal(id=name, name=name, grants=Grants.parse(["agent:*"])) for name in ("one", "two")]
    with gate.admit(callers[0], entry) as permit:
        await permit.reserve()
        permit.use()
    with pytest.raises(LimitReached, match="A's calls_per_day of 1"), gate.admit(callers[1], entry) as permit:
        await permit.reserve()


class _Settling:
    """How one call ended."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.principal = holder(calls_per_day=10, tokens_per_day=1000, usd=1.0, per="day")

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Permit]:
        with self.gate.admit(self.principal, MODEL) as permit:
            permit.expect(tokens=100, usd=0.5)
            await permit.reserve()
            permit.use()
            yield permit


@pytest.fixture
def settling(gate: Gate) -> Iterator[_Settling]:
    return _Settling(gate)  # type: ignore[return-value]


async def test_a_call_settles_at_what_it_used(settling: _Settling, counters: Counters) -> None:
    async with settling.call() as permit:
        permit.usage = Usage(input_tokens=3, output_tokens=4, cost_usd=0.25)
    assert await used(counters, settling.principal.limits) == [7, 1, 0.25]


async def test_a_call_that_used_more_than_was_reserved_counts_as_it_did(
    settling: _Settling, counters: Counters
) -> None:
    async with settling.call() as permit:
        permit.usage = Usage(input_tokens=2000, output_tokens=4, cost_usd=1.5)
    assert await used(counters, settling.principal.limits) == [2004, 1, 1.5]


async def test_a_call_that_the_other_side_refused_used_nothing_but_itself(
    settling: _Settling, counters: Counters
) -> None:
    with pytest.raises(UpstreamRefused):
        async with settling.call():
            raise UpstreamRefused("gpt", 401)
    assert await used(counters, settling.principal.limits) == [0, 1, 0]


@pytest.mark.parametrize("error", [UpstreamTimeout("gpt", "late"), asyncio.CancelledError()])
async def test_a_call_of_which_nothing_was_heard_settles_at_what_was_reserved(
    settling: _Settling, counters: Counters, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        async with settling.call():
            raise error
    assert await used(counters, settling.principal.limits) == [100, 1, 0.5]


async def test_a_call_that_was_not_sent_is_given_back(settling: _Settling, counters: Counters) -> None:
    async with settling.call() as permit:
        permit.missed()
    assert await used(counters, settling.principal.limits) == [0, 0, 0]


async def test_an_attempt_elsewhere_reserves_only_what_it_may_use_more(settling: _Settling, counters: Counters) -> None:
    async with settling.call() as permit:
        permit.expect(tokens=150, usd=0.2)
        await permit.reserve()
        permit.use()
        assert await used(counters, settling.principal.limits) == [150, 1, 0.5]


async def test_a_caller_who_leaves_while_it_is_reserved_holds_nothing(counters: Counters) -> None:
    wanted = limits(calls_per_day=1)
    reserving = asyncio.ensure_future(counters.reserve(wanted, expected()))
    await asyncio.sleep(0)  # it waits for its commit now
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    assert await used(counters, wanted) == [0]


async def test_calls_under_way_are_counted_in_all_living_processes(database: Database, clock: Clock) -> None:
    names = ("one", "other")
    events = [Events(database, name) for name in names]
    one, other = (Counters(database, name) for name in names)
    wanted = limits(concurrent_calls=2)
    for each in events:
        await each.begin()
    held = await one.reserve(wanted, expected())
    await other.reserve(wanted, expected())
    with pytest.raises(LimitReached, match="concurrent_calls of 2 are under way"):
        await one.reserve(wanted, expected())
    one.settle(held, spent())
    await one.reserve(wanted, expected())
    assert await used(one, wanted) == [2]


async def test_calls_under_way_of_a_process_that_died_count_no_more(database: Database) -> None:
    dead, living = Counters(database, "dead"), Counters(database, "living")
    wanted = limits(concurrent_calls=1, calls_per_day=5)
    for name in ("dead", "living"):
        await Events(database, name).begin()
    await dead.reserve(wanted, expected())
    with pytest.raises(LimitReached):
        await living.reserve(wanted, expected())

    def silence(session: object) -> None:
        session.connection().exec_driver_sql(
            "UPDATE hub_processes SET seen_at = seen_at - ? WHERE id = 'dead'", (DEAD_S + 1,)
        )  # type: ignore[attr-defined]

    await database.write(silence)
    await living.reserve(wanted, expected())
    assert await used(living, wanted) == [2, 1]  # what it sent counts as it was reserved


async def test_a_budget_warns_once_a_span(gate: Gate, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "registry.spending.counters")
    principal = holder(usd=0.1, per="day", warn_at=0.6)

    async def warned() -> int:
        await call(gate, principal)
        return len(caplog.records)

    assert [await warned() for _ in range(5)] == [0, 0, 1, 1, 1]
    clock.now += 86_400
    assert [await warned() for _ in range(3)] == [1, 1, 2]


async def test_what_comes_back_is_no_longer_warned_of(counters: Counters) -> None:
    wanted = limits(concurrent_calls=4, tokens_per_day=100, limits_warn_at=0.75)
    held = [await counters.reserve(wanted, expected(tokens=25)) for _ in range(3)]
    assert [[one.name for one in counters.near(each)] for each in held][-1] == [
        "tokens_per_day",
        "concurrent_calls",
    ]
    for one in held[:2]:
        counters.settle(one, spent(tokens=5))
    assert counters.near(await counters.reserve(wanted, expected(tokens=5))) == []


async def test_counters_of_spans_that_are_long_over_are_forgotten(
    counters: Counters, clock: Clock, database: Database
) -> None:
    await counters.reserve(limits(calls_per_day=5, calls_per_minute=5), expected())
    clock.now += 2 * 86_400
    running = asyncio.create_task(counters.run())
    await database.committed()
    await database.committed()
    running.cancel()
    count = await database.read(
        lambda session: session.connection().exec_driver_sql("SELECT count(*) FROM counters").scalar()
    )
    assert count == 0


async def test_what_was_used_before_is_written_with_the_next_reservation(counters: Counters) -> None:
    wanted = limits(calls_per_day=1)
    held = await counters.reserve(wanted, expected())
    counters.settle(held, NOTHING)
    await counters.reserve(wanted, expected())


async def test_a_call_that_asks_for_more_after_its_span_ended_counts_what_it_used_where_it_began(
    counters: Counters, clock: Clock
) -> None:
    wanted = limits(tokens_per_minute=10)
    held = await counters.reserve(wanted, expected(tokens=10))
    clock.now += 60
    held = await counters.reserve(wanted, expected(tokens=30), held)
    assert await used(counters, wanted) == [0]
    clock.now -= 60
    assert await used(counters, wanted) == [30]
    counters.settle(held, spent(tokens=4))
    assert await used(counters, wanted) == [4]
