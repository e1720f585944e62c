"""The tables of what is used and what was."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class Counter(SQLModel, table=True):
    """How much of one thing was used, or is reserved, in one span of time."""

    __tablename__ = "counters"
    __table_args__ = ({"sqlite_with_rowid": False},)
    counter: str = Field(primary_key=True)
    """As `registry.limits.Limit.counter`."""
    ends: int = Field(primary_key=True)
    """When the span ends, in seconds since 1970; 0: calls under way."""
    process: str = Field(primary_key=True)
    """Whose calls are under way; else empty."""
    used: int = Field(sa_type=BigInteger)
    """In billionths, of USD."""
    warned: bool = False
    """That little is left."""


class Lease(SQLModel, table=True):
    """What a process may count of a counter by itself."""

    __tablename__ = "leases"
    __table_args__ = ({"sqlite_with_rowid": False},)
    counter: str = Field(primary_key=True)
    ends: int = Field(primary_key=True)
    process: str = Field(primary_key=True)
    slot: int
    """Where its record says what is spent of it."""
    granted: int = Field(sa_type=BigInteger)


class UsageRow(SQLModel, table=True):
    """One call of any kind."""

    __tablename__ = "usage"
    id: int | None = Field(default=None, primary_key=True)
    at: float = Field(index=True)
    principal: str
    """Without an index: every call would pay for it, and sums over a period read that period."""
    key_name: str
    kind: str
    name: str
    outcome: str
    """`ok`, `error`, `cancelled` or `cached`."""
    duration_ms: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    estimated: bool = False
    """The token counts were estimated: the stream ended before its usage came."""
    cached_tokens: int | None = None
    cache_written_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    cost_usd: float | None = None
    """None: no price is known."""
    request_id: str = ""
    team_id: str | None = None
    """The team and the user that the key belonged to then."""
    user_id: str | None = None
    end_user: str | None = None
    """Whom the caller asked for, as it said itself."""
    session: str | None = None
    """The conversation that it was part of, as `Principal.session`."""
    task: str | None = None
    """The id of the task that it was part of."""
