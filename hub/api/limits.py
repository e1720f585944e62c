"""What is used of limits, as the admin API shows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel

from hub.services import Services
from registry.limits import Limit


class UsedLimit(BaseModel):
    """One limit in its present span."""

    limit: str
    """As `limits` calls it, or `budget`."""
    used: float
    """With what is reserved for calls under way."""
    most: float
    remaining: float
    resets_at: datetime | None
    """Null for calls under way."""
    is_near: bool
    """So much of a budget is used that the hub warns."""


async def used_of(services: Services, limits: Sequence[Limit]) -> list[UsedLimit]:
    """What is used of some limits now."""
    return [
        UsedLimit(
            limit=limit.name,
            used=limit.shown(used),
            most=limit.shown(limit.most),
            remaining=limit.shown(max(0, limit.most - used)),
            resets_at=datetime.fromtimestamp(ends, UTC) if ends else None,
            is_near=limit.warn is not None and used >= limit.warn,
        )
        for limit, used, ends in await services.counters.used(limits)
    ]
