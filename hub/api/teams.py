"""`/api/teams`: made, listed, renamed, deleted. A team is named by its alias, or by its id, which never changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, ConfigDict

from hub.api.access import ServicesNow, needs
from registry.identity import Principal
from registry.members import check_team_alias
from registry.models import Team

router = APIRouter(prefix="/teams", tags=["teams"])
Caller = Annotated[Principal, Depends(needs("teams"))]


class TeamAlias(BaseModel):
    """What a team is called."""

    model_config = ConfigDict(extra="forbid")
    alias: Annotated[str, AfterValidator(check_team_alias)]


class PublicTeam(BaseModel):
    """A team. Whose key is in it stands with the key."""

    id: str
    alias: str
    created_at: datetime


class TeamPage(BaseModel):
    """Some teams; `next` continues the list as `after`."""

    items: list[PublicTeam]
    next: str | None


@router.post("", status_code=201)
async def create(body: TeamAlias, _caller: Caller, services: ServicesNow) -> PublicTeam:
    """Make a team without keys."""
    return _public(await services.teams.create(body.alias))


@router.get("")
async def listed(
    _caller: Caller,
    services: ServicesNow,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> TeamPage:
    """List teams by alias."""
    teams = [team for team in await services.teams.all() if team.alias > after]
    return TeamPage(
        items=[_public(team) for team in teams[:limit]], next=teams[limit - 1].alias if len(teams) > limit else None
    )


@router.get("/{team}")
async def one(team: str, _caller: Caller, services: ServicesNow) -> PublicTeam:
    """Show a team."""
    return _public(await services.teams.find(team))


@router.patch("/{team}")
async def rename(team: str, body: TeamAlias, _caller: Caller, services: ServicesNow) -> PublicTeam:
    """Rename a team: its keys and what is shared in it stay as they are."""
    return _public(await services.teams.rename(team, body.alias))


@router.delete("/{team}", status_code=204)
async def delete(team: str, _caller: Caller, services: ServicesNow) -> None:
    """Delete a team: its keys stay, each with what it made itself. One made anew under its alias is another team."""
    await services.teams.delete(team)


def _public(team: Team) -> PublicTeam:
    return PublicTeam(id=team.id, alias=team.alias, created_at=datetime.fromtimestamp(team.created_at, UTC))
