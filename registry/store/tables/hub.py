"""The tables of the hub itself: its processes, what changed, single values."""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class HubProcess(SQLModel, table=True):
    """A hub process on this database, and when it last said that it lives."""

    __tablename__ = "hub_processes"
    id: str = Field(primary_key=True)
    seen_at: float


class Change(SQLModel, table=True):
    """What changed, written in the same transaction as the change (architecture.md 3.4)."""

    __tablename__ = "changes"
    id: int | None = Field(default=None, primary_key=True)
    kind: str
    """`key` or `catalog`."""
    name: str


class Setting(SQLModel, table=True):
    """A single value the hub keeps for itself, such as the admin key's SHA-256."""

    __tablename__ = "settings"
    name: str = Field(primary_key=True)
    value: str
