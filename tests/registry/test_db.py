import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlmodel import Session, select

from registry.store import db
from registry.store.db import Database, DatabaseUnsupported, insert, open_database, open_engine
from registry.store.tables.hub import Setting


def add(connection: sqlite3.Connection, added: list[str]) -> list[int]:
    """A change that fails when one of the names is taken."""
    for name in added:
        connection.execute("INSERT INTO settings VALUES (?, 'x')", (name,))
    return [len(name) for name in added]


def set_busy_timeout(connection: sqlite3.Connection, timeouts: list[int]) -> list[None]:
    connection.execute(f"PRAGMA busy_timeout={timeouts[-1]}")
    return [None] * len(timeouts)


async def names(database: Database) -> set[str]:
    return set(await database.read(lambda session: session.exec(select(Setting.name)).all()))


@pytest.mark.parametrize("address", ["postgresql://h/d", "sqlite://", "sqlite:///", "sqlite:///:memory:", "hub.db"])
def test_a_database_that_is_no_sqlite_file_is_refused(address: str) -> None:
    with pytest.raises(DatabaseUnsupported):
        open_engine(address)


async def test_the_write_ahead_log_and_foreign_keys_are_on(database: Database) -> None:
    async def pragma(name: str) -> object:
        return await database.read(lambda session: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar())

    assert await pragma("journal_mode") == "wal"
    assert await pragma("foreign_keys") == 1


async def test_a_write_is_there_when_it_returns(database: Database, address: str) -> None:
    await database.append(add, "a")
    async with open_database(address) as other:
        assert await names(other) == {"a"}


async def test_a_failed_write_is_told_to_its_caller_only(database: Database) -> None:
    await database.append(add, "a")
    outcomes = await asyncio.gather(
        database.append(add, "b"), database.append(add, "a"), database.append(add, "c"), return_exceptions=True
    )
    assert [isinstance(outcome, sqlite3.IntegrityError) for outcome in outcomes] == [False, True, False]
    assert await names(database) == {"a", "b", "c"}


async def test_each_value_of_a_shared_change_gets_its_own_answer(database: Database) -> None:
    assert await asyncio.gather(*(database.append(add, "n" * count) for count in (3, 1, 2))) == [3, 1, 2]


async def test_a_commit_that_fails_is_told_to_all_who_waited_for_it(database: Database, address: str) -> None:
    await database.append(set_busy_timeout, 0)
    other = sqlite3.connect(address.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    outcomes = await asyncio.gather(database.append(add, "a"), database.append(add, "b"), return_exceptions=True)
    assert [isinstance(outcome, sqlite3.OperationalError) for outcome in outcomes] == [True, True]
    other.execute("COMMIT")
    other.close()
    await database.append(add, "a")
    assert await names(database) == {"a"}


async def test_rows_whose_key_is_taken_are_left_out_and_not_counted(database: Database) -> None:
    def fill(connection: sqlite3.Connection, counts: list[int]) -> list[int]:
        return [
            insert(connection, "settings (name, value)", [(f"n{n % 90}", str(n)) for n in range(count)])
            for count in counts
        ]

    assert await database.append(fill, 100) == 90
    assert await database.append(fill, 100) == 0
    assert await database.read(lambda session: session.get(Setting, "n5").value) == "5"


async def test_a_write_that_fails_halfway_leaves_nothing_behind(database: Database) -> None:
    def half(session: Session) -> None:
        session.add(Setting(name="half", value="x"))
        session.flush()
        raise LookupError

    whole, failed = await asyncio.gather(database.append(add, "whole"), database.write(half), return_exceptions=True)
    assert not isinstance(whole, Exception)
    assert isinstance(failed, LookupError)
    assert await names(database) == {"whole"}


async def test_what_is_pending_is_written_when_the_block_is_left(address: str) -> None:
    async with open_database(address) as database:
        for number in range(100):
            database.append_later(add, f"n{number}")
    async with open_database(address) as database:
        assert len(await names(database)) == 100


async def test_what_is_pending_is_written_also_when_the_block_is_left_by_an_error(address: str) -> None:
    async def fail() -> None:
        async with open_database(address) as database:
            database.append_later(add, "a")
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    async with open_database(address) as database:
        assert await names(database) == {"a"}


async def test_what_is_pending_is_written_also_when_the_task_is_cancelled(address: str) -> None:
    entered = asyncio.Event()

    async def hold() -> None:
        async with open_database(address) as database:
            database.append_later(add, "a")
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with open_database(address) as database:
        assert await names(database) == {"a"}


async def test_a_write_after_the_end_is_refused_and_does_not_wait_for_ever(address: str) -> None:
    async with open_database(address) as database:
        pass
    async with asyncio.timeout(5):
        with pytest.raises(RuntimeError, match="closed"):
            await database.append(add, "a")


async def test_rows_beyond_the_bound_are_dropped_and_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "MAX_PENDING", 3)
    for number in range(5):
        database.append_later(add, f"n{number}")
    assert database.dropped == 2
    await database.append(add, "waits for room")
    assert len(await names(database)) == 4


async def test_two_processes_write_in_turn(database: Database, address: str) -> None:
    async with open_database(address) as other:
        await asyncio.gather(*(each.append(add, f"{n}") for n, each in enumerate([database, other] * 20)))
        assert len(await names(other)) == 40


def where(_connection: sqlite3.Connection, values: list[None]) -> list[str]:
    return [threading.current_thread().name] * len(values)


async def test_an_append_is_committed_on_the_event_loop_unless_another_process_writes(
    database: Database, address: str
) -> None:
    await database.append(add, "opens the connections")
    assert await database.append(where, None) == threading.current_thread().name
    with closing(sqlite3.connect(address.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(database.append(where, None))
        assert await asyncio.to_thread(len, "the loop goes on") == 16
        assert not waiting.done()
        other.execute("COMMIT")
    assert await waiting == "hubbub-write"


async def test_after_a_slow_commit_the_next_ones_are_the_threads(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "PAUSE", 1e9)
    clock = asyncio.get_running_loop().time

    def where_slowly(connection: sqlite3.Connection, values: list[None]) -> list[str]:
        end = clock() + 2 * db.HERE_MAX_S
        while clock() < end:
            pass
        return where(connection, values)

    await database.append(add, "opens the connections")
    assert await database.append(where_slowly, None) == threading.current_thread().name
    assert await database.append(where, None) == "hubbub-write"


async def test_the_log_is_copied_back_while_appends_go_on(
    database: Database, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "BATCHES_HERE", 3)
    await database.write(lambda session: session.connection().exec_driver_sql("PRAGMA wal_autocheckpoint=1"))
    for number in range(20):
        await database.append(add, f"n{number}")
    without_log = tmp_path / "copy.db"
    without_log.write_bytes(Path(address.removeprefix("sqlite:///")).read_bytes())
    with closing(sqlite3.connect(without_log)) as copy:
        assert copy.execute("SELECT count(*) FROM settings WHERE name LIKE 'n%'").fetchone()[0] >= 16


async def test_a_caller_that_gave_up_does_not_disturb_the_others(database: Database) -> None:
    async def caller(name: str) -> None:
        await database.append(add, name)

    task = asyncio.create_task(caller("left"))
    other = asyncio.create_task(caller("stays"))
    await asyncio.sleep(0)
    task.cancel()
    await other
    assert "stays" in await names(database)


async def test_the_database_survives_as_one_file(address: str) -> None:
    async with open_database(address) as database:
        await database.append(add, "a")
    assert [path.name for path in Path(address.removeprefix("sqlite:///")).parent.glob("hub.db*")] == ["hub.db"]
