"""`/api/keys`: made, listed, changed, revoked. A secret is shown once, in the answer that made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from hub.api.access import ServicesNow, needs
from hub.api.limits import UsedLimit, used_of
from hub.api.toolsets import ViewCost, view_cost
from hub.services import Services
from registry import floors
from registry.access import GrantInvalid, Grants
from registry.entry_shapes import BoundsShape, BudgetShape, Mode, bounds
from registry.errors import InvalidRequest, NotFound
from registry.floors import Floor
from registry.identity import KeySpec, Principal, RequestLimits
from registry.keys import grants_of, limits_of, request_limits_of, written_limits
from registry.limits import UNBOUND, Bounds
from registry.members import FloorRule, check_key_name
from registry.models import ApiKey

router = APIRouter(prefix="/keys", tags=["keys"])
Caller = Annotated[Principal, Depends(needs("keys"))]


class Limits(BoundsShape):
    """How much a key may do."""

    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    max_rounds: int | None = Field(default=None, ge=1)
    """Of tool calls in one request, like the next three."""
    max_calls: int | None = Field(default=None, ge=1)
    max_seconds: float | None = Field(default=None, gt=0)
    max_usd: float | None = Field(default=None, gt=0)

    def of_request(self) -> RequestLimits:
        """Those of one request."""
        return RequestLimits(**self.model_dump(include=set(RequestLimits._fields)))


class NewKey(BaseModel):
    """A key to make."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, AfterValidator(check_key_name)]
    allow: list[str] = Field(max_length=1000)
    team: str | None = None
    """Alias or id. Putting a key into a team needs `admin:teams`."""
    limits: Limits = Limits()
    budget: BudgetShape | None = None
    mcp_mode: Mode | None = None
    """How MCP tools are listed to the key; null: as a toolset says, else all."""
    require_approval: FloorRule | None = None
    """Which tools a model calls for it only when that was approved: `always`, `destructive`, or globs."""
    expires_at: AwareDatetime | None = None


class ChangedKey(BaseModel):
    """What to change of a key; absent members stay."""

    model_config = ConfigDict(extra="forbid")
    allow: list[str] | None = Field(default=None, max_length=1000)
    team: str | None = None
    """Alias or id; null takes the key out of its team. Needs `admin:teams`."""
    limits: Limits | None = None
    budget: BudgetShape | None = None
    """Null: none."""
    mcp_mode: Mode | None = None
    require_approval: FloorRule | None = None
    expires_at: AwareDatetime | None = None


class PublicKey(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    allow: list[str]
    team: str | None
    """The alias of its team."""
    limits: Limits
    budget: BudgetShape | None
    mcp_mode: Mode | None
    require_approval: str | tuple[str, ...] | None
    expires_at: datetime | None
    created_at: datetime
    owner: str
    created_by: str | None
    """The id of the principal that made it over the API; null: the operator."""


class ShownKey(PublicKey):
    """A key, with what its list of tools at `/mcp` costs, and what it has used of its limits."""

    view: ViewCost
    used: list[UsedLimit]


class MadeKey(PublicKey):
    """A key just made, with its secret, once."""

    key: str


class KeyPage(BaseModel):
    """Some keys; `next` continues the list as `after`."""

    items: list[PublicKey]
    next: str | None


@router.post("", status_code=201)
async def create(body: NewKey, caller: Caller, services: ServicesNow) -> MadeKey:
    """Make a key. Nobody can make one that holds more than they hold; limits that are not said are the maker's."""
    limits = _bounded(caller, body.limits)
    made, secret = await services.keys.create(
        KeySpec(
            name=body.name,
            allow=_granted(caller, body.allow),
            team=_placed(caller, body.team) if body.team is not None else None,
            requests_per_minute=limits.requests_per_minute,
            mcp_mode=body.mcp_mode,
            require_approval=_demanded(caller, body),
            request_limits=limits.of_request(),
            bounds=bounds(body.limits, body.budget),
            expires_at=_ending(caller, body.expires_at),
            created_by=caller.id,
        )
    )
    return MadeKey(key=secret, **_public(made, await _aliases(services)).model_dump())


@router.get("")
async def listed(
    _caller: Caller,
    services: ServicesNow,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> KeyPage:
    """List live keys by name."""
    keys = [key for key in await services.keys.all_live() if key.name > after]
    aliases = await _aliases(services)
    return KeyPage(
        items=[_public(key, aliases) for key in keys[:limit]], next=keys[limit - 1].name if len(keys) > limit else None
    )


@router.get("/{name}")
async def one(name: str, _caller: Caller, services: ServicesNow) -> ShownKey:
    """Show a key."""
    found = next((key for key in await services.keys.all_live() if key.name == name), None)
    if found is None:
        raise NotFound("key", name)
    view = view_cost(services.registry.catalog, Grants.parse(grants_of(found)))
    limits = await services.database.read(lambda session: limits_of(session, found))
    used = await used_of(services, limits)
    return ShownKey(view=view, used=used, **_public(found, await _aliases(services)).model_dump())


@router.patch("/{name}")
async def change(name: str, body: ChangedKey, caller: Caller, services: ServicesNow) -> PublicKey:
    """Change what a key may do, from the next request on. The changed key holds no more than its changer."""
    members: dict[str, object] = {}
    if body.allow is not None:
        members["grants"] = msgspec.json.encode(_granted(caller, body.allow)).decode()
    if body.limits is not None:
        limits = _bounded(caller, body.limits)
        members["requests_per_minute"] = limits.requests_per_minute
        members["request_limits"] = written_limits(limits.of_request())
    if "expires_at" in body.model_fields_set:
        members["expires_at"] = _ending(caller, body.expires_at)
    if "mcp_mode" in body.model_fields_set:
        members["mcp_mode"] = body.mcp_mode
    if "require_approval" in body.model_fields_set:
        members["require_approval"] = floors.written(_demanded(caller, body))
    if "team" in body.model_fields_set:
        members["team"] = _placed(caller, body.team)

    def finish(key: ApiKey) -> None:
        _granted(caller, grants_of(key))
        said = Bounds.stored(key.bounds)
        if body.limits is not None:
            said = said.with_limits(bounds(body.limits, None))
        if "budget" in body.model_fields_set:
            said = said.with_budget(bounds(BoundsShape(), body.budget))
        key.bounds = said.written()

    changed = await services.keys.update(name, check=finish, **members)
    return _public(changed, await _aliases(services))


@router.delete("/{name}", status_code=204)
async def revoke(name: str, _caller: Caller, services: ServicesNow) -> None:
    """Revoke a key: refused at the next request."""
    await services.keys.revoke(name)


def _granted(caller: Principal, allow: Sequence[str]) -> tuple[str, ...]:
    try:
        wanted = Grants.parse(tuple(allow))
    except GrantInvalid as error:
        raise InvalidRequest(str(error), member="allow") from None
    beyond = [str(grant) for grant in wanted.grants if not caller.grants.cover(Grants((grant,)))]
    if beyond:
        raise InvalidRequest(f"you do not hold {', '.join(beyond)} yourself", member="allow")
    return tuple(allow)


def _demanded(caller: Principal, body: NewKey | ChangedKey) -> Floor | None:
    """What a key's calls of tools need: nobody whose own need approval makes a key whose calls need none."""
    wanted = body.require_approval if "require_approval" in body.model_fields_set else caller.require_approval
    if not floors.covers(caller.require_approval, wanted):
        raise InvalidRequest("your own key's require_approval demands more", member="require_approval")
    return wanted


def _bounded(caller: Principal, wanted: Limits) -> Limits:
    """The limits of a key, none above the caller's own; raises `InvalidRequest` where more is asked for."""
    own = _limits(caller.requests_per_minute, caller.request_limits)
    asked, most = wanted.model_dump(exclude_none=True), own.model_dump(exclude_none=True)
    beyond = [f"{name} {bound}" for name, bound in most.items() if asked.get(name, bound) > bound]
    if beyond:
        raise InvalidRequest(f"your own key's limits are {', '.join(beyond)}", member="limits")
    return Limits(**most | asked)


def _ending(caller: Principal, wanted: datetime | None) -> float | None:
    """When a key expires: not after the caller's own."""
    asked = wanted.timestamp() if wanted is not None else caller.expires_at
    if asked is not None and caller.expires_at is not None and asked > caller.expires_at:
        raise InvalidRequest("your own key expires before that", member="expires_at")
    return asked


def _limits(requests_per_minute: int | None, of_request: RequestLimits, counted: Bounds = UNBOUND) -> Limits:
    said = {name: getattr(counted, name) for name in BoundsShape.model_fields}
    return Limits(requests_per_minute=requests_per_minute, **of_request._asdict(), **said)


def _placed(caller: Principal, team: str | None) -> str | None:
    """The team that a key is put into: its colleagues' tasks open to it, so it takes more than making keys."""
    if not caller.grants.allow("admin", "teams"):
        raise InvalidRequest("putting keys into teams needs the grant admin:teams", member="team")
    return team


async def _aliases(services: Services) -> dict[str, str]:
    return {team.id: team.alias for team in await services.teams.all()}


def _public(key: ApiKey, aliases: Mapping[str, str]) -> PublicKey:
    said = Bounds.stored(key.bounds)
    return PublicKey(
        id=key.id,
        name=key.name,
        allow=list(grants_of(key)),
        team=aliases.get(key.team_id) if key.team_id is not None else None,
        limits=_limits(key.requests_per_minute, request_limits_of(key), said),
        budget=None if said.usd is None else BudgetShape(usd=said.usd, per=said.per, warn_at=said.warn_at),
        mcp_mode="search" if key.mcp_mode == "search" else "full" if key.mcp_mode == "full" else None,
        require_approval=floors.stored(key.require_approval),
        expires_at=datetime.fromtimestamp(key.expires_at, UTC) if key.expires_at else None,
        created_at=datetime.fromtimestamp(key.created_at, UTC),
        owner=key.owner,
        created_by=key.created_by,
    )
