"""hub.yaml: read whole, every fault reported with file and line, turned into entries. Pure: text in, values out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from registry.entries import Agent, Model, Server, Toolset
from registry.identity import KeySpec
from registry.judged import JsonObject


class ConfigInvalid(Exception):
    """The file cannot be used; `faults` says everything that is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a valid file says."""

    agents: dict[str, Agent] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    toolsets: dict[str, Toolset] = field(default_factory=dict)
    keys: tuple[KeySpec, ...] = ()


def stored_entry(kind: str, name: str, body: JsonObject, *, trusted: bool) -> Any:
    """Read a body."""
    return {"agent": Agent, "server": Server, "model": Model}[kind](name=name, owner="api", trusted=trusted, **body)
