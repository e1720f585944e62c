"""The catalog: everything that can be called, as one immutable, numbered snapshot that is swapped whole. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from registry.entries import (
    Agent,
    Introduction,
    Model,
    Prompt,
    Quarantined,
    Resource,
    ResourceTemplate,
    Server,
    Tool,
    Toolset,
)
from registry.rules.guards import Guards
from registry.rules.policy import Policy

NO_RULES = Policy(())

_NONE: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """What exists at one moment. Entries that are switched off are not in it, so they look absent everywhere."""

    number: int
    agents: Mapping[str, Agent] = field(default_factory=dict)
    servers: Mapping[str, Server] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    toolsets: Mapping[str, Toolset] = field(default_factory=dict)
    tools: Mapping[str, Tool] = field(default_factory=dict)
    """By exposed name, ordered by server and then as the server listed them."""
    prompts: Mapping[str, Prompt] = field(default_factory=dict)
    """As the tools."""
    resources: Mapping[str, Resource] = field(default_factory=dict)
    """By exposed URI, likewise."""
    templates: Mapping[str, ResourceTemplate] = field(default_factory=dict)
    """By exposed URI template, likewise."""
    introductions: Mapping[str, Introduction] = field(default_factory=dict)
    """By server; one that was never reached has none."""
    quarantined: tuple[Quarantined, ...] = ()
    shadowed: frozenset[tuple[str, str]] = frozenset()
    """(kind, name) of stored entries that the file's entry of the same name hides."""
    account_approvals: Mapping[str, float] = field(default_factory=dict)
    """By server, when something was last approved of what it lists to accounts."""
    policy: Policy = NO_RULES
    guards: Guards | None = None
    """None: there are none."""
    switched_off: frozenset[tuple[str, str]] = frozenset()
