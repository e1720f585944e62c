"""The kinds of bridges: those that come with the hub, each loaded when it is needed, and those that third parties add."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import msgspec

from agents.bridges.accounts import AuthInvalid, account_of
from agents.bridges.bridge import Bridge, Make
from registry.declared.shapes import nearest
from registry.entries import Agent, Bridged
from registry.errors import NotSupported

KINDS = ("adk", "ag_ui", "azure", "bedrock", "http", "langgraph", "mcp", "openai", "pydantic_ai", "vertex")
"""Each is a module of this package, which has a `make`."""

GROUP = "hubbub.bridges"
"""The entry points of third parties' bridges: each is called as `Make`."""


class BridgeInvalid(ValueError):
    """An agent cannot be made as it is configured; its text says why."""


def make(url: str, bridged: Bridged) -> Bridge:
    """Make the bridge to an agent.

    Raises:
        BridgeInvalid: there is no such kind, or its options are wrong.
    """
    options: dict[str, Any] = msgspec.json.decode(bridged.options)
    maker = _maker(bridged.kind)
    try:
        return maker(url, options)
    except Exception as error:  # noqa: BLE001  # boundary: third parties' code, read with the file
        raise BridgeInvalid(f"bridge {bridged.kind}: {str(error)[:500] or type(error).__name__}") from None


def bridge_to(entry: Agent) -> Bridge:
    """Make the bridge to an agent on a platform; raises `NotSupported` if it cannot be made as it is configured."""
    assert entry.bridged is not None, "it is on a platform"
    try:
        return make(entry.url, entry.bridged)
    except BridgeInvalid as error:
        raise NotSupported(f"{entry.name} cannot be called as it is configured: {error}") from None


def fault(entry: Agent) -> str | None:
    """What is wrong with how an agent's bridge or account is configured; None: nothing, or it has none."""
    try:
        if entry.bridged is not None:
            make(entry.url, entry.bridged)
        if entry.auth is not None:
            account_of(entry)
    except (AuthInvalid, BridgeInvalid) as error:
        return str(error)
    return None


def _maker(kind: str) -> Make:
    if kind in KINDS:
        found: Make = import_module(f"agents.bridges.{kind}").make
        return found
    others = tuple(entry_points(group=GROUP, name=kind))
    if not others:
        known = f"there are {', '.join(KINDS)}, and those that packages bring"
        raise BridgeInvalid(f"there is no bridge {kind!r}{nearest(kind, list(KINDS)) or f'; {known}'}")
    loaded: Make = others[0].load()
    return loaded
