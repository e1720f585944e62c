"""Who comes with a token of an issuer: a user, and a row of `api_keys` that has no secret.

The row is what a principal is everywhere else: an id that owns things, is found again when its work goes on later, and
bears limits. It is one for each user, team and set of rights that tokens come with, so that none of them does more
later than its token said. No secret hashes to what stands in the row in a digest's place.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from sqlmodel import Session, col, or_, select

from registry.callers import levels
from registry.callers.levels import written
from registry.callers.tokens import Bearer, Issuer, TokenRefused
from registry.identity import Principal
from registry.sealed.secrets import digest, new_id
from registry.store.db import Database
from registry.store.tables.callers import ApiKey, Member, Team, User
from registry.store.tables.hub import Change

OWNER = "issuer"
"""Of such rows; those of keys have `file` or `api`."""

MAX_TEAMS = 1000
"""Groups in a token that are looked at; one with more is refused: which is the team would be left to chance."""

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._+-]+")


class Place(NamedTuple):
    """A team that a user is in."""

    team_id: str
    alias: str
    role: str
    """`registry.identity.Role`."""


class Accounts:
    """Finds who comes, and makes users and rows on first sight."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, bearer: Bearer) -> Principal:
        """The principal as it is now.

        Raises:
            TokenRefused: the user is not known or disabled, the team is not known or not one, or the user is not in it.
        """
        found = await self._database.read(lambda session: _find(session, bearer))
        if found is None:
            return await self._database.write(lambda session: _make(session, bearer))
        return found

    async def places(self, bearer: Bearer) -> list[Place]:
        """The teams that a bearer may act in, by alias: those that their user is in, of which the token may name some."""
        return await self._database.read(lambda session: _places(session, bearer))

    async def follow(self, issuers: Mapping[str, Issuer]) -> None:
        """Have all rows allow what the file says now, and those of issuers that are not in it nothing."""

        def change(session: Session) -> None:
            now = time.time()
            for key in session.exec(select(ApiKey).where(ApiKey.owner == OWNER)).all():
                url, scopes, roles = msgspec.json.decode(
                    key.signed_in or "", type=tuple[str, tuple[str, ...], tuple[str, ...]]
                )
                issuer = issuers.get(url)
                grants = key.grants if issuer is None else _grants(issuer, scopes, roles)
                bounds = key.bounds if issuer is None else issuer.bounds.written()
                revoked_at = (key.revoked_at or now) if issuer is None else None
                if (grants, bounds, revoked_at) != (key.grants, key.bounds, key.revoked_at):
                    key.grants, key.bounds, key.revoked_at = grants, bounds, revoked_at
                    session.add(key)
                    session.add(Change(kind="key", name=key.id))

        await self._database.write(change)


def _grants(issuer: Issuer, scopes: tuple[str, ...], roles: tuple[str, ...]) -> str:
    return written(issuer.grants(scopes, roles)) or "null"


def _find(session: Session, bearer: Bearer) -> Principal | None:
    user, team = _user(session, bearer), _team(session, bearer)
    if user is None:
        return None
    _check(session, user, team)
    return levels.by_digest(session, _digest(bearer, user, team))


def _make(session: Session, bearer: Bearer) -> Principal:
    user, team = _user(session, bearer), _team(session, bearer)
    if user is None:
        user = _new_user(session, bearer)
        if team is not None:
            session.add(Member(team_id=team.id, user_id=user.id, role="member", created_at=time.time()))
            session.flush()
    _check(session, user, team)
    known = _digest(bearer, user, team)
    if session.exec(select(ApiKey).where(ApiKey.digest == known)).first() is None:
        row = ApiKey(
            id=new_id("key"),
            name=f"{user.name} by {urlsplit(bearer.issuer.url).hostname}",
            digest=known,
            grants=_grants(bearer.issuer, bearer.scopes, bearer.roles),
            bounds=bearer.issuer.bounds.written(),
            user_id=user.id,
            team_id=None if team is None else team.id,
            created_at=time.time(),
            owner=OWNER,
            signed_in=msgspec.json.encode((bearer.issuer.url, bearer.scopes, bearer.roles)).decode(),
        )
        session.add(row)
        session.flush()
    found = levels.by_digest(session, known)
    if found is None:
        raise TokenRefused("what it stands for was revoked")
    return found


def _check(session: Session, user: User, team: Team | None) -> None:
    if user.disabled:
        raise TokenRefused("its user is disabled")
    if team is not None and session.get(Member, (team.id, user.id)) is None:
        raise TokenRefused("its user is not in its team")


def _digest(bearer: Bearer, user: User, team: Team | None) -> str:
    parts = (bearer.issuer.url, user.id, None if team is None else team.id, bearer.scopes, bearer.roles)
    return f"{OWNER}:{digest(msgspec.json.encode(parts))}"


def _user(session: Session, bearer: Bearer) -> User | None:
    """The user that an issuer made; one that it may not make must be there by name, and be no other issuer's."""
    issuer, name = bearer.issuer, bearer.user
    own = select(User).where(User.issuer == issuer.url, User.subject == name)
    found = session.exec(own).first()
    if found is None and not issuer.create_users:
        found = session.exec(select(User).where(User.name == name, col(User.issuer).is_(None))).first()
        if found is None:
            raise TokenRefused("there is no such user")
    return found


def _new_user(session: Session, bearer: Bearer) -> User:
    """Make a user whose name ends with the issuer's host: it can be none that the operator gave to somebody."""
    issuer, subject = bearer.issuer.url, bearer.user
    host = (urlsplit(issuer).hostname or "").strip("[]").replace(":", ".")[:60]
    plain = _NOT_IN_A_NAME.sub("-", subject.lower())[:40].strip("-._+")
    name = f"{plain}@{host}"
    taken = session.exec(select(User).where(User.name == name)).first() is not None
    if plain != subject or plain.startswith("user_") or taken:
        name = f"u-{digest(msgspec.json.encode((issuer, subject)))[:24]}@{host}"
    user = User(id=new_id("user"), name=name, issuer=issuer, subject=subject, created_at=time.time())
    session.add(user)
    session.flush()
    return user


def _team(session: Session, bearer: Bearer) -> Team | None:
    """The one team that a token names by id or alias."""
    if bearer.teams is None:
        return None
    found = _named(session, bearer.teams)
    if len(found) != 1:
        raise TokenRefused("it names several teams" if found else "it names no team of the hub's")
    return next(iter(found.values()))


def _named(session: Session, names: tuple[str, ...]) -> dict[str, Team]:
    if len(names) > MAX_TEAMS:
        raise TokenRefused("it names too many teams")
    found: dict[str, Team] = {}
    for begin in range(0, len(names), 400):
        some = names[begin : begin + 400]
        query = select(Team).where(or_(col(Team.alias).in_(some), col(Team.id).in_(some)))
        found.update((team.id, team) for team in session.exec(query).all())
    return found


def _places(session: Session, bearer: Bearer) -> list[Place]:
    user = _user(session, bearer)
    if user is None:
        return []
    named = None if bearer.teams is None else _named(session, bearer.teams)
    query = select(Team, Member.role).join(Member, col(Member.team_id) == Team.id)
    found = session.exec(query.where(Member.user_id == user.id).order_by(Team.alias)).all()
    return [Place(team.id, team.alias, role) for team, role in found if named is None or team.id in named]
