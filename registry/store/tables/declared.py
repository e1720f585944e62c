"""The tables of what is registered beside the file."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field, SQLModel


class StoredEntry(SQLModel, table=True):
    """An agent, MCP server or model made through the API."""

    __tablename__ = "entries"
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """The body as JSON, encrypted: it may hold upstream credentials."""
    trusted: bool
    """Written with the admin key, so its URL counts as the operator's own."""
    created_at: float


class SwitchedOff(SQLModel, table=True):
    """An entry that is switched off, whoever owns it."""

    __tablename__ = "switched_off"
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
