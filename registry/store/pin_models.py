"""The tables of what was approved of MCP servers."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field, SQLModel


class ApprovedFeature(SQLModel, table=True):
    """One thing of an MCP server as it was approved: when it was seen first, or by somebody."""

    __tablename__ = "approved_features"
    server: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    description: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    digest: str
    """The SHA-256 of what is watched of it."""
    approved_by: str
    """Id of the principal; empty: it was seen first."""
    approved_at: float


class SeenServer(SQLModel, table=True):
    """An MCP server of which something was approved, or could have been."""

    __tablename__ = "seen_servers"
    server: str = Field(primary_key=True)
    source: str
    """A digest of where it is: one that was moved is seen for the first time."""
    kinds: str
    """The kinds of things that it listed, with spaces between."""
