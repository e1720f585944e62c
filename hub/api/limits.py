"""What is used of limits, as the admin API shows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel

from hub.services import Services
from registry.errors import InvalidRequest
from registry.identity import Principal
from registry.limits import Limit


class UsedLimit(BaseModel):
    """One limit in its present span."""

    whose: str
    """As errors say it."""
    limit: str
    """As `limits` calls it, or `budget`."""
    used: float
    """With what is reserved for calls under way."""
    most: float
    remaining: float
    resets_at: datetime | None
    """Null for calls under way."""
    is_near: bool
    """So much of it is used that the hub warns."""


def check_free_of(caller: Principal, bounding: str) -> None:
    """Raise `InvalidRequest` if limits of the level with this id bound the caller itself: others change those."""
    counted = any(limit.counter.startswith(f"{bounding} ") for limit in (*caller.limits, *caller.session_limits))
    if counted or any(pace.of == bounding for pace in caller.paces):
        raise InvalidRequest("these limits bound your own key; somebody else has to change them", member="limits")


async def used_of(services: Services, limits: Sequence[Limit]) -> list[UsedLimit]:
    """What is used of some limits now."""
    return [
        UsedLimit(
            whose=limit.whose,
            limit=limit.name,
            used=limit.shown(used),
            most=limit.shown(limit.most),
            remaining=limit.shown(max(0, limit.most - used)),
            resets_at=datetime.fromtimestamp(ends, UTC) if ends else None,
            is_near=limit.warn is not None and used >= limit.warn,
        )
        for limit, used, ends in await services.counters.used(limits)
    ]
