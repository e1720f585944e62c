"""What binds each seal of the database to its row, so that it opens in no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlmodel import SQLModel

from registry.store.tables.declared import StoredEntry
from registry.store.tables.ledger import PushConfig
from registry.store.tables.rules import ToolApproval
from registry.store.tables.sealed import KeptRecord, OAuthClient, OAuthFlow, SigningKey, StoredCredential


def entry(kind: str, name: str) -> str:
    """Of the body of an entry."""
    return f"{kind}/{name}"


def approval(name: str) -> str:
    """Of the arguments of a call."""
    return f"approval/{name}"


def signing_key(kid: str) -> str:
    """Of a private key."""
    return f"signing-key/{kid}"


def kept(kind: str, name: str, owner: str) -> str:
    """Of what is kept for a caller."""
    return msgspec.json.encode(("kept", kind, name, owner)).decode()


def push(agent: str, task_id: str, owner: str, config_id: str) -> str:
    """Of a receiver."""
    return msgspec.json.encode(("push", agent, task_id, owner, config_id)).decode()


def credential(principal: str, server: str, issuer: str) -> str:
    """Of a principal's account at a server."""
    return _oauth(principal, server, issuer)


def client(server: str, issuer: str) -> str:
    """Of the hub's registration."""
    return _oauth("client", server, issuer)


def flow(link: str) -> str:
    """Of an authorization under way."""
    return _oauth("flow", link)


def _oauth(*place: str) -> str:
    return "oauth/" + "\n".join(place)


OF_ROWS: Mapping[type[SQLModel], Callable[[Any], str]] = {
    StoredEntry: lambda row: entry(row.kind, row.name),
    ToolApproval: lambda row: approval(row.id),
    SigningKey: lambda row: signing_key(row.kid),
    PushConfig: lambda row: push(row.agent, row.task_id, row.owner, row.config_id),
    StoredCredential: lambda row: credential(row.principal, row.server, row.issuer),
    OAuthClient: lambda row: client(row.server, row.issuer),
    OAuthFlow: lambda row: flow(row.link),
    KeptRecord: lambda row: kept(row.kind, row.id, row.owner),
}
"""The tables with a column `sealed`."""
