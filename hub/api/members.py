"""`/api/teams/{team}/members`: who is in a team, and as what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from hub.api.access import PageSize, ServicesNow, needs
from hub.api.teams import check_own
from registry.callers.teams import TeamMember
from registry.identity import Principal, Role

router = APIRouter(prefix="/teams/{team}/members", tags=["teams"])
Viewer = Annotated[Principal, Depends(needs("teams", role="viewer"))]
Manager = Annotated[Principal, Depends(needs("teams", role="admin"))]


class RoleBody(BaseModel):
    """What a user is to be in a team."""

    model_config = ConfigDict(extra="forbid")
    role: Role


class PublicMember(BaseModel):
    """A user in a team."""

    id: str
    name: str
    role: Role


class MemberPage(BaseModel):
    """Some members; `next` continues the list as `after`."""

    items: list[PublicMember]
    next: str | None


@router.get("")
async def listed(
    team: str,
    caller: Viewer,
    services: ServicesNow,
    after: str = "",
    limit: PageSize = 100,
) -> MemberPage:
    """List the members of a team by name."""
    await check_own(services, caller, team)
    found = await services.teams.members(team, after=after, limit=limit + 1)
    items = [_public(member) for member in found[:limit]]
    return MemberPage(items=items, next=items[-1].name if len(found) > limit else None)


@router.put("/{user}")
async def put(team: str, user: str, body: RoleBody, caller: Manager, services: ServicesNow) -> PublicMember:
    """Put a user into a team, or give them another role in it."""
    await check_own(services, caller, team)
    return _public(await services.teams.put_member(team, user, body.role))


@router.delete("/{user}", status_code=204)
async def remove(team: str, user: str, caller: Manager, services: ServicesNow) -> None:
    """Take a user out of a team: the keys that they have in it are refused, as long as they are not in it."""
    await check_own(services, caller, team)
    await services.teams.remove_member(team, user)


def _public(member: TeamMember) -> PublicMember:
    return PublicMember(id=member.user.id, name=member.user.name, role=member.role)
