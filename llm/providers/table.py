"""The table of providers: services that the hub calls by itself, one row each. Pure.

The variables are only named here; `hub/settings.py` reads the environment and hands the values in.
"""

from __future__ import annotations

from llm.providers.row import Row
from llm.providers.rows import clouds, gateways, hosts, makers, own, sdks
from llm.types import Format
from registry.entries import Model
from registry.errors import NotSupported

OFFLINE = "offline"
"""The provider that ships with the hub (llm/providers/offline.py); it has no row."""

TABLE: dict[str, Row] = {**makers.ROWS, **clouds.ROWS, **hosts.ROWS, **gateways.ROWS, **own.ROWS}


def formats_of(model: Model) -> tuple[Format, ...]:
    """The formats that the model's provider speaks; raises `NotSupported` for one that has no chat at all."""
    row = TABLE.get(model.provider)
    if row is None:
        return ("chat",)
    if not row.formats:
        raise NotSupported(
            f"{model.name} runs at provider {model.provider}, which has {', '.join(row.endpoints)} only."
        )
    if model.base_url is not None and row.messages_base is not None:  # where it has its messages then, nobody said
        return tuple(one for one in row.formats if one != "messages")
    return row.formats


def asks_usage(model: Model) -> bool:
    """Whether the model's provider understands `stream_options.include_usage`."""
    row = TABLE.get(model.provider)
    return row is None or "stream_options" not in row.lacks


KEY_VARIABLES = frozenset(row.key_variable for row in TABLE.values() if row.key_variable is not None)
"""What `hub/settings.py` reads for the providers."""

NAMES = frozenset({*TABLE, *sdks.ROWS, OFFLINE})
"""What `provider:` may say."""
