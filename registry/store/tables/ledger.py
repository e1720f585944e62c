"""The tables of tasks: whose they are, what happened in them, and who is told."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, UniqueConstraint, text
from sqlmodel import Field, SQLModel


class OwnedTask(SQLModel, table=True):
    """Whose an A2A task is. The row is there before the client sees the id."""

    __tablename__ = "tasks"
    __table_args__ = (
        UniqueConstraint("agent", "task_id"),
        Index("ix_tasks_team", "team", sqlite_where=text("team IS NOT NULL")),
    )
    id: int | None = Field(default=None, primary_key=True)
    """By which its events point to it: those of tasks that run at the same time are neighbours, where names are anywhere."""
    agent: str
    task_id: str
    owner: str = Field(index=True)
    team: str | None = None
    """Id of the team that it is shared in, as long as its agent's setting says so; None: it is the owner's alone."""
    context_id: str
    """Without an index: it would cost every new task a fifth more, and lists are an owner's own."""
    state: str
    reader: str = ""
    """The hub process that reads the task's events; empty: none does."""
    instance: str = ""
    """The instance of the agent that has it; empty: the agent had one only."""
    created_at: float
    updated_at: float


class TaskEvent(SQLModel, table=True):
    """One event of a task, as it was shown."""

    __tablename__ = "task_events"
    task: int = Field(primary_key=True)
    """Id of its `tasks` row."""
    seq: int = Field(primary_key=True)
    form: int
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class OwnedContext(SQLModel, table=True):
    """Whose an A2A context is."""

    __tablename__ = "contexts"
    agent: str = Field(primary_key=True)
    context_id: str = Field(primary_key=True)
    owner: str
    team: str | None = None
    """As a task's; all new tasks of the context have it too."""
    instance: str = ""
    """As a task's; `-`: none has it yet."""
    created_at: float


class PushConfig(SQLModel, table=True):
    """Where notifications of one task go (A2A 1.0 §4.3.1). A changed one is a new row under a new id."""

    __tablename__ = "push_configs"
    __table_args__ = (
        UniqueConstraint("agent", "task_id", "owner", "config_id"),
        {"sqlite_autoincrement": True},  # ids are never reused
    )
    id: int | None = Field(default=None, primary_key=True)
    agent: str
    task_id: str
    owner: str = Field(index=True)
    config_id: str
    """As the client calls it."""
    version: str
    """The A2A version that its client speaks."""
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """Address, token and credentials, encrypted."""
    callback_id: str | None = Field(default=None, unique=True)
    """The last part of the address that the agent calls; None: it was given none."""
    callback_digest: str | None = None
    """The SHA-256 of the secret with which the agent calls it."""
    stopped: str | None = None
    """Why nothing is sent any more; None: it is."""
    created_at: float


class PushNotification(SQLModel, table=True):
    """One notification on its way, or given up."""

    __tablename__ = "push_outbox"
    __table_args__ = (
        Index("ix_push_outbox_config", "config", "reason", "id", "size"),
        {"sqlite_autoincrement": True},
    )
    id: int | None = Field(default=None, primary_key=True)
    config: int
    """Id of its `push_configs` row."""
    event_id: str
    """The same at every attempt."""
    size: int
    attempts: int = 0
    missing: int = 0
    """How many of the last attempts were answered 404."""
    since: float
    """When it was put here, for the first time or again."""
    due_at: float
    reason: str | None = None
    """Why it was given up; None: it is pending."""
    dead_at: float | None = None
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
