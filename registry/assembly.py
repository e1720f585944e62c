"""A catalog put together: of what the file declares, what is stored and what servers list. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from registry.access import SEPARATOR
from registry.catalog import Catalog
from registry.declared.config import Declared
from registry.entries import (
    AGENT_MODELS,
    Agent,
    AgentModel,
    Feature,
    Introduction,
    ListedKind,
    Model,
    Prompt,
    Quarantined,
    Resource,
    ResourceTemplate,
    Server,
    Tool,
    Toolset,
)
from registry.rules.policy import Rule
from registry.trust import pins
from registry.trust.listings import Listed

AnyEntry = Agent | Server | Model | Toolset

SHARING: dict[str, str] = {"server": "toolset", "toolset": "server"}
"""Kinds that share one namespace: both are served at `/mcp/{name}`."""


@dataclass(slots=True)
class Stored:
    """What the database holds, as the catalog needs it."""

    entries: dict[tuple[str, str], AnyEntry] = field(default_factory=dict)
    switched_off: frozenset[tuple[str, str]] = frozenset()
    listed: dict[str, list[Listed]] = field(default_factory=dict)
    """By server."""
    rules: tuple[Rule, ...] = ()
    """Those made through the API."""
    account_approvals: dict[str, float] = field(default_factory=dict)
    """As in the catalog."""


def declared_entries(declared: Declared) -> dict[tuple[str, str], AnyEntry]:
    """The file's entries by kind and name."""
    return {
        **{("agent", name): agent for name, agent in declared.agents.items()},
        **{("server", name): server for name, server in declared.servers.items()},
        **{("model", name): model for name, model in declared.models.items()},
        **{("toolset", name): toolset for name, toolset in declared.toolsets.items()},
    }


def assemble(number: int, declared: Declared, stored: Stored) -> Catalog:
    """Put a catalog together: the file wins over a stored entry of the same name; what is switched off is left out."""
    of_file = declared_entries(declared)
    shadowed = frozenset(key for key in stored.entries if key in of_file or (SHARING.get(key[0]), key[1]) in of_file)
    kept = {key: entry for key, entry in stored.entries.items() if key not in shadowed}
    on = {key: entry for key, entry in {**kept, **of_file}.items() if key not in stored.switched_off}
    servers = {entry.name: entry for entry in on.values() if isinstance(entry, Server)}
    agents = {entry.name: entry for entry in on.values() if isinstance(entry, Agent)}
    models = {entry.name: entry for entry in on.values() if isinstance(entry, Model)}
    offered = [
        (name, row) for name, rows in stored.listed.items() if name in servers for row in _kept(servers[name], rows)
    ]
    return Catalog(
        number=number,
        agents=agents,
        servers=servers,
        models={**models, **{model.name: model for model in map(_as_model, agents.values())}},
        toolsets={entry.name: entry for entry in on.values() if isinstance(entry, Toolset)},
        shadowed=shadowed,
        switched_off=stored.switched_off,
        account_approvals=stored.account_approvals,
        **_offerings(offered),
    )


def _as_model(agent: Agent) -> AgentModel:
    name = f"{AGENT_MODELS}{agent.name}"
    return AgentModel(
        name=name,
        provider="agent",
        model=agent.name,
        limits=agent.limits,
        call_usd=agent.call_usd,
    )


def with_lists(catalog: Catalog, lists: Mapping[str, list[Listed]], number: int) -> Catalog:
    """The catalog in which servers offer what `lists` says, by their names, in the place of what they offer in it."""
    own = _offerings([(name, row) for name, rows in lists.items() for row in _kept(catalog.servers[name], rows)])
    for member in ("tools", "prompts", "resources", "templates"):
        others = {key: one for key, one in getattr(catalog, member).items() if one.server not in lists}
        own[member] = dict(sorted((others | own[member]).items(), key=lambda item: item[1].server))
    said = {name: one for name, one in catalog.introductions.items() if name not in lists}
    bad = tuple(one for one in catalog.quarantined if one.server not in lists)
    own |= {"introductions": said | own["introductions"], "quarantined": bad + own["quarantined"]}
    return replace(catalog, number=number, **own)


def _offerings(rows: list[tuple[str, Listed]]) -> dict[str, Any]:
    """The members of a catalog that say what servers offer."""
    return {
        "tools": _features(rows, "tool", Tool),
        "prompts": _features(rows, "prompt", Prompt),
        "resources": _features(rows, "resource", Resource),
        "templates": _features(rows, "template", ResourceTemplate),
        "introductions": {server: _introduction(row) for server, row in rows if row.kind == "server"},
        "quarantined": tuple(
            Quarantined(kind=row.kind, server=server, name=row.name, reason=row.quarantined)
            for server, row in rows
            if row.quarantined is not None
        ),
    }


def _kept(server: Server, rows: list[Listed]) -> Iterator[Listed]:
    """What the operator lets the server offer."""
    kept = [row for row in rows if row.kind != "tool" or server.offers_tool(row.name)]
    return pins.offered(server, kept)


def _introduction(row: Listed) -> Introduction:
    """What a server says of itself; its words are not passed on when they are withheld."""
    said = msgspec.convert(msgspec.json.decode(row.description), Introduction)
    return said if row.quarantined is None else replace(said, instructions="")


_AnyFeature = TypeVar("_AnyFeature", bound=Feature)


def _features(rows: list[tuple[str, Listed]], kind: ListedKind, make: type[_AnyFeature]) -> dict[str, _AnyFeature]:
    return {
        row.exposed: make(
            server=server,
            name=row.name,
            exposed=row.exposed,
            grant_name=f"{server}{SEPARATOR}{row.name}",
            description=row.description,
        )
        for server, row in rows
        if row.kind == kind and row.quarantined is None
    }
