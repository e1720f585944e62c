"""What is used of limits, as the admin API shows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from hub.services import Services
from registry.declared.entry_shapes import BoundsShape, BudgetShape, bounds
from registry.errors import InvalidRequest
from registry.identity import Principal
from registry.limits import Bounds, Limit


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
    """So much of a budget is used that the hub warns."""


class Bounded(BaseModel):
    """What a team or user may use, all its keys together."""

    model_config = ConfigDict(extra="forbid")
    limits: BoundsShape | None = None
    budget: BudgetShape | None = None


class ShownBounds(BaseModel):
    """The same as it is shown."""

    limits: BoundsShape
    budget: BudgetShape | None


def bounds_given(body: Bounded) -> bool:
    """Whether a change says anything of them."""
    return not {"limits", "budget"}.isdisjoint(body.model_fields_set)


def rebound(stored: str | None, body: Bounded) -> str | None:
    """Limits and budget as they are stored, after a change; what it does not say stays."""
    said = Bounds.stored(stored)
    if "limits" in body.model_fields_set:
        said = said.with_limits(bounds(body.limits or BoundsShape(), None))
    if "budget" in body.model_fields_set:
        said = said.with_budget(bounds(BoundsShape(), body.budget))
    return said.written()


def shown_bounds(stored: str | None) -> dict[str, Any]:
    """The members of `ShownBounds`."""
    said = Bounds.stored(stored)
    return {
        "limits": BoundsShape(**{name: getattr(said, name) for name in BoundsShape.model_fields}),
        "budget": None if said.usd is None else BudgetShape(usd=said.usd, per=said.per, warn_at=said.warn_at),
    }


def check_free_of(caller: Principal, bounding: str) -> None:
    """Raise `InvalidRequest` if limits of the level with this id bound the caller itself: others change those."""
    if any(limit.counter.startswith(f"{bounding} ") for limit in caller.limits):
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
