"""Parts of limits that processes count by themselves: how few commits they cost, who gets them back, and what a death leaves."""

from __future__ import annotations

import asyncio
import fcntl
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from registry.errors import LimitReached, OverBudget
from registry.ledger.events import Events
from registry.limits import Amounts, Bounds, Limit, expected, spent
from registry.spending import counters as counting
from registry.spending.counters import Counters
from registry.spending.leases import SLOTS, Record, spent_of
from registry.store.db import Database, open_database

FAR = 1_000_000


def limits(**bounds: object) -> tuple[Limit, ...]:
    return Bounds(**bounds).of("key_1", "the key's")  # type: ignore[arg-type]


@asynccontextmanager
async def process(address: str, name: str) -> AsyncIterator[Counters]:
    """One of several on a database."""
    async with open_database(address) as database:
        await Events(database, name).begin()
        counters = Counters(database, name)
        running = asyncio.create_task(counters.run())
        try:
            yield counters
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await counters.aclose()


async def used(counters: Counters, wanted: tuple[Limit, ...]) -> list[int]:
    return [amount for _, amount, _ in await counters.used(wanted)]


async def passed(counters: Counters, wanted: tuple[Limit, ...], tries: int) -> int:
    found = 0
    for _ in range(tries):
        with suppress(LimitReached):
            await counters.reserve(wanted, expected())
            found += 1
    return found


def kill(counters: Counters) -> None:
    """Let go of the record's lock, as the system does when a process is killed."""
    file = counters._record._file
    assert file is not None
    fcntl.flock(file, fcntl.LOCK_UN)


async def test_far_from_a_limit_calls_cost_no_commit_of_their_own(database: Database) -> None:
    counters = Counters(database, "one")
    commits = 0
    append = database.append

    def counted(*values: object) -> object:
        nonlocal commits
        commits += 1
        return append(*values)  # type: ignore[arg-type]

    database.append = counted  # type: ignore[method-assign, assignment]
    wanted = limits(calls_per_day=FAR, tokens_per_day=FAR, usd=FAR, concurrent_calls=FAR)
    for _ in range(500):
        held = await counters.reserve(wanted, (1, 20, 1000, 1, 0))
        counters.settle(held, spent(tokens=5, nanos=800))
    assert commits == 1
    assert await used(counters, wanted) == [2500, 500, 0, 400_000]


async def test_what_one_process_holds_and_does_not_use_goes_to_another_that_would_be_refused(address: str) -> None:
    wanted = limits(calls_per_day=320)
    async with process(address, "a") as one, process(address, "b") as other:
        assert await passed(one, wanted, 1) == 1
        assert one._leases[wanted[0].counter].left > 10
        assert await passed(other, wanted, 400) == 319
        assert await used(one, wanted) == await used(other, wanted) == [320]


async def test_calls_at_a_time_move_to_where_they_are_wanted(address: str) -> None:
    wanted = limits(concurrent_calls=1)
    async with process(address, "a") as one, process(address, "b") as other:
        for counters in (one, other, one):
            held = await counters.reserve(wanted, expected())
            assert await used(other, wanted) == [1]
            counters.settle(held, spent())
            assert await used(other, wanted) == [0]


async def test_what_a_killed_process_had_not_spent_comes_back_and_what_it_spent_stays(address: str) -> None:
    wanted = limits(calls_per_day=320, concurrent_calls=2)
    async with AsyncExitStack() as stack:
        dead = await stack.enter_async_context(process(address, "dead"))
        for _ in range(2):
            await dead.reserve(wanted, expected())
        kill(dead)
        living = await stack.enter_async_context(process(address, "living"))
        assert (await used(living, wanted))[0] == 2
        assert await passed(living, wanted[:1], 400) == 318
        await living.reserve(wanted[1:], expected())
        assert await used(living, wanted) == [320, 1]


async def test_a_record_that_goes_while_usage_is_read_is_not_taken_for_everything_spent(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = limits(calls_per_day=320)
    gone = [True]  # the first look comes between the end of a dead process's record and what was written before it
    monkeypatch.setattr(counting, "spent_of", lambda *place: None if gone and gone.pop() else spent_of(*place))
    async with process(address, "a") as one:
        await one.reserve(wanted, expected())
        assert await used(one, wanted) == [1]
        assert not gone


async def test_a_process_that_ends_leaves_nothing_behind(address: str, database: Database) -> None:
    wanted = limits(calls_per_day=320)
    async with process(address, "a") as one:
        await one.reserve(wanted, expected())
    assert await database.read(lambda session: session.connection().exec_driver_sql("SELECT * FROM leases").all()) == []
    assert [path.name for path in database.path.parent.glob("*-leases-*")] == []
    assert await used(Counters(database, "b"), wanted) == [1]


async def test_without_a_record_each_call_asks_the_database(database: Database) -> None:
    (database.path.parent / f"{database.path.name}-leases-one.new").touch()
    counters = Counters(database, "one")
    wanted = limits(calls_per_day=FAR)
    assert await passed(counters, wanted, 20) == 20
    assert counters._leases[wanted[0].counter].left == 0
    assert await used(counters, wanted) == [20]


def test_a_record_has_so_many_slots_and_then_none(database: Database) -> None:
    record = Record(database.path, "one")
    slots = [record.slot() for _ in range(SLOTS)]
    assert len(set(slots[:-2])) == SLOTS - 2
    assert slots[-1] == slots[-2] == 1
    record.cells[slots[0]] = 7
    record.free(slots[0])
    assert record.slot() == slots[0]
    assert record.cells[slots[0]] == 0


@pytest.mark.parametrize("seed", range(4))
async def test_of_any_calls_in_any_order_just_what_they_used_is_counted(address: str, seed: int) -> None:
    chance = random.Random(seed)
    wanted = limits(calls_per_day=300, tokens_per_day=20_000, usd=0.00002, concurrent_calls=6)
    total = [0, 0, 0]
    async with process(address, "a") as one, process(address, "b") as other:

        async def caller(counters: Counters) -> None:
            for _ in range(12):
                may: Amounts = (1, chance.randrange(200), chance.randrange(300), 1, 0)
                try:
                    held = await counters.reserve(wanted, may)
                    if chance.random() < 0.3:
                        may = (1, chance.randrange(400), chance.randrange(300), 1, 0)
                        with suppress(LimitReached, OverBudget):
                            held = await counters.reserve(wanted, may, held)
                except (LimitReached, OverBudget):
                    continue
                await asyncio.sleep(chance.random() * 0.01)
                used_up = chance.randrange(2), chance.randrange(250), chance.randrange(300)
                for number, amount in enumerate(used_up):
                    total[number] += amount
                counters.settle(held, (*used_up, 0, 0))

        await asyncio.gather(*(caller(counters) for counters in (one, other) for _ in range(8)))
        calls, tokens, usd = total
        for counters in (one, other):
            await counters.flush()
        assert await used(one, wanted) == await used(other, wanted) == [tokens, calls, 0, usd]
        assert calls <= 300
