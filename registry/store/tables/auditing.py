"""The table of what was done and refused."""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class Written(SQLModel):
    """What is kept and shown alike, as `registry.auditing.audit.Entry` says it."""

    principal: str
    principal_name: str
    act: str
    object: str
    outcome: str
    detail: str
    request_id: str
    digest: str
    """SHA-256 over the digest before it and this row."""


class AuditRow(Written, table=True):
    """One administrative act or refusal. Rows are only ever added."""

    __tablename__ = "audit"
    __table_args__ = ({"sqlite_autoincrement": True},)
    number: int | None = Field(default=None, primary_key=True)
    at: float
