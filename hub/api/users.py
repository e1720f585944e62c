"""`/api/users`: made, listed, changed, deleted. A user is named by name, or by the id, which never changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hub.api.access import ServicesNow, needs
from hub.api.holding import allowed
from hub.api.limits import Bounded, ShownBounds, UsedLimit, bounds_given, check_free_of, rebound, shown_bounds, used_of
from registry.callers.levels import allow_of
from registry.identity import Principal
from registry.limits import Bounds
from registry.members import check_email, check_user_name
from registry.store.tables.callers import User

router = APIRouter(prefix="/users", tags=["users"])
Caller = Annotated[Principal, Depends(needs("users"))]
UserName = Annotated[str, AfterValidator(check_user_name)]
Email = Annotated[str, AfterValidator(check_email)]


class NewUser(Bounded):
    """A user to make."""

    model_config = ConfigDict(extra="forbid")
    name: UserName
    email: Email | None = None
    allow: list[str] | None = Field(default=None, max_length=1000)
    """What keys of theirs may do at most; null: what the keys and their teams allow."""


class ChangedUser(Bounded):
    """What to change of a user; absent members stay."""

    model_config = ConfigDict(extra="forbid")
    name: UserName | None = None
    email: Email | None = None
    allow: list[str] | None = Field(default=None, max_length=1000)
    disabled: bool | None = None
    """Whether their keys are refused."""


class PublicUser(ShownBounds):
    """A user. Which teams they are in stands with the teams."""

    id: str
    name: str
    email: str | None
    allow: list[str] | None
    disabled: bool
    created_at: datetime


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
    allowed(caller, body.allow, is_new=True)
    allow = None if body.allow is None else tuple(body.allow)
    return public_user(
        await services.users.create(body.name, email=body.email, allow=allow, bounds=rebound(None, body))
    )


@router.get("")
async def listed(
    _caller: Caller,
    services: ServicesNow,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> UserPage:
    """List users by name."""
    found = await services.users.page(after=after, limit=limit + 1)
    items = [public_user(user) for user in found[:limit]]
    return UserPage(items=items, next=items[-1].name if len(found) > limit else None)


@router.get("/{user}")
async def one(user: str, _caller: Caller, services: ServicesNow) -> ShownUser:
    """Show a user."""
    found = await services.users.find(user)
    used = await used_of(services, Bounds.stored(found.bounds).of(found.id, "the user's"))
    return ShownUser(used=used, **public_user(found).model_dump())


@router.patch("/{user}")
async def change(user: str, body: ChangedUser, caller: Caller, services: ServicesNow) -> PublicUser:
    """Change a user; their keys follow from the next request on."""
    given = body.model_fields_set
    members: dict[str, object] = {
        name: getattr(body, name) for name in ("name", "disabled") if getattr(body, name) is not None
    }
    if "email" in given:
        members["email"] = body.email
    if "allow" in given:
        members["allow"] = allowed(caller, body.allow)
    if bounds_given(body):
        found = await services.users.find(user)
        check_free_of(caller, found.id)
        members["bounds"] = rebound(found.bounds, body)
    return public_user(await services.users.change(user, **members))


@router.delete("/{user}", status_code=204)
async def delete(user: str, _caller: Caller, services: ServicesNow) -> None:
    """Delete a user, and revoke their keys. One made anew under the name is another user."""
    await services.users.delete(user)


def public_user(user: User) -> PublicUser:
    """A user as the API shows it."""
    allow = allow_of(user)
    return PublicUser(
        id=user.id,
        name=user.name,
        email=user.email,
        allow=None if allow is None else list(allow),
        disabled=user.disabled,
        created_at=datetime.fromtimestamp(user.created_at, UTC),
        **shown_bounds(user.bounds),
    )
