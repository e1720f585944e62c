"""`/api/teams`: made, listed, changed, deleted. A team is named by its alias, or by its id, which never changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hub.api.access import ServicesNow, needs
from hub.api.holding import allowed
from hub.api.limits import Bounded, ShownBounds, UsedLimit, bounds_given, check_free_of, rebound, shown_bounds, used_of
from hub.services import Services
from registry.callers.levels import allow_of
from registry.errors import NotFound
from registry.identity import Principal
from registry.limits import Bounds
from registry.members import check_team_alias
from registry.store.tables.callers import Team

router = APIRouter(prefix="/teams", tags=["teams"])
Caller = Annotated[Principal, Depends(needs("teams"))]
Viewer = Annotated[Principal, Depends(needs("teams", role="viewer"))]
Alias = Annotated[str, AfterValidator(check_team_alias)]


class NewTeam(Bounded):
    """A team to make."""

    model_config = ConfigDict(extra="forbid")
    alias: Alias
    allow: list[str] | None = Field(default=None, max_length=1000)
    """What its keys may do at most; null: what the keys and their users allow."""


class ChangedTeam(Bounded):
    """What to change of a team; absent members stay."""

    model_config = ConfigDict(extra="forbid")
    alias: Alias | None = None
    allow: list[str] | None = Field(default=None, max_length=1000)


class PublicTeam(ShownBounds):
    """A team. Whose key is in it stands with the key."""

    id: str
    alias: str
    allow: list[str] | None
    created_at: datetime


class ShownTeam(PublicTeam):
    """A team, with what its keys have used of its limits."""

    used: list[UsedLimit]


class TeamPage(BaseModel):
    """Some teams; `next` continues the list as `after`."""

    items: list[PublicTeam]
    next: str | None


@router.post("", status_code=201)
async def create(body: NewTeam, caller: Caller, services: ServicesNow) -> PublicTeam:
    """Make a team without keys and members."""
    allowed(caller, body.allow, is_new=True)
    allow = None if body.allow is None else tuple(body.allow)
    return _public(await services.teams.create(body.alias, allow=allow, bounds=rebound(None, body)))


@router.get("")
async def listed(
    caller: Viewer,
    services: ServicesNow,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> TeamPage:
    """List teams by alias; to a role in a team, that one."""
    if not caller.grants.allow("admin", "teams"):
        own = [] if caller.team_id is None else [await services.teams.find(caller.team_id)]
        return TeamPage(items=[_public(team) for team in own if team.alias > after], next=None)
    found = await services.teams.page(after=after, limit=limit + 1)
    items = [_public(team) for team in found[:limit]]
    return TeamPage(items=items, next=items[-1].alias if len(found) > limit else None)


@router.get("/{team}")
async def one(team: str, caller: Viewer, services: ServicesNow) -> ShownTeam:
    """Show a team."""
    await check_own(services, caller, team)
    found = await services.teams.find(team)
    used = await used_of(services, Bounds.stored(found.bounds).of(found.id, "the team's"))
    return ShownTeam(used=used, **_public(found).model_dump())


@router.patch("/{team}")
async def change(team: str, body: ChangedTeam, caller: Caller, services: ServicesNow) -> PublicTeam:
    """Change a team: its keys and what is shared in it stay where they are, and do what it allows from the next request on."""
    members: dict[str, object] = {} if body.alias is None else {"alias": body.alias}
    if "allow" in body.model_fields_set:
        members["allow"] = allowed(caller, body.allow)
    if bounds_given(body):
        found = await services.teams.find(team)
        check_free_of(caller, found.id)
        members["bounds"] = rebound(found.bounds, body)
    return _public(await services.teams.change(team, **members))


@router.delete("/{team}", status_code=204)
async def delete(team: str, _caller: Caller, services: ServicesNow) -> None:
    """Delete a team, and revoke its keys. One made anew under its alias is another team."""
    await services.teams.delete(team)


async def check_own(services: Services, caller: Principal, name: str) -> None:
    """Raise `NotFound` if the caller acts in a role and this is not the role's team: as if there were none such."""
    if caller.grants.allow("admin", "teams"):
        return
    own = None if caller.team_id is None else await services.teams.find(caller.team_id)
    if own is None or name not in {own.id, own.alias}:
        raise NotFound("team", name)


def _public(team: Team) -> PublicTeam:
    allow = allow_of(team)
    return PublicTeam(
        id=team.id,
        alias=team.alias,
        allow=None if allow is None else list(allow),
        created_at=datetime.fromtimestamp(team.created_at, UTC),
        **shown_bounds(team.bounds),
    )
