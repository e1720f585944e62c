"""The database: one engine, group commit, one writer thread, one reader thread. Knows no table.

Writes of all tasks are gathered and committed together: a caller that awaits `append` or `write` goes on when its row
survives the death of the process. Small appends are committed on the event loop itself, which costs them a third less
than a thread; whatever could wait there (another process that writes, a slow disk, copying the log back, `write`) is
the writer thread's (docs/decisions/0005).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar, cast

import msgspec
from sqlalchemy import Connection, Engine, create_engine, event
from sqlmodel import Session

from registry.company import Company

logger = logging.getLogger(__name__)

T = TypeVar("T")
V = TypeVar("V")

# The driver looks for an adapter of all that is no number or text, and takes longest to find that there is none.
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(type(None), cast("Any", {}.get))

Change = Callable[[sqlite3.Connection, list[V]], Sequence[T]]
"""Writes a batch of values and answers each, in their order. Runs in the writer thread, inside a transaction.

All values that came for the same change since the last commit are handed to it together. If it raises, nothing of it is
kept and it is run again for each value alone, so that its error is told to the one who brought it on.
"""

MAX_PENDING = 10_000
"""Writes waiting for the writer. Beyond it callers wait (`append`, `write`) or rows are dropped and counted (`append_later`)."""

ROWS_A_STEP = 32
"""Rows of one INSERT. Each step of SQLite gives the interpreter away and has to win it back from a busy event loop."""

HERE_MAX_ROWS = 64
"""Appends committed at once on the event loop: some 2 ms of it."""

HERE_MAX_S = 0.02
"""A commit on the event loop that took longer sends the next ones to the writer thread, for up to PAUSE times as long."""

PAUSE = 10
"""So a slow disk holds the loop for a tenth of the time at most. It is as long as the commit after the first slow one, and twice that
after each further one in a row: a busy machine looks the same once, and there the thread takes ten times as long as the loop."""

BATCHES_HERE = 500
"""After so many, one goes to the writer thread, whose connection copies the write-ahead log back when it is long."""

BUSY_TIMEOUT_MS = 5000
"""How long a write waits for another process, such as the command line, to finish its own."""


class DatabaseUnsupported(ValueError):
    """The address names a database that this version does not speak."""


class _Pending(msgspec.Struct, eq=False):
    """One value on its way into the database. A Struct: made for every write."""

    change: Any
    value: Any
    done: asyncio.Future[Any] | None
    atomic: bool = False
    """A change of `write`, which is a transaction by itself."""
    outcome: Any = None
    error: Exception | None = None


def open_engine(address: str) -> Engine:
    """Open a SQLite engine: write-ahead log, foreign keys, explicit transactions.

    Raises:
        DatabaseUnsupported: the address is not SQLite's.
    """
    if not address.startswith("sqlite:///") or address.removeprefix("sqlite:///") in {"", ":memory:"}:
        raise DatabaseUnsupported(
            "hub.database: this version keeps its data in SQLite; write sqlite:///path/to/file.db"
        )
    engine = create_engine(address, hide_parameters=True)  # errors with rows in them are logged

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions at the wrong moments; _begin does
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "page_size=2048",  # ids are random: each row touches a page of its own in an index, and pages are written whole
            "journal_mode=WAL",
            "wal_autocheckpoint=4000",  # pages, so 8 MB: a page that changes often is copied back once
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
        """Rows of `append_later` that were dropped: the writer could not keep up, or the database would not have them."""
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="hubbub-read")
        self._loop = asyncio.get_running_loop()
        self._pending: list[_Pending] = []
        self._company = Company(lambda: len(self._pending), self._hand_over)
        self._committing = False
        self._late = False
        """What is pending has waited long enough, and the writer is to have it as soon as it is free."""
        self._finished = asyncio.Event()
        self._closing = False
        self._batches: SimpleQueue[list[_Pending] | None] = SimpleQueue()
        self._connection: Connection | None = None
        """The writer thread's own."""
        self._driver: Any = None
        """The same, without SQLAlchemy around it."""
        self._here: Any = None
        """The event loop's own driver connection, which waits for nobody; None: not open yet."""
        self._here_until = BATCHES_HERE
        self._here_after = 0.0
        """Not before this time of the event loop."""
        self._slow_in_row = 0
        self._writer = Thread(target=self._write_batches, name="hubbub-write", daemon=True)
        self._writer.start()

    @property
    def path(self) -> Path:
        """The database's file."""
        return Path(self.engine.url.database or "")

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
        """Run `change` as one transaction; return its answer when it is committed."""
        done: asyncio.Future[T] = self._loop.create_future()
        return await self._submit(_Pending(change, None, done, atomic=True), done)

    def append(self, change: Change[V, T], value: V) -> Awaitable[T]:
        """Have `change` write `value` in the next commit; await its answer, which is there when it is committed.

        Cheaper than `write`. A plain function: each coroutine on the way costs every call a microsecond.
        """
        done: asyncio.Future[T] = self._loop.create_future()
        return self._submit(_Pending(change, value, done), done)

    def append_later(self, change: Change[V, object], value: V) -> None:
        """Have `change` write `value` in some next commit. Never waits: when the writer cannot keep up, it is dropped."""
        if len(self._pending) >= MAX_PENDING:
            self.dropped += 1
            return
        self._add(_Pending(change, value, None))

    async def committed(self) -> None:
        """Wait until everything that was appended before is committed."""
        await self.append(_nothing, None)

    def _submit(self, pending: _Pending, done: asyncio.Future[T]) -> Awaitable[T]:
        if self._closing:  # the writer may have ended: nobody would ever answer
            raise RuntimeError("the database is closed")
        if len(self._pending) >= MAX_PENDING:
            return self._submit_later(pending, done)
        self._add(pending)
        return done

    async def _submit_later(self, pending: _Pending, done: asyncio.Future[T]) -> T:
        while len(self._pending) >= MAX_PENDING:
            self._finished.clear()
            await self._finished.wait()
        return await self._submit(pending, done)

    def _add(self, pending: _Pending) -> None:
        self._pending.append(pending)
        self._company.wait()

    def _hand_over(self) -> None:
        """Give the writer what is pending, now or as soon as it is free."""
        if self._committing:
            self._late = True
        elif self._pending:
            self._committing = True
            self._late = False
            batch, self._pending = self._pending, []
            if self._commits_here(batch):
                self._finish(batch)
            else:
                self._here_until = BATCHES_HERE
                self._batches.put(batch)

    def _commits_here(self, batch: list[_Pending]) -> bool:
        """Commit a batch on the event loop; False: nothing was done, the writer thread has to."""
        self._here_until -= 1
        begin = self._loop.time()
        if self._here is None or self._here_until < 0 or begin < self._here_after or len(batch) > HERE_MAX_ROWS:
            return False
        if any(pending.atomic for pending in batch):
            return False
        try:
            self._here.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # another process writes, or the disk has a word to say
            return False
        _transact(lambda: self._here, batch, begun=True)
        end = self._loop.time()
        if end - begin > HERE_MAX_S:
            self._here_after = end + min(PAUSE, 1 << self._slow_in_row) * (end - begin)
            self._slow_in_row = min(self._slow_in_row + 1, PAUSE)
        else:
            self._slow_in_row = 0
        return True

    def _finish(self, batch: list[_Pending]) -> None:
        """Answer those who wait for a batch that was committed, or failed."""
        self._committing = False
        if self._late:
            self._hand_over()
        for pending in batch:
            done = pending.done
            if done is None:
                if pending.error is not None:
                    self.dropped += 1
                    logger.error("a row cannot be written and is lost", extra={"reason": str(pending.error)})
            elif done.done():
                continue
            elif pending.error is None:
                done.set_result(pending.outcome)
            else:
                done.set_exception(pending.error)
        self._finished.set()

    def _write_batches(self) -> None:
        """The writer thread."""
        while (batch := self._batches.get()) is not None:
            appended = [pending for pending in batch if not pending.atomic]
            if appended:
                _transact(self._open_driver, appended)
            for pending in batch:
                if pending.atomic:
                    self._write(pending)
            self._loop.call_soon_threadsafe(self._finish, batch)
        if self._connection is not None:
            self._connection.close()

    def _write(self, pending: _Pending) -> None:
        try:
            with Session(self._open(), expire_on_commit=False) as session:
                pending.outcome = pending.change(session)
                session.commit()
        except Exception as error:  # noqa: BLE001  # handed to the caller that asked for the change
            pending.error = error

    def _open_driver(self) -> sqlite3.Connection:
        self._open()
        return cast("sqlite3.Connection", self._driver)

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self.engine.connect()
            self._driver = self._connection.connection.dbapi_connection
            here = self.engine.raw_connection()
            here.detach()  # from the pool, which would give it to a reader too
            assert here.dbapi_connection is not None
            # few pages, in KiB: SQLite looks at all it has cached with every commit that split a page, which most do
            for pragma in ("busy_timeout=0", "wal_autocheckpoint=0", "cache_size=-1000"):
                here.dbapi_connection.execute(f"PRAGMA {pragma}")
            self._here = here.dbapi_connection
        return self._connection

    async def close(self) -> None:
        """Commit everything that is pending; what comes later is refused."""
        self._closing = True
        while self._pending or self._committing:
            self._finished.clear()
            self._hand_over()
            await self._finished.wait()

    def dispose(self) -> None:
        """Close threads and connections; after `close`."""
        self._company.cancel()
        self._batches.put(None)
        self._writer.join()
        self._reader.shutdown()
        if self._here is not None:
            self._here.close()
        self.engine.dispose()


def _transact(driver_of: Callable[[], sqlite3.Connection], batch: list[_Pending], *, begun: bool = False) -> None:
    """Write a batch in one transaction, straight on the driver: SQLAlchemy's share would be four fifths of the cost.

    A batch that fails is written again one by one, so that only the change that fails fails.
    """
    try:
        driver = driver_of()
        if not begun:
            driver.execute("BEGIN IMMEDIATE")
            begun = True
        _run(driver, batch)
        driver.execute("COMMIT")
    except Exception as error:  # noqa: BLE001  # handed to the caller that asked for the change
        if begun:
            driver.rollback()
        if not begun or len(batch) == 1:  # without a transaction nobody's fault, so everybody hears of it
            for pending in batch:
                pending.error = error
        else:
            for pending in batch:
                _transact(driver_of, [pending])


def _run(driver: sqlite3.Connection, batch: list[_Pending]) -> None:
    """Run each change of a batch once, with all its values."""
    shared: dict[Change[Any, Any], list[_Pending]] = {}
    for pending in batch:
        shared.setdefault(pending.change, []).append(pending)
    for change, sharing in shared.items():
        outcomes = change(driver, [pending.value for pending in sharing])
        for pending, outcome in zip(sharing, outcomes, strict=True):
            pending.outcome = outcome


def _nothing(_connection: sqlite3.Connection, values: list[None]) -> list[None]:
    return values


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[tuple[object, ...]]) -> int:
    """Insert rows but those whose key is taken, also by one before it; return how many went in.

    `into` reads `table (column, ...)` and comes from no caller.
    """
    inserted = 0
    for begin in range(0, len(rows), ROWS_A_STEP):
        step = rows[begin : begin + ROWS_A_STEP]
        statement = _insert_statement(into, len(step), len(step[0]))
        inserted += connection.execute(statement, list(chain.from_iterable(step))).rowcount
    return inserted


@lru_cache(maxsize=4 * ROWS_A_STEP)
def _insert_statement(into: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    # not ON CONFLICT DO NOTHING: that keeps a copy of every page it touches, to undo a step that fails halfway
    return f"INSERT OR IGNORE INTO {into} VALUES {', '.join([row] * rows)}"  # noqa: S608  # `into` is a constant


@asynccontextmanager
async def open_database(address: str) -> AsyncIterator[Database]:
    """Open the database and its writer; on leaving, everything pending is committed."""
    database = Database(open_engine(address))
    try:
        yield database
    finally:
        try:
            await database.close()
        finally:
            database.dispose()
