"""The levels of a key: its row and those of its user, its team and what the user is in it, as one `Principal`.

A level that has no `allow` bounds nothing; what remains is what all that have one allow, and nothing if none has. A key
whose user is disabled, deleted or no longer in its team stands for nobody (docs/decisions/0031-levels-and-roles.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from ipaddress import ip_network
from typing import Any, Literal, NamedTuple, TypeVar, cast

import msgspec
from msgspec import structs
from sqlalchemy import ColumnElement
from sqlmodel import Session, col, or_, select

from registry import floors
from registry.access import Grants, Meet
from registry.callers.kin import line
from registry.identity import HUBS_LIMITS, DoorName, Principal, RequestLimits, Role
from registry.limits import Bounds, Limit, Pace
from registry.store.tables.callers import ApiKey, Member, Team, User

T = TypeVar("T")
Level = TypeVar("Level", User, Team)

KINDS: dict[type[User | Team], Literal["user", "team"]] = {User: "user", Team: "team"}
"""What keys belong to, as errors, routes and columns call it."""

NAMES: dict[type[User | Team], str] = {User: "name", Team: "alias"}
"""The member that names one."""

SHARED_LISTS = 10_000
"""Lists of grants that are kept parsed: keys with the same one share it, and what it remembers."""


class Levels(NamedTuple):
    """A key with what it belongs to, as the database has it."""

    key: ApiKey
    user: User | None
    team: Team | None
    member: Member | None


def by_digest(session: Session, digest: str) -> Principal | None:
    """Whoever has the secret of this SHA-256 now; None: it opens nothing. One query of indexes."""
    found = _read_levels(session, or_(col(ApiKey.digest) == digest, col(ApiKey.previous_digest) == digest))
    principal = principal_of(session, found[0]) if found else None
    if principal is None or found[0].key.digest == digest:
        return principal
    until = found[0].key.previous_until or 0.0
    return structs.replace(
        principal, expires_at=until if principal.expires_at is None else min(until, principal.expires_at)
    )


def by_ids(session: Session, ids: Collection[str]) -> list[Principal]:
    """Those of some principals whose keys are valid, but that one may have expired."""
    return [principal for levels in read(session, ids) if (principal := principal_of(session, levels)) is not None]


def read(session: Session, ids: Collection[str]) -> list[Levels]:
    """Those of some keys with what is above them, valid or not."""
    return _read_levels(session, col(ApiKey.id).in_(ids))


def named(session: Session, level: type[Level], name: str) -> Level | None:
    """The user or team of this name or id; no name reads like an id."""
    called = getattr(level, NAMES[level]) == name
    return session.exec(select(level).where(or_(called, col(level.id) == name))).first()


def _read_levels(session: Session, which: ColumnElement[bool]) -> list[Levels]:
    query: Any = (
        select(ApiKey, User, Team, Member)
        .join(User, col(User.id) == ApiKey.user_id, isouter=True)
        .join(Team, col(Team.id) == ApiKey.team_id, isouter=True)
        .join(Member, (col(Member.team_id) == ApiKey.team_id) & (col(Member.user_id) == ApiKey.user_id), isouter=True)
    )
    return [Levels(*found) for found in session.exec(query.where(which)).all()]


def why_refused(levels: Levels) -> str | None:
    """Why a key stands for nobody, in words for operators; None: it stands for somebody. Whether it has expired is not looked at."""
    key, user, team, member = levels
    if key.revoked_at is not None:
        return "it is revoked"
    if key.user_id is not None and user is None:
        return "its user is deleted"
    if user is not None and user.disabled:
        return f"its user {user.name} is disabled"
    if key.team_id is not None and team is None:
        return "its team is deleted"
    if user is not None and team is not None and member is None:
        return f"its user {user.name} is not in its team {team.alias}"
    return None


def principal_of(session: Session, levels: Levels) -> Principal | None:
    """The caller that a key stands for; None: nobody. Whether the key has expired is not looked at."""
    if why_refused(levels) is not None:
        return None
    key, user, team, member = levels
    own = grants_of(key)
    limits, session_limits = limits_of(session, key), _each(session, key, Bounds.in_session)
    paces = tuple(_paces(key, user, team))
    share = Bounds.stored(key.bounds).limits_warn_at
    lists = [own, *(allow_of(level) for level in (user, team) if level is not None)]
    return Principal(
        id=key.id,
        name=key.name,
        grants=_met(tuple(found for found in lists if found is not None)),
        mcp_mode=key.mcp_mode,
        require_approval=floors.stored(key.require_approval),
        request_limits=request_limits_of(key),
        limits=limits,
        session_limits=session_limits,
        paces=paces,
        warn_at=share,
        is_warned=any(one.warn is not None for one in (*limits, *session_limits))
        or any(one.warn is not None for one in paces),
        expires_at=key.expires_at,
        team_id=key.team_id,
        team=team.alias if team is not None else None,
        user_id=key.user_id,
        user=user.name if user is not None else None,
        role=cast("Role", member.role) if member is not None and own is not None and _acts(own) else None,
        doors=None if (doors := doors_of(key)) is None else frozenset(doors),
        networks=None if (found := networks_of(key)) is None else tuple(map(ip_network, found)),
    )


def _paces(key: ApiKey, user: User | None, team: Team | None) -> Iterator[Pace]:
    if key.requests_per_minute is not None:
        yield Pace(
            key.id, "the key's", key.requests_per_minute, Bounds.stored(key.bounds).warn(key.requests_per_minute)
        )
    for level, whose in ((user, "the user's"), (team, "the team's")):
        if level is not None and (said := Bounds.stored(level.bounds)).pace is not None:
            yield Pace(level.id, whose, said.pace, said.warn(said.pace))


@lru_cache(maxsize=SHARED_LISTS)
def _met(lists: tuple[tuple[str, ...], ...]) -> Grants:
    return Meet.of(*map(_parsed, lists))


@lru_cache(maxsize=SHARED_LISTS)
def _parsed(texts: tuple[str, ...]) -> Grants:
    return Grants.parse(texts)


def _acts(allow: tuple[str, ...]) -> bool:
    """Whether a key's own list lets it act in its user's role."""
    return _parsed(allow).allow("admin", "roles")


def grants_of(key: ApiKey) -> tuple[str, ...] | None:
    """The key's own list of grants; None: it has none."""
    return msgspec.json.decode(key.grants, type=tuple[str, ...] | None)


def allow_of(level: User | Team) -> tuple[str, ...] | None:
    """What a user or team allows; None: it bounds nothing."""
    return _read_list(level.allow, tuple[str, ...])


def doors_of(key: ApiKey) -> tuple[DoorName, ...] | None:
    """Where it may be used; None: everywhere."""
    return _read_list(key.doors, tuple[DoorName, ...])


def networks_of(key: ApiKey) -> tuple[str, ...] | None:
    """From where it may be used, in CIDR form; None: from anywhere."""
    return _read_list(key.networks, tuple[str, ...])


def _read_list(text: str | None, kind: type[T]) -> T | None:
    return None if text is None else msgspec.json.decode(text, type=kind)


def written(texts: Collection[str] | None) -> str | None:
    """A list as it is stored."""
    return None if texts is None else msgspec.json.encode(list(texts)).decode()


def request_limits_of(key: ApiKey) -> RequestLimits:
    """Its bounds of one request."""
    return RequestLimits(*msgspec.json.decode(key.request_limits)) if key.request_limits else HUBS_LIMITS


def written_limits(limits: RequestLimits) -> str | None:
    """Bounds of one request as they are stored."""
    return None if limits == HUBS_LIMITS else msgspec.json.encode(limits).decode()


def limits_of(session: Session, key: ApiKey) -> tuple[Limit, ...]:
    """What is counted of a key's calls: by its own limits, its user's, its team's, and those of the key that made it."""
    return _each(session, key, Bounds.of)


def _each(session: Session, key: ApiKey, limits: Callable[[Bounds, str, str], tuple[Limit, ...]]) -> tuple[Limit, ...]:
    whose = "the key's" if key.signed_in is None else "the issuer's"
    found = limits(Bounds.stored(key.bounds), _counter_of(key), whose)
    for name in line(session, key.id)[1:]:
        maker = session.get(ApiKey, name)
        if maker is not None:
            found += limits(Bounds.stored(maker.bounds), _counter_of(maker), "its maker's")
    user = session.get(User, key.user_id) if key.user_id is not None else None
    team = session.get(Team, key.team_id) if key.team_id is not None else None
    for level, whose in ((user, "the user's"), (team, "the team's")):
        if level is not None:
            found += limits(Bounds.stored(level.bounds), level.id, whose)
    return found


def _counter_of(key: ApiKey) -> str:
    """Under which name its own bounds are counted: those of an issuer for all rows of one user together."""
    return key.id if key.signed_in is None else f"{key.user_id} issuer"


def unexpired(principal: Principal | None) -> Principal | None:
    """The principal, unless its time is over."""
    if principal is not None and principal.expires_at is not None and principal.expires_at <= time.time():
        return None
    return principal
