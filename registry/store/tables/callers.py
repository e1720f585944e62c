"""The tables of who calls: users, teams, who is in them, keys, and who is signed in."""

from __future__ import annotations

from sqlalchemy import Index
from sqlmodel import Field, SQLModel


class Team(SQLModel, table=True):
    """Keys that belong together. Everything points to its id; its alias stands here and nowhere else."""

    __tablename__ = "teams"
    id: str = Field(primary_key=True)
    """Random, never reused: a team made anew under an old alias is another one."""
    alias: str = Field(unique=True)
    allow: str | None = None
    """JSON array of `kind:glob`; None: the team bounds nothing."""
    bounds: str | None = None
    """Limits and budget of all its keys together, as a key's."""
    created_at: float


class User(SQLModel, table=True):
    """A person. Everything points to the id; the name stands here and nowhere else."""

    __tablename__ = "users"
    __table_args__ = (Index("ix_users_subject", "issuer", "subject", unique=True),)
    id: str = Field(primary_key=True)
    """Random, never reused."""
    name: str = Field(unique=True)
    email: str | None = None
    """To write to; nobody is found by it."""
    allow: str | None = None
    """As a team's, like the next."""
    bounds: str | None = None
    disabled: bool = False
    """Their keys are refused."""
    issuer: str | None = None
    """Who made them by a token; None: the hub's own."""
    subject: str | None = None
    """What that one calls them; with `issuer` unique."""
    created_at: float


class Member(SQLModel, table=True):
    """What a user is in a team."""

    __tablename__ = "members"
    team_id: str = Field(primary_key=True)
    user_id: str = Field(primary_key=True, index=True)
    role: str
    """`registry.identity.Role`."""
    created_at: float


class ApiKey(SQLModel, table=True):
    """One API key. The secret is not here: only its SHA-256."""

    __tablename__ = "api_keys"
    id: str = Field(primary_key=True)
    """The principal's id: random, never reused."""
    name: str = Field(index=True)
    digest: str = Field(unique=True)
    previous_digest: str | None = Field(default=None, unique=True, index=True)
    """Of the secret before the last rotation."""
    previous_until: float | None = None
    """Until when that one is taken too."""
    grants: str
    """JSON array of `kind:glob`; `null`: the key bounds nothing itself, its user and team do."""
    user_id: str | None = Field(default=None, index=True)
    team_id: str | None = Field(default=None, index=True)
    doors: str | None = None
    """JSON array of `registry.identity.DoorName`; None: all."""
    networks: str | None = None
    """JSON array of networks in CIDR form from which it is used; None: from anywhere."""
    requests_per_minute: int | None = None
    mcp_mode: str | None = None
    """As `registry.identity.Principal.mcp_mode`."""
    require_approval: str | None = None
    """As `registry.floors.written` writes it."""
    request_limits: str | None = None
    """JSON array as `registry.identity.RequestLimits`; None: none of the key's own."""
    bounds: str | None = None
    """Its limits and budget, as `registry.limits.Bounds.written` writes them."""
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    """To about a minute."""
    created_at: float
    owner: str
    """`file` or `api`, as `registry.entries.Owner`; or `registry.callers.accounts.OWNER`, and then nobody can change it."""
    created_by: str | None = None
    """The id of the principal that made it over the API; None: the operator."""
    signed_in: str | None = None
    """Of one that stands for who comes with tokens: JSON array of their issuer, its scopes and its roles."""


class BrowserSession(SQLModel, table=True):
    """Somebody who is signed in. The secret is not here: only its SHA-256."""

    __tablename__ = "sessions"
    digest: str = Field(primary_key=True)
    user_id: str = Field(index=True)
    account: str
    """Id of the row of `api_keys` that they act as, in the team that they chose."""
    issuer: str
    said: str
    """JSON array of what the issuer said: user, teams, scopes, roles."""
    created_at: float
    seen_at: float
    """To about a minute."""
    expires_at: float = Field(index=True)
    """At the latest, however often it is used."""
