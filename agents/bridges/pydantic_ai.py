"""A Pydantic AI agent behind its AG-UI adapter: an AG-UI endpoint (agents.bridges.ag_ui).

One that fasta2a serves speaks A2A, and with `api: a2a` there is no bridge (registry.declared.platforms).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from agents.bridges import ag_ui
from agents.bridges.bridge import Bridge


class Options(ag_ui.Options, kw_only=True):
    """What an entry's `options` may say."""

    api: Literal["ag_ui"] = "ag_ui"


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make)."""
    return ag_ui.AgUi(url, msgspec.convert(options, Options))
