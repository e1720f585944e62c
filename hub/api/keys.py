"""`/api/keys`: made, listed, changed, revoked. A secret is shown once, in the answer that made it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from hub.api.access import PageSize, ServicesNow, needs
from hub.api.holding import Place, check_held, check_placed, placed
from hub.api.limits import UsedLimit, check_free_of, used_of
from hub.api.toolsets import ViewCost, view_cost
from hub.services import Services
from registry import floors
from registry.access import Grants
from registry.callers.keys import MAX_OVERLAP_S, Check, NamedKey
from registry.callers.levels import (
    doors_of,
    grants_of,
    limits_of,
    networks_of,
    request_limits_of,
    written,
    written_limits,
)
from registry.declared.entry_shapes import BoundsShape, BudgetShape, CallerBoundsShape, Mode, bounds, shown_limits
from registry.errors import InvalidRequest, NotFound
from registry.identity import DOORS, DoorName, KeySpec, Principal, RequestLimits
from registry.limits import UNBOUND, Bounds
from registry.members import DoorNames, FloorRule, KeyName, Networks, PositiveFloat, PositiveInt
from registry.store.tables.callers import ApiKey

router = APIRouter(prefix="/keys", tags=["keys"])
Viewer = Annotated[Principal, Depends(needs("keys", role="viewer"))]
Maker = Annotated[Principal, Depends(needs("keys", role="member"))]


class Limits(CallerBoundsShape):
    """How much a key may do."""

    requests_per_minute: PositiveInt | None = None
    max_rounds: PositiveInt | None = None
    """Of tool calls in one request, like the next four."""
    max_calls: PositiveInt | None = None
    max_seconds: PositiveFloat | None = None
    max_usd: PositiveFloat | None = None
    max_total_tokens: PositiveInt | None = None

    def of_request(self) -> RequestLimits:
        """Those of one request."""
        return RequestLimits(**self.model_dump(include=set(RequestLimits._fields)))


class NewKey(BaseModel):
    """A key to make. Doors, networks, expiry and approvals that are not said are those of the maker's key."""

    model_config = ConfigDict(extra="forbid")
    name: KeyName
    allow: list[str] | None = Field(max_length=1000)
    """Null: what its user and team allow."""
    user: str | None = None
    """Name or id of whose key it is. Making keys of users needs `admin:users`, or a role in the team."""
    team: str | None = None
    """Alias or id. Putting a key into a team needs `admin:teams`, or a role in it."""
    limits: Limits = Limits()
    budget: BudgetShape | None = None
    mcp_mode: Mode | None = None
    """How MCP tools are listed to the key; null: as a toolset says, else all."""
    require_approval: FloorRule | None = None
    """Which tools a model calls for it only when that was approved: `always`, `destructive`, or globs."""
    doors: DoorNames | None = None
    """Where it may be used; null: everywhere."""
    networks: Networks | None = None
    """From where it may be used, such as `10.0.0.0/8`; null: from anywhere."""
    expires_at: AwareDatetime | None = None


class ChangedKey(BaseModel):
    """What to change of a key; absent members stay."""

    model_config = ConfigDict(extra="forbid")
    allow: list[str] | None = Field(default=None, max_length=1000)
    user: str | None = None
    team: str | None = None
    """Alias or id; null takes the key out of its team."""
    limits: Limits | None = None
    budget: BudgetShape | None = None
    """Null: none."""
    mcp_mode: Mode | None = None
    require_approval: FloorRule | None = None
    doors: DoorNames | None = None
    networks: Networks | None = None
    expires_at: AwareDatetime | None = None


class Rotation(BaseModel):
    """How a key gets another secret."""

    model_config = ConfigDict(extra="forbid")
    overlap_s: float = Field(default=0, ge=0, le=MAX_OVERLAP_S)
    """How long the old secret is taken too; 0: it ends at once."""


class PublicKey(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    allow: list[str] | None
    user: str | None
    """The name of its user."""
    team: str | None
    """The alias of its team."""
    limits: Limits
    budget: BudgetShape | None
    mcp_mode: Mode | None
    require_approval: str | tuple[str, ...] | None
    doors: list[DoorName] | None
    networks: list[str] | None
    expires_at: datetime | None
    created_at: datetime
    last_used_at: datetime | None
    """To about a minute; null: never."""
    owner: str
    created_by: str | None
    """The id of the principal that made it over the API, or gave it its secret; null: the operator."""


class ShownKey(PublicKey):
    """A key, with what its list of tools at `/mcp` costs, and what it has used of its limits."""

    view: ViewCost
    used: list[UsedLimit]


class MadeKey(PublicKey):
    """A key just made or rotated, with its secret, once."""

    key: str


class KeyPage(BaseModel):
    """Some keys; `next` continues the list as `after`."""

    items: list[PublicKey]
    next: str | None


@router.post("", status_code=201)
async def create(body: NewKey, caller: Maker, services: ServicesNow) -> MadeKey:
    """Make a key. Nobody can make one that holds more than they hold; what is not said of that is the maker's."""
    given = body.model_fields_set
    limits = _bounded(caller, body.limits)
    team, user = body.team, body.user
    if not _manages(caller):  # in a role: within its team, and a member for themselves
        team = team if "team" in given else caller.team_id
        user = user if "user" in given or caller.acts_as("admin") else caller.user_id
    wanted: dict[Place, str | None] = {"team": team, "user": user}
    where = await placed(services, caller, {place: name for place, name in wanted.items() if name is not None})
    made, secret = await services.keys.create(
        KeySpec(
            name=body.name,
            allow=None if body.allow is None else tuple(body.allow),
            requests_per_minute=limits.requests_per_minute,
            mcp_mode=body.mcp_mode,
            require_approval=body.require_approval if "require_approval" in given else caller.require_approval,
            request_limits=limits.of_request(),
            bounds=bounds(body.limits, body.budget),
            doors=_doors(body, caller),
            networks=_networks(body, caller),
            expires_at=_ending(caller, body.expires_at),
            created_by=caller.id,
            team=where.get("team"),
            user=where.get("user"),
        ),
        check=partial(_check_new, caller),
    )
    return await _with_secret(services, made, secret)


@router.get("")
async def listed(
    caller: Viewer,
    services: ServicesNow,
    after: str = "",
    limit: PageSize = 100,
) -> KeyPage:
    """List live keys by name; to a role in a team, those of the team."""
    team_id = None if _manages(caller) else caller.team_id
    found = await services.keys.page(after=after, limit=limit + 1, team_id=team_id)
    items = [_public(key) for key in found[:limit]]
    return KeyPage(items=items, next=items[-1].name if len(found) > limit else None)


@router.get("/{name}")
async def one(name: str, caller: Viewer, services: ServicesNow) -> ShownKey:
    """Show a key."""
    found = await _named(services, name, None if _manages(caller) else caller.team_id)
    principal = (await services.keys.living([found.key.id])).get(found.key.id)
    view = view_cost(services.registry.catalog, principal.grants if principal is not None else Grants(()))
    limits = await services.database.read(lambda session: limits_of(session, found.key))
    return ShownKey(view=view, used=await used_of(services, limits), **_public(found).model_dump())


@router.patch("/{name}")
async def change(name: str, body: ChangedKey, caller: Maker, services: ServicesNow) -> PublicKey:
    """Change what a key may do, from the next request on. The changed key holds no more than its changer."""
    given, members = body.model_fields_set, _members(body, caller)
    places: tuple[Place, ...] = ("team", "user")
    moves = await placed(services, caller, {place: getattr(body, place) for place in places if place in given})
    members |= {str(place): of for place, of in moves.items()}
    judge = partial(_check_new if moves else check_held, caller)

    def check(key: ApiKey) -> None:
        judge(key)
        said = Bounds.stored(key.bounds)
        if body.limits is not None:
            said = said.with_limits(bounds(body.limits, None))
        if "budget" in given:
            said = said.with_budget(bounds(BoundsShape(), body.budget))
        if said.written() != key.bounds:
            check_free_of(caller, key.id)
            key.bounds = said.written()

    changed = await services.keys.update(name, may=_may(caller), check=check, **members)
    return _public(await _named(services, changed.name, None))


@router.post("/{name}/rotate")
async def rotate(name: str, body: Rotation, caller: Maker, services: ServicesNow) -> MadeKey:
    """Give a key another secret. Who may is who could make it: they see the new secret."""

    def may(key: ApiKey) -> None:
        _may(caller)(key)
        _check_new(caller, key)

    rotated, secret = await services.keys.rotate(name, body.overlap_s, may=may, by=caller.id)
    return await _with_secret(services, rotated, secret)


@router.delete("/{name}", status_code=204)
async def revoke(name: str, caller: Maker, services: ServicesNow) -> None:
    """Revoke a key: refused at the next request."""
    await services.keys.revoke(name, may=_may(caller))


def _members(body: ChangedKey, caller: Principal) -> dict[str, object]:
    """The members of a key that are to be others, but for whose it is."""
    given = body.model_fields_set
    members: dict[str, object] = {}
    if "allow" in given:
        members["grants"] = written(body.allow) or "null"
    if body.limits is not None:
        limits = _bounded(caller, body.limits)
        members["requests_per_minute"] = limits.requests_per_minute
        members["request_limits"] = written_limits(limits.of_request())
    if "expires_at" in given:
        members["expires_at"] = _ending(caller, body.expires_at)
    if "mcp_mode" in given:
        members["mcp_mode"] = body.mcp_mode
    if "require_approval" in given:
        members["require_approval"] = floors.written(body.require_approval)
    if "doors" in given:
        members["doors"] = written(_doors(body, caller))
    if "networks" in given:
        members["networks"] = written(_networks(body, caller))
    return members


def _manages(caller: Principal) -> bool:
    """Whether the caller looks after all keys, not only in a role after some of its team's."""
    return caller.grants.allow("admin", "keys")


def _may(caller: Principal) -> Check:
    """Whose keys the caller may change: of other teams there are none for them."""

    def check(key: ApiKey) -> None:
        if _manages(caller):
            return
        if key.team_id != caller.team_id:
            raise NotFound("key", key.name)
        if not caller.acts_as("admin") and key.user_id != caller.user_id:
            raise InvalidRequest("a member changes their own keys only")

    return check


def _check_new(caller: Principal, key: ApiKey) -> None:
    check_placed(caller, key)
    check_held(caller, key)


def _doors(body: NewKey | ChangedKey, caller: Principal) -> tuple[DoorName, ...] | None:
    wanted = caller.doors if body.doors is None else body.doors
    return None if wanted is None else tuple(door for door in DOORS if door in wanted)


def _networks(body: NewKey | ChangedKey, caller: Principal) -> tuple[str, ...] | None:
    wanted = caller.networks if body.networks is None else body.networks
    return None if wanted is None else tuple(map(str, wanted))


def _bounded(caller: Principal, wanted: Limits) -> Limits:
    """The limits of a key, none above the caller's own; raises `InvalidRequest` where more is asked for."""
    own = _limits(caller.requests_per_minute, caller.request_limits)
    asked, most = wanted.model_dump(exclude_none=True), own.model_dump(exclude_none=True, exclude={"session"})
    beyond = [f"{name} {bound}" for name, bound in most.items() if asked.get(name, bound) > bound]
    if beyond:
        raise InvalidRequest(f"your own key's limits are {', '.join(beyond)}", member="limits")
    return Limits(**most | asked)


def _ending(caller: Principal, wanted: datetime | None) -> float | None:
    """When a key expires: with the caller's own, if it is not said; `check_held` sees that it is not later."""
    return wanted.timestamp() if wanted is not None else caller.expires_at


def _limits(requests_per_minute: int | None, of_request: RequestLimits, counted: Bounds = UNBOUND) -> Limits:
    return Limits(requests_per_minute=requests_per_minute, **of_request._asdict(), **shown_limits(counted))


async def _named(services: Services, name: str, team_id: str | None) -> NamedKey:
    found = await services.keys.page(name=name, team_id=team_id)
    if not found:
        raise NotFound("key", name)
    return found[0]


async def _with_secret(services: Services, key: ApiKey, secret: str) -> MadeKey:
    return MadeKey(key=secret, **_public(await _named(services, key.name, None)).model_dump())


def _public(named: NamedKey) -> PublicKey:
    key, allow, doors, networks = named.key, grants_of(named.key), doors_of(named.key), networks_of(named.key)
    said = Bounds.stored(key.bounds)
    return PublicKey(
        id=key.id,
        name=key.name,
        allow=None if allow is None else list(allow),
        user=named.user,
        team=named.team,
        limits=_limits(key.requests_per_minute, request_limits_of(key), said),
        budget=None if said.usd is None else BudgetShape(usd=said.usd, per=said.per, warn_at=said.warn_at),
        mcp_mode="search" if key.mcp_mode == "search" else "full" if key.mcp_mode == "full" else None,
        require_approval=floors.stored(key.require_approval),
        doors=None if doors is None else list(doors),
        networks=None if networks is None else list(networks),
        expires_at=_date(key.expires_at),
        created_at=datetime.fromtimestamp(key.created_at, UTC),
        last_used_at=_date(key.last_used_at),
        owner=key.owner,
        created_by=key.created_by,
    )


def _date(moment: float | None) -> datetime | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC)
