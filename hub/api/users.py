"""`/api/users`: made, listed, changed, deleted. A user is named by name, or by the id, which never changes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from hub.api.access import PageSize, ServicesNow, needs
from hub.api.levels import LevelBody, PublicLevel, changed, made, shown
from hub.api.limits import UsedLimit, used_of
from registry.identity import Principal
from registry.limits import Bounds
from registry.members import Email, UserName
from registry.store.tables.callers import User

router = APIRouter(prefix="/users", tags=["users"])
Caller = Annotated[Principal, Depends(needs("users"))]


class NewUser(LevelBody):
    """A user to make."""

    name: UserName
    email: Email | None = None


class ChangedUser(LevelBody):
    """What to change of a user; absent members stay."""

    name: UserName | None = None
    email: Email | None = None
    disabled: bool | None = None
    """Whether their keys are refused."""


class PublicUser(PublicLevel):
    """A user. Which teams they are in stands with the teams."""

    name: str
    email: str | None
    disabled: bool


class ShownUser(PublicUser):
    """A user, with what its keys have used of its limits."""

    used: list[UsedLimit]


class UserPage(BaseModel):
    """Some users; `next` continues the list as `after`."""

    items: list[PublicUser]
    next: str | None


@router.post("", status_code=201)
async def create(body: NewUser, caller: Caller, services: ServicesNow) -> PublicUser:
    """Make a user without keys and teams."""
    return _public(await services.users.create(body.name, email=body.email, **made(caller, body)))


@router.get("")
async def listed(
    _caller: Caller,
    services: ServicesNow,
    after: str = "",
    limit: PageSize = 100,
) -> UserPage:
    """List users by name."""
    found = await services.users.page(after=after, limit=limit + 1)
    items = [_public(user) for user in found[:limit]]
    return UserPage(items=items, next=items[-1].name if len(found) > limit else None)


@router.get("/{user}")
async def one(user: str, _caller: Caller, services: ServicesNow) -> ShownUser:
    """Show a user."""
    found = await services.users.find(user)
    used = await used_of(services, Bounds.stored(found.bounds).of(found.id, "the user's"))
    return ShownUser(used=used, **_public(found).model_dump())


@router.patch("/{user}")
async def change(user: str, body: ChangedUser, caller: Caller, services: ServicesNow) -> PublicUser:
    """Change a user; their keys follow from the next request on."""
    members = await changed(services.users, user, caller, body)
    members |= {name: getattr(body, name) for name in ("name", "disabled") if getattr(body, name) is not None}
    if "email" in body.model_fields_set:
        members["email"] = body.email
    return _public(await services.users.change(user, **members))


@router.delete("/{user}", status_code=204)
async def delete(user: str, _caller: Caller, services: ServicesNow) -> None:
    """Delete a user, and revoke their keys. One made anew under the name is another user."""
    await services.users.delete(user)


def _public(user: User) -> PublicUser:
    return PublicUser(name=user.name, email=user.email, disabled=user.disabled, **shown(user))
