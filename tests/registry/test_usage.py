import asyncio
import sqlite3
from typing import Any

import pytest

from registry.gate import Settled, Usage
from registry.spending import usage as usage_module
from registry.spending.usage import SUMS, UsageLog, summary
from registry.store.db import Database


def row(name: str = "gpt-4o", *, at: float = 100.0, outcome: str = "ok", **tokens: float) -> Settled:
    return Settled(
        at=at,
        principal="key_1",
        key_name="rita",
        kind="model",
        name=name,
        outcome=outcome,
        duration_ms=1.5,
        usage=Usage(**tokens),
        request_id="r",
    )


async def total(database: Database, by: tuple[str, ...] = (), since: float | None = None, until: float | None = None):
    return await database.read(lambda session: summary(session, by, since, until))


async def test_rows_are_counted_by_what_is_asked(database: Database) -> None:
    log = UsageLog(database)
    log.record(row(input_tokens=1, output_tokens=2))
    log.record(row(input_tokens=10, output_tokens=20, cost_usd=0.5, outcome="error"))
    log.record(row(outcome="cancelled"))
    log.record(row("claude"))
    await log.flush()
    nothing = dict.fromkeys(SUMS)
    assert await total(database, ("name",)) == [
        {"name": "claude", "calls": 1, "errors": 0, **nothing},
        {
            "name": "gpt-4o",
            "calls": 3,
            "errors": 2,
            **nothing,
            "input_tokens": 11,
            "output_tokens": 22,
            "cost_usd": 0.5,
        },
    ]
    (whole,) = await total(database, ("key", "kind"))
    assert whole["calls"] == 4
    assert (type(whole["errors"]), whole["errors"]) == (int, 2)


async def test_a_period_holds_its_start_and_not_its_end(database: Database) -> None:
    log = UsageLog(database)
    for at in (1.0, 2.0, 3.0):
        log.record(row(at=at))
    await log.flush()
    assert (await total(database, since=1.0, until=3.0))[0]["calls"] == 2


async def test_what_is_buffered_is_written_when_the_log_is_stopped(database: Database) -> None:
    log = UsageLog(database)
    running = asyncio.create_task(log.run())
    await asyncio.sleep(0)
    log.record(row())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await total(database))[0]["calls"] == 1


async def test_a_database_that_cannot_be_written_costs_no_row_and_no_call(
    database: Database, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = UsageLog(database)
    await database.append(lambda connection, values: [connection.execute("PRAGMA busy_timeout=0")] and values, None)
    other = sqlite3.connect(address.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    log.record(row())
    await log.flush()
    log.record(row("later"))
    other.execute("COMMIT")
    other.close()
    await log.flush()
    assert [found["name"] for found in await total(database, ("name",))] == ["gpt-4o", "later"]
    assert log.dropped == 0


async def test_who_asks_while_rows_are_being_written_waits_for_them(database: Database) -> None:
    log = UsageLog(database)
    for _ in range(3 * usage_module.ROWS_AT_ONCE):
        log.record(row())

    async def asked() -> int:
        await log.flush()
        return int((await total(database))[0]["calls"])

    assert await asyncio.gather(*(asked() for _ in range(3))) == [3 * usage_module.ROWS_AT_ONCE] * 3


async def test_rows_beyond_the_bound_push_out_the_oldest_and_are_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "MAX_BUFFERED", 3)
    log = UsageLog(database)
    for number in range(5):
        log.record(row(f"m{number}"))
    await log.flush()
    assert [found["name"] for found in await total(database, ("name",))] == ["m2", "m3", "m4"]
    assert log.dropped == 2


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"outcome": "\udc80"}, id="text that is no Unicode"),
        pytest.param({"input_tokens": 2**64}, id="more than 64 bit"),
        pytest.param({"output_tokens": {}}, id="no number"),
    ],
)
async def test_a_row_that_cannot_be_written_takes_no_other_with_it_and_is_counted_and_told(
    database: Database, caplog: pytest.LogCaptureFixture, bad: dict[str, Any]
) -> None:
    log = UsageLog(database)
    for one in (row("before"), row("bad", **bad), row("after")):
        log.record(one)
    await log.flush()
    assert [found["name"] for found in await total(database, ("name",))] == ["after", "before"]
    assert log.dropped == 1
    assert [record.message for record in caplog.records] == ["a call's usage cannot be written and is lost"]
    log.record(row("later"))
    await log.flush()
    assert (await total(database))[0]["calls"] == 3
