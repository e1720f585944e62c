"""Nobody can make a key, team or user hold what they do not hold. What callers hold is their grants, and for keys all that bounds their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Literal

from hub.services import Services
from registry import floors
from registry.access import EVERYTHING, GrantInvalid, Grants
from registry.callers.levels import doors_of, grants_of, networks_of, request_limits_of, written
from registry.errors import InvalidRequest
from registry.identity import Principal
from registry.store.tables.callers import ApiKey

ROLES_GRANT = "admin:roles"


def allowed(caller: Principal, allow: Sequence[str] | None, *, is_new: bool = False) -> str | None:
    """What a team or user is to allow, as it is stored.

    A level without `allow` bounds nothing, so taking it away takes one who holds everything; of a new one nothing hangs yet.

    Raises:
        InvalidRequest: the caller does not hold all of it.
    """
    if allow is None:
        if not is_new:
            _check_everything(caller)
        return None
    _check_grants(caller, allow)
    return written(allow)


def check_held(caller: Principal, key: ApiKey) -> None:
    """Raise `InvalidRequest` if a key, as it is to be, could do what its maker or changer cannot."""
    allow = grants_of(key)
    if allow is None:
        _check_everything(caller)
    else:
        acts = _acts_for(caller, key)
        _check_grants(caller, [grant for grant in allow if not (acts and grant == ROLES_GRANT)])
    if caller.expires_at is not None and (key.expires_at is None or key.expires_at > caller.expires_at):
        raise InvalidRequest("your own key expires before that", member="expires_at")
    if not floors.covers(caller.require_approval, floors.stored(key.require_approval)):
        raise InvalidRequest("your own key's require_approval demands more", member="require_approval")
    _check_places(caller, key)
    _check_limits(caller, key)


def check_placed(caller: Principal, key: ApiKey) -> None:
    """Raise `InvalidRequest` if a caller may not have a key of this user and team."""
    if _acts_for(caller, key) and (key.user_id is None or key.user_id == caller.user_id):
        return
    if not caller.grants.allow("admin", "keys"):
        raise InvalidRequest("a role makes keys of its team, and of nobody but its own user", member="team")
    places: dict[Place, str | None] = {"team": key.team_id, "user": key.user_id}
    for place, of in places.items():
        if of is not None and not caller.grants.allow("admin", f"{place}s"):
            raise InvalidRequest(_NEEDS[place], member=place)


Place = Literal["team", "user"]


async def placed(services: Services, caller: Principal, wanted: Mapping[Place, str | None]) -> dict[Place, str | None]:
    """Where a caller puts a key, or from where they take it: more than making keys, since its colleagues' tasks open to it.

    Somebody with a role puts keys into their own team, and makes no one else's: such a key would act as them, and spend what is theirs.

    Raises:
        InvalidRequest: the caller may not; the same whether there is such a team or user.
    """
    found = dict(wanted)
    for place, name in wanted.items():
        if not caller.grants.allow("admin", f"{place}s"):
            found[place] = await _in_role(services, caller, place, name)
            if found[place] is None:
                raise InvalidRequest(_NEEDS[place], member=place)
    return found


async def _in_role(services: Services, caller: Principal, place: Place, name: str | None) -> str | None:
    """The id of the team or member of that name, if the caller's role reaches it."""
    if caller.team_id is None or not caller.acts_as("member"):
        return None
    if place == "team":
        team = await services.teams.find(caller.team_id)
        return team.id if name in {team.id, team.alias} else None
    for member in await services.teams.members(caller.team_id):
        if name in {member.user.id, member.user.name}:
            return member.user.id if member.user.id == caller.user_id else None
    return None


_NEEDS: dict[Place, str] = {
    "team": "putting keys into teams needs the grant admin:teams",
    "user": "making keys of users needs the grant admin:users",
}


def _acts_for(caller: Principal, key: ApiKey) -> bool:
    """Whether the caller's role in a team covers this key of it."""
    if key.team_id is None or key.team_id != caller.team_id:
        return False
    return caller.acts_as("admin") or (caller.acts_as("member") and key.user_id == caller.user_id)


def _check_grants(caller: Principal, allow: Sequence[str]) -> None:
    try:
        wanted = Grants.parse(tuple(allow))
    except GrantInvalid as error:
        raise InvalidRequest(str(error), member="allow") from None
    beyond = [str(grant) for grant in wanted.grants if not caller.grants.cover(Grants((grant,)))]
    if beyond:
        raise InvalidRequest(f"you do not hold {', '.join(beyond)} yourself", member="allow")


def _check_everything(caller: Principal) -> None:
    if not caller.grants.cover(EVERYTHING):
        raise InvalidRequest("leaving allow open takes somebody who holds everything: list the grants", member="allow")


def _check_places(caller: Principal, key: ApiKey) -> None:
    doors = doors_of(key)
    if caller.doors is not None and (doors is None or not set(doors) <= caller.doors):
        raise InvalidRequest("your own key does not open all of these doors", member="doors")
    networks = networks_of(key)
    if caller.networks is None:
        return
    inside = networks is not None and all(
        any(mine.version == one.version and one.subnet_of(mine) for mine in caller.networks)  # type: ignore[arg-type]
        for one in map(ip_network, networks)
    )
    if not inside:
        raise InvalidRequest("your own key is used from narrower networks", member="networks")


def _check_limits(caller: Principal, key: ApiKey) -> None:
    pace, mine = key.requests_per_minute, caller.requests_per_minute
    limits = request_limits_of(key)
    if (mine is not None and (pace is None or pace > mine)) or limits.within(caller.request_limits) != limits:
        raise InvalidRequest("your own key's limits are lower", member="limits")
