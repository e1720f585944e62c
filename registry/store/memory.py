"""A database in memory, for rows that may leave nothing at rest. Its one connection is the event loop's: it waits for nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool
from sqlmodel import Session, SQLModel

T = TypeVar("T")


class Memory:
    """Read and written as `registry.store.db.Database`; gone with its process."""

    def __init__(self, tables: Sequence[type[SQLModel]]) -> None:
        self._engine = create_engine("sqlite://", poolclass=StaticPool, hide_parameters=True)
        SQLModel.metadata.create_all(
            self._engine, tables=[SQLModel.metadata.tables[str(one.__tablename__)] for one in tables]
        )

    async def read(self, query: Callable[[Session], T]) -> T:
        """Run `query` and return its answer."""
        with Session(self._engine) as session:
            return query(session)

    async def write(self, change: Callable[[Session], T]) -> T:
        """Run `change` as one transaction; return its answer."""
        with Session(self._engine, expire_on_commit=False) as session:
            outcome = change(session)
            session.commit()
            return outcome
