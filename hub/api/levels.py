"""What `/api/users` and `/api/teams` have in common: what a level allows, and how much of it may be used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hub.api.holding import allowed
from hub.api.limits import check_free_of
from registry.callers.level_table import LevelTable
from registry.callers.levels import Level, allow_of
from registry.declared.entry_shapes import BudgetShape, CallerBoundsShape, bounds, shown_limits
from registry.identity import Principal
from registry.limits import Bounds
from registry.members import PositiveInt
from registry.store.tables.callers import Team, User


class Limits(CallerBoundsShape):
    """How much all keys of a user or team may do together."""

    requests_per_minute: PositiveInt | None = None
    """In each hub process."""


class LevelBody(BaseModel):
    """What is said of a user or team that is made or changed."""

    model_config = ConfigDict(extra="forbid")
    allow: list[str] | None = Field(default=None, max_length=1000)
    """What its keys may do at most; null: what the keys and their other level allow."""
    limits: Limits | None = None
    """Of all its keys together, like the next."""
    budget: BudgetShape | None = None


class PublicLevel(BaseModel):
    """What is shown of one."""

    id: str
    allow: list[str] | None
    limits: Limits
    budget: BudgetShape | None
    created_at: datetime


def made(caller: Principal, body: LevelBody) -> dict[str, Any]:
    """The members that a new level has of `body`; raises `InvalidRequest` if the caller does not hold what it allows."""
    allowed(caller, body.allow, is_new=True)
    return {"allow": None if body.allow is None else tuple(body.allow), "bounds": _rebound(None, body)}


async def changed(table: LevelTable[Level], name: str, caller: Principal, body: LevelBody) -> dict[str, object]:
    """The members that `body` changes of a level.

    Raises:
        InvalidRequest: the caller does not hold what it allows, or is bound by its limits.
        NotFound: there is none of this name or id.
    """
    members: dict[str, object] = {}
    if "allow" in body.model_fields_set:
        members["allow"] = allowed(caller, body.allow)
    if not {"limits", "budget"}.isdisjoint(body.model_fields_set):
        found = await table.find(name)
        check_free_of(caller, found.id)
        members["bounds"] = _rebound(found.bounds, body)
    return members


def shown(level: User | Team) -> dict[str, Any]:
    """The members of `PublicLevel`."""
    allow, said = allow_of(level), Bounds.stored(level.bounds)
    return {
        "id": level.id,
        "allow": None if allow is None else list(allow),
        "limits": Limits(requests_per_minute=said.pace, **shown_limits(said)),
        "budget": None if said.usd is None else BudgetShape(usd=said.usd, per=said.per, warn_at=said.warn_at),
        "created_at": datetime.fromtimestamp(level.created_at, UTC),
    }


def _rebound(stored: str | None, body: LevelBody) -> str | None:
    """Limits and budget as they are stored, after a change; what it does not say stays."""
    said = Bounds.stored(stored)
    if "limits" in body.model_fields_set:
        limits = body.limits or Limits()
        said = said.with_limits(bounds(limits, None)._replace(pace=limits.requests_per_minute))
    if "budget" in body.model_fields_set:
        said = said.with_budget(bounds(Limits(), body.budget))
    return said.written()
