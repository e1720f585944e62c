"""Pages of lists, for sessions of the SDK that are not the hub's own."""

from __future__ import annotations

from mcp.types import PaginatedRequestParams


def page_after(cursor: str) -> PaginatedRequestParams:
    """What a session is asked for the page behind `cursor` with."""
    return PaginatedRequestParams(cursor=cursor)
