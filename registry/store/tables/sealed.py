"""The tables of what is kept sealed, and of what providers keep under sealed ids."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, UniqueConstraint, text
from sqlmodel import Field, SQLModel


class SigningKey(SQLModel, table=True):
    """A key that the hub signs with. The newest signs, all verify."""

    __tablename__ = "signing_keys"
    kid: str = Field(primary_key=True)
    """Its thumbprint (RFC 7638)."""
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """The private key, encrypted."""
    created_at: float


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
