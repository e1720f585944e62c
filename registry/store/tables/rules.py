"""The tables of what the gate asks of a call."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary
from sqlmodel import Field, SQLModel


class PolicyRow(SQLModel, table=True):
    """One version of the policy. The newest is in force."""

    __tablename__ = "policy_versions"
    __table_args__ = ({"sqlite_autoincrement": True},)
    number: int | None = Field(default=None, primary_key=True)
    at: float
    by: str
    """Id of the principal, or `file`."""
    by_name: str
    of_file: str
    """JSON array of rules as `registry.rules.policy.Rule`: those of the file then."""
    rules: str
    """Likewise: those made through the API."""


class ToolApproval(SQLModel, table=True):
    """One call of a tool that is not made before somebody has said so."""

    __tablename__ = "tool_approvals"
    __table_args__ = (
        Index("ix_tool_approvals_state", "state", "number"),
        {"sqlite_autoincrement": True},
    )
    number: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    run: str = Field(index=True)
    """The run that waits for it."""
    door: str
    """The door that the run came through: who resumes it."""
    server: str
    tool: str
    """As its server calls it."""
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """The arguments as JSON, encrypted."""
    principal: str
    principal_name: str
    bound: str
    """The digest of all that it holds for."""
    answerer: str
    """Who is to answer: `caller` or `admin`."""
    state: str
    """`pending`, `approved`, `denied` or `used`; over time `expired`, which is not written."""
    created_at: float
    expires_at: float = Field(index=True)
    decided_at: float | None = None
    decided_by: str | None = None
    """Id of the principal."""
    decided_by_name: str | None = None
    reason: str | None = None
