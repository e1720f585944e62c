"""`/api/teams`: made, listed, changed, deleted. A team is named by its alias, or by its id, which never changes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from hub.api.access import PageSize, ServicesNow, needs
from hub.api.levels import LevelBody, PublicLevel, changed, made, shown
from hub.api.limits import UsedLimit, used_of
from hub.services import Services
from registry.errors import NotFound
from registry.identity import Principal
from registry.limits import Bounds
from registry.members import TeamAlias
from registry.store.tables.callers import Team

router = APIRouter(prefix="/teams", tags=["teams"])
Caller = Annotated[Principal, Depends(needs("teams"))]
Viewer = Annotated[Principal, Depends(needs("teams", role="viewer"))]


class NewTeam(LevelBody):
    """A team to make."""

    alias: TeamAlias


class ChangedTeam(LevelBody):
    """What to change of a team; absent members stay."""

    alias: TeamAlias | None = None


class PublicTeam(PublicLevel):
    """A team. Whose key is in it stands with the key."""

    alias: str


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
    return _public(await services.teams.create(body.alias, **made(caller, body)))


@router.get("")
async def listed(
    caller: Viewer,
    services: ServicesNow,
    after: str = "",
    limit: PageSize = 100,
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
    members = await changed(services.teams, team, caller, body)
    if body.alias is not None:
        members["alias"] = body.alias
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
    return PublicTeam(alias=team.alias, **shown(team))
