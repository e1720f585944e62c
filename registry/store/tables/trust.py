"""The tables of what servers and agents say of themselves, and what of it was approved."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field, SQLModel


class ListedFeature(SQLModel, table=True):
    """One tool, prompt, resource or template of a server, or its introduction, as the server last said it."""

    __tablename__ = "listed"
    principal: str = Field(default="", primary_key=True)
    """To whose account it was listed, and then only what is not as it was approved; empty: to everybody."""
    server: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    """`registry.entries.ListedKind`."""
    name: str = Field(primary_key=True)
    """As the server calls it."""
    exposed: str
    """As `/mcp` calls it."""
    position: int
    description: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    quarantined: str | None = None
    """Why it cannot be offered; None: it can."""
    drift: str | None = None
    """What of it is not as it was approved: members, or `new`; None: nothing."""
    findings: str = "[]"
    """JSON array of `registry.trust.scanning.Finding`."""


class ApprovedFeature(SQLModel, table=True):
    """One thing of an MCP server as it was approved: when it was seen first, or by somebody."""

    __tablename__ = "approved_features"
    principal: str = Field(default="", primary_key=True)
    """For whose account; empty: of what is listed to everybody, `*`: for all accounts."""
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
    principal: str = Field(default="", primary_key=True)
    """By whose account; empty: by the hub."""
    server: str = Field(primary_key=True)
    source: str
    """A digest of where it is: one that was moved is seen for the first time."""
    kinds: str
    """The kinds of things that it listed, with spaces between."""


class ApprovedCard(SQLModel, table=True):
    """What an agent's card said when it was first seen, or when its operator approved it last."""

    __tablename__ = "approved_cards"
    agent: str = Field(primary_key=True)
    url: str
    """Of the entry then: an agent that was moved is seen for the first time."""
    parts: str
    """JSON object: the digest of each part of the card that is watched."""
    approved_at: float
