"""The tables. Children point to parents by value; owners are principal ids, never names."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, UniqueConstraint, text
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


class ListedFeature(SQLModel, table=True):
    """One tool, prompt, resource or template of a server, or its introduction, as the server last said it."""

    __tablename__ = "listed"
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


class HubProcess(SQLModel, table=True):
    """A hub process on this database, and when it last said that it lives."""

    __tablename__ = "hub_processes"
    id: str = Field(primary_key=True)
    seen_at: float


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


class ApprovedCard(SQLModel, table=True):
    """What an agent's card said when it was first seen, or when its operator approved it last."""

    __tablename__ = "approved_cards"
    agent: str = Field(primary_key=True)
    url: str
    """Of the entry then: an agent that was moved is seen for the first time."""
    parts: str
    """JSON object: the digest of each part of the card that is watched."""
    approved_at: float


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


class ProviderObject(SQLModel, table=True):
    """A file, batch or vector store that a provider keeps for a caller. The id itself says whose it is; this is for lists."""

    __tablename__ = "provider_objects"
    __table_args__ = (
        UniqueConstraint("kind", "place", "name"),
        Index("ix_provider_objects_owner", "owner", "kind"),
        Index("ix_provider_objects_team", "team", "kind", sqlite_where=text("team IS NOT NULL")),
        {"sqlite_autoincrement": True},
    )
    number: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    """The hub's."""
    kind: str
    """`llm.platform.sealed_ids.Kind`."""
    place: str
    name: str
    """As the provider calls it."""
    owner: str
    team: str | None = None
    purpose: str
    shown: str | None = None
    """JSON, as it was last shown; None: it never was."""
    expires_at: float | None = Field(default=None, index=True)
    metered: bool = False
    """What it used was counted."""


class AuditRow(SQLModel, table=True):
    """One administrative act or refusal, as `registry.auditing.audit.Entry`. Rows are only ever added."""

    __tablename__ = "audit"
    __table_args__ = ({"sqlite_autoincrement": True},)
    number: int | None = Field(default=None, primary_key=True)
    at: float
    principal: str
    principal_name: str
    act: str
    object: str
    outcome: str
    detail: str
    request_id: str
    digest: str
    """SHA-256 over the digest before it and this row."""


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


class SigningKey(SQLModel, table=True):
    """A key that the hub signs with. The newest signs, all verify."""

    __tablename__ = "signing_keys"
    kid: str = Field(primary_key=True)
    """Its thumbprint (RFC 7638)."""
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """The private key, encrypted."""
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


class StoredCredential(SQLModel, table=True):
    """A principal's own account at an MCP server."""

    __tablename__ = "credentials"
    principal: str = Field(primary_key=True)
    server: str = Field(primary_key=True)
    issuer: str = Field(primary_key=True)
    """The authorization server that gave it: a credential is never sent to another."""
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    updated_at: float


class OAuthClient(SQLModel, table=True):
    """The hub as an authorization server registered it (RFC 7591)."""

    __tablename__ = "oauth_clients"
    server: str = Field(primary_key=True)
    issuer: str = Field(primary_key=True)
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class OAuthFlow(SQLModel, table=True):
    """An authorization that a user began. The row stays until its link has expired, so that the link works once."""

    __tablename__ = "oauth_flows"
    link: str = Field(primary_key=True)
    """The link's number."""
    state_digest: str = Field(unique=True)
    sealed: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    """What its end needs, encrypted; None: it has ended."""
    expires_at: float


class KeptRecord(SQLModel, table=True):
    """Something that the hub keeps for a caller between its requests (registry/sealed/kept.py)."""

    __tablename__ = "kept"
    kind: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    owner: str
    """Id of the principal."""
    team: str | None = None
    """Id of the team whose keys may use it too."""
    created_at: float
    expires_at: float = Field(index=True)
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
