"""The hub: its server, and for Python programs `Hub`, `completion` and `acompletion` (docs/python.md)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub.completions import acompletion, completion
    from hub.embedded import Hub
    from registry.errors import HubError

__all__ = ["Hub", "HubError", "acompletion", "completion"]

_HOMES = {
    "Hub": "hub.embedded",
    "HubError": "registry.errors",
    "acompletion": "hub.completions",
    "completion": "hub.completions",
}
"""Loaded when they are asked for: the command line begins here too."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
