"""The database: one engine, one writer thread with group commit, one reader thread. Knows no table.

Writes of all tasks are gathered while the previous commit is under way and committed together: a caller that awaits
`append` or `write` goes on when its row survives the death of the process. Nothing here blocks the event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlmodel import Session

T = TypeVar("T")

MAX_PENDING = 10_000
"""Writes waiting for the writer. Beyond it callers wait (`append`, `write`) or rows are dropped and counted (`append_later`)."""

GATHER_S = 0.002
"""How long a write waits for others to share its commit with: a commit costs as much as the writes of eight tasks."""

BUSY_TIMEOUT_MS = 5000
"""How long a write waits for another process, such as the command line, to finish its own."""


class DatabaseUnsupported(ValueError):
    """The address names a database that this version does not speak."""


@dataclass(slots=True)
class _Pending:
    change: Callable[[Connection], Any]
    atomic: bool
    done: asyncio.Future[Any] | None


def open_engine(address: str) -> Engine:
    """Open a SQLite engine: write-ahead log, foreign keys, explicit transactions.

    Raises:
        DatabaseUnsupported: the address is not SQLite's.
    """
    if not address.startswith("sqlite:///") or address.removeprefix("sqlite:///") in {"", ":memory:"}:
        raise DatabaseUnsupported(
            "hub.database: this version keeps its data in SQLite; write sqlite:///path/to/file.db"
        )
    engine = create_engine(address)

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions at the wrong moments; _begin does
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=NORMAL",  # safe against the death of the process; a power cut may lose the last commits
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("reading") else "BEGIN IMMEDIATE")

    return engine


class Database:
    """All access to the database. Made by `open_database`; safe to use from several tasks."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dropped = 0
        """Rows of `append_later` that were dropped because the writer could not keep up."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="hubbub-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="hubbub-read")
        self._pending: list[_Pending] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False

    async def read(self, query: Callable[[Session], T]) -> T:
        """Run `query` in the reader thread and return its answer."""

        def run() -> T:
            with self.engine.connect().execution_options(reading=True) as connection, Session(connection) as session:
                return query(session)

        return await asyncio.get_running_loop().run_in_executor(self._reader, run)

    async def ping(self) -> None:
        """Read something; raises whatever is wrong with the database."""
        await self.read(lambda session: session.connection().exec_driver_sql("SELECT 1"))

    async def write(self, change: Callable[[Session], T]) -> T:
        """Run `change` as one atomic part of the next commit; return its answer when it is committed."""

        def run(connection: Connection) -> T:
            with Session(connection, join_transaction_mode="create_savepoint", expire_on_commit=False) as session:
                answer = change(session)
                session.commit()
                return answer

        return await self._submit(run, atomic=True)

    async def append(self, statement: Callable[[Connection], T]) -> T:
        """Run one single statement in the next commit; return its answer when it is committed. Cheaper than `write`."""
        return await self._submit(statement, atomic=False)

    def append_later(self, statement: Callable[[Connection], object]) -> None:
        """Run one single statement in some next commit. Never waits: when the writer cannot keep up, it is dropped."""
        if len(self._pending) >= MAX_PENDING:
            self.dropped += 1
            return
        self._pending.append(_Pending(statement, atomic=False, done=None))
        self._wake.set()

    async def _submit(self, change: Callable[[Connection], T], *, atomic: bool) -> T:
        if self._closing:  # the writer may have ended: nobody would ever answer
            raise RuntimeError("the database is closed")
        while len(self._pending) >= MAX_PENDING:
            self._room.clear()
            await self._room.wait()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(change, atomic, done))
        self._wake.set()
        return await done

    async def run_writer(self) -> None:
        """Commit what is pending until `close` is called and nothing is left."""
        loop = asyncio.get_running_loop()
        while not (self._closing and not self._pending):
            await self._wake.wait()
            if not self._closing:
                await asyncio.sleep(GATHER_S)
            self._wake.clear()
            batch, self._pending = self._pending, []
            self._room.set()
            if not batch:
                continue
            outcomes = await loop.run_in_executor(self._writer, self._commit, batch)
            for pending, outcome in zip(batch, outcomes, strict=True):
                if pending.done is None or pending.done.done():
                    continue
                if isinstance(outcome, Exception):
                    pending.done.set_exception(outcome)
                else:
                    pending.done.set_result(outcome)

    def _commit(self, batch: list[_Pending]) -> list[Any]:
        try:
            with self.engine.begin() as connection:
                return [_attempt(connection, pending) for pending in batch]
        except Exception as error:  # noqa: BLE001  # the commit itself failed: every waiting caller must hear of it
            return [error] * len(batch)

    def close(self) -> None:
        """Let `run_writer` finish what is pending and end."""
        self._closing = True
        self._wake.set()

    def dispose(self) -> None:
        """Close threads and connections; after `run_writer` has ended."""
        self._writer.shutdown()
        self._reader.shutdown()
        self.engine.dispose()


def _attempt(connection: Connection, pending: _Pending) -> Any:
    """Run one change; its failure is its own answer and leaves the rest of the batch alone."""
    try:
        if pending.atomic:
            with connection.begin_nested():
                return pending.change(connection)
        return pending.change(connection)
    except Exception as error:  # noqa: BLE001  # handed to the caller that asked for the change
        return error


@asynccontextmanager
async def open_database(address: str) -> AsyncIterator[Database]:
    """Open the database and its writer; on leaving, everything pending is committed."""
    database = Database(open_engine(address))
    writer = asyncio.create_task(database.run_writer())  # not in a group: it must outlive an error or cancellation here
    try:
        yield database
    finally:
        database.close()
        await asyncio.wait([writer])
        database.dispose()
    writer.result()


def execute(connection: Connection, statement: str, values: tuple[object, ...]) -> sqlite3.Cursor:
    """Run one statement straight on the driver: a tenth of the ORM's cost, for the ledger and usage rows."""
    driver: Any = connection.connection.dbapi_connection
    cursor: sqlite3.Cursor = driver.execute(statement, values)
    return cursor
