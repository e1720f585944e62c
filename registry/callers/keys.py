"""API keys: made, looked up through a bounded cache, revoked. A revoked key is refused at the next request."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, delete, or_, select, update

from registry import floors
from registry.callers import levels
from registry.callers.kin import line
from registry.callers.last_use import LastUse
from registry.callers.levels import KINDS, Level, named, unexpired, written, written_limits
from registry.errors import Conflict, InvalidRequest, NotFound, Overloaded
from registry.identity import ADMIN_ID, KeySpec, Principal, admin
from registry.sealed.secrets import digest, new_api_key, new_id
from registry.store.db import Database
from registry.store.tables.callers import ApiKey, Member, Team, User
from registry.store.tables.hub import Change, Setting
from registry.store.tables.sealed import StoredCredential
from registry.store.tables.trust import ApprovedFeature, ListedFeature, SeenServer

logger = logging.getLogger(__name__)

MAX_CACHED = 100_000
"""Digests remembered, good and bad together: a flood of wrong keys costs this much memory and no more."""

STALE_AFTER_S = 10.0
"""A process that could not read changes for this long refuses: a key in its cache may be revoked (architecture.md 3.4)."""

MAX_OVERLAP_S = 30 * 86400
"""How long a rotated key's old secret may be taken too."""

_ADMIN_DIGEST = "admin_key_sha256"
_is_key = col(ApiKey.signed_in).is_(None)

Check = Callable[[ApiKey], object]
"""Sees a key, and raises to leave it as it is."""


def anyones(_key: ApiKey) -> None:
    """The check of who may do it to every key."""


class NamedKey(NamedTuple):
    """A key, and what the team and user are called now that it belongs to."""

    key: ApiKey
    team: str | None
    user: str | None


class Keys:
    """All keys of the hub. Cached lookups are synchronous; a miss reads the database."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.last_use = LastUse(database)
        self._database = database
        self._clock = clock
        self._cache: OrderedDict[str, Principal | None] = OrderedDict()
        self.version = 0
        """Another one once a key may have changed. What was found under one is true as long as changes are read (`check_fresh`)."""
        self._fresh_at = clock()
        self._listeners: list[Callable[[], None]] = []
        self.under: Callable[[Principal], Principal] = lambda principal: principal
        """Puts a principal under the hub's rules. What it says is remembered until `forget`."""

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever some key may have changed, for the life of the process."""
        self._listeners.append(listener)

    def cached(self, secret_digest: str) -> Principal | None:
        """The principal if its key is known here; None: look it up.

        Raises:
            Overloaded: changes could not be read lately, so nothing cached is believed.
        """
        self.check_fresh()
        found = self._cache.get(secret_digest)
        return found if found is None or found.expires_at is None else unexpired(found)

    async def find(self, secret_digest: str) -> Principal | None:
        """The principal of a key's SHA-256, from the cache or the database; None: no valid key."""
        return await self.look_up(
            secret_digest, lambda: self._database.read(lambda session: _load(session, secret_digest))
        )

    async def look_up(self, secret_digest: str, read: Callable[[], Awaitable[Principal | None]]) -> Principal | None:
        """As `find`, of a secret that `read` knows how to look for; what it raises is not remembered."""
        self.check_fresh()
        while secret_digest not in self._cache:
            version = self.version
            found = await read()
            if version == self.version:  # otherwise a key changed while we read: what we read may be old
                self._cache[secret_digest] = None if found is None else self.under(found)
                if len(self._cache) > MAX_CACHED:
                    self._cache.popitem(last=False)
        return unexpired(self._cache[secret_digest])

    def check_fresh(self) -> None:
        """Check that changes could be read lately; raises as `cached`."""
        if self._clock() - self._fresh_at > STALE_AFTER_S:
            raise Overloaded("The hub cannot read its own key changes; try again shortly.")

    def mark_fresh(self) -> None:
        """Note that all changes up to now have been read."""
        self._fresh_at = self._clock()

    def forget(self) -> None:
        """Drop all cached keys: one of them, or a user, team or membership that one belongs to, changed."""
        self.version += 1
        self._cache.clear()
        for listener in self._listeners:
            listener()

    async def living(self, ids: Collection[str]) -> dict[str, Principal]:
        """Those of some principals, by id, whose keys are valid, as they are now.

        Raises:
            Overloaded: the database cannot be read.
        """
        try:
            read = await self._database.read(lambda session: levels.by_ids(session, ids))
        except SQLAlchemyError as error:
            logger.warning("keys cannot be read", extra={"reason": str(error)})
            raise Overloaded("The hub cannot read its own keys; try again shortly.") from None
        found = [admin(), *map(self.under, read)]
        return {one.id: one for one in found if unexpired(one) is not None}

    async def named(self, name: str) -> Principal:
        """The principal of a valid key, by its name or id.

        Raises:
            NotFound: there is no such key.
            InvalidRequest: it is refused at every door; says why, which is for operators.
        """

        def load(session: Session) -> Principal | str | None:
            key = _live(session, name)
            found = levels.read(session, [name if key is None else key.id])
            return (levels.why_refused(found[0]) or levels.principal_of(session, found[0])) if found else None

        found = await self._database.read(load)
        if found is None:
            raise NotFound("principal", name)
        if not isinstance(found, str) and unexpired(found) is None:
            found = "it has expired"
        if isinstance(found, str):
            raise InvalidRequest(f"The key {name!r} is refused at every door: {found}.", member="principal")
        return self.under(found)

    async def create(self, spec: KeySpec, *, check: Check = anyones) -> tuple[ApiKey, str]:
        """Make a key; returns it and its secret, which is not kept. `check` sees it before it is there.

        Raises:
            Conflict: a live key has this name.
            InvalidRequest: there is no such user or team, or the user is not in the team.
        """
        secret = spec.secret or new_api_key()

        def insert(session: Session) -> ApiKey:
            if _live(session, spec.name) is not None:
                raise Conflict(f"A key named {spec.name!r} exists; revoke it first.")
            made = _insert(session, spec, secret, owner="api")
            check(made)
            return made

        made = await self._database.write(insert)
        self.forget()
        return made, secret

    async def all_live(self) -> list[ApiKey]:
        """All live keys by name; their secrets are not known."""
        query = select(ApiKey).where(_is_key, col(ApiKey.revoked_at).is_(None)).order_by(ApiKey.name)
        return await self._database.read(lambda session: list(session.exec(query).all()))

    async def page(
        self, *, after: str = "", limit: int | None = 1, team_id: str | None = None, name: str | None = None
    ) -> list[NamedKey]:
        """Live keys by name, those after one name, or of one name only; `team_id` leaves out those of other teams."""
        query = (
            select(ApiKey, Team.alias, User.name)
            .join(Team, col(Team.id) == ApiKey.team_id, isouter=True)
            .join(User, col(User.id) == ApiKey.user_id, isouter=True)
            .where(_is_key, col(ApiKey.revoked_at).is_(None))
        )
        query = query.where(ApiKey.name > after) if name is None else query.where(ApiKey.name == name)
        if team_id is not None:
            query = query.where(ApiKey.team_id == team_id)
        query = query.order_by(ApiKey.name, ApiKey.owner).limit(limit)
        return await self._database.read(lambda session: [NamedKey(*found) for found in session.exec(query).all()])

    async def update(self, name: str, *, may: Check = anyones, check: Check = anyones, **members: object) -> ApiKey:
        """Replace members of a key made here; raises `NotFound`, or `Conflict` for a key of the file.

        `may` sees the key as it is, `check` as it would be, and may change it further. The members `team` and `user` are a name or id, or None;
        raises `InvalidRequest` when there is none such, or the user is not in the team.
        """

        def change(session: Session) -> ApiKey:
            key = _own(session, name, may)
            for member, value in members.items():
                if member == "team":
                    key.team_id = _id_of(session, Team, value)
                elif member == "user":
                    key.user_id = _id_of(session, User, value)
                else:
                    setattr(key, member, value)
            _check_membership(session, key)
            check(key)
            session.add(key)
            if key.revoked_at is not None:  # nobody will use its accounts any more
                _end_accounts(session, [key.id])
            session.add(Change(kind="key", name=key.id))
            return key

        changed = await self._database.write(change)
        self.forget()
        return changed

    async def rotate(
        self, name: str, overlap_s: float, *, may: Check = anyones, by: str | None = None
    ) -> tuple[ApiKey, str]:
        """Give a key another secret; the one before it is taken for `overlap_s` longer. Raises as `update`.

        The key stays the same principal. A secret that was still taken from an earlier rotation ends. Who it was (`by`, the id of
        a principal; None: the operator) has the key then as if it had made it.
        """
        secret = new_api_key()

        def change(session: Session) -> ApiKey:
            key = _own(session, name, may)
            key.previous_digest, key.previous_until = key.digest, time.time() + overlap_s
            key.digest = digest(secret.encode())
            if by not in (None, ADMIN_ID, *line(session, key.id)) and key.id not in line(session, str(by)):
                key.created_by = by  # who is of its line already leaves it as it is: it spends from its makers too
            session.add(key)
            session.add(Change(kind="key", name=key.id))
            return key

        rotated = await self._database.write(change)
        self.forget()
        return rotated, secret

    async def revoke(self, name: str, *, may: Check = anyones) -> None:
        """Revoke a key: refused at the next request here, within a second elsewhere; raises as `update`."""
        await self.update(name, may=may, revoked_at=time.time())

    async def follow_file(self, specs: list[KeySpec]) -> None:
        """Make the file's keys exist and no others of the file's.

        A changed secret is a new key with a new id: it inherits nothing of the old one (surface.md 4).

        Raises:
            Conflict: a key of the file has the secret of a key made here, live or revoked.
            InvalidRequest: it names a team or user that does not exist.
        """

        def follow(session: Session) -> None:
            wanted = {digest((spec.secret or "").encode()): spec for spec in specs}
            query = select(ApiKey).where(ApiKey.owner == "file", col(ApiKey.revoked_at).is_(None))
            for key in session.exec(query).all():
                spec = wanted.get(key.digest)
                if spec is None or spec.name != key.name:
                    key.revoked_at = time.time()
                    key.digest = f"revoked:{key.id}"  # the secret may come back, as another key
                else:
                    del wanted[key.digest]
                    _write(session, key, spec)
                session.add(key)
            session.flush()
            for secret_digest, spec in wanted.items():
                taken = or_(ApiKey.digest == secret_digest, ApiKey.previous_digest == secret_digest)
                if session.exec(select(ApiKey).where(taken)).first() is not None:
                    raise Conflict(f"The file's key {spec.name!r} has the secret of another key; write a new one.")
                _insert(session, spec, spec.secret or "", owner="file")
            session.add(Change(kind="key", name="file"))

        await self._database.write(follow)
        self.forget()

    async def follow_admin_key(self, configured: str | None) -> str | None:
        """Store the admin key's SHA-256. Without a configured one, make one on first start and return it, once."""
        secret = configured or new_api_key()

        def store(session: Session) -> bool:
            row = session.get(Setting, _ADMIN_DIGEST)
            if row is None:
                session.add(Setting(name=_ADMIN_DIGEST, value=digest(secret.encode())))
                return True
            if configured is not None and row.value != digest(configured.encode()):
                row.value = digest(configured.encode())
                session.add(row)
                session.add(Change(kind="key", name="admin"))  # other processes must not take the old one any more
            return False

        made = await self._database.write(store)
        self.forget()
        return secret if made and configured is None else None


def _load(session: Session, secret_digest: str) -> Principal | None:
    found = levels.by_digest(session, secret_digest)
    if found is not None:
        return found
    row = session.get(Setting, _ADMIN_DIGEST)
    return admin() if row is not None and row.value == secret_digest else None


def _id_of(session: Session, level: type[Level], name: object) -> str | None:
    if name is None:
        return None
    found, kind = named(session, level, str(name)), KINDS[level]
    if found is None:
        raise InvalidRequest(f"There is no {kind} {name!r}: make it first, or write its present name.", member=kind)
    return found.id


def _check_membership(session: Session, key: ApiKey) -> None:
    if (
        key.owner == "file"
    ):  # which could not be read again once a user has left a team; the key is refused as long as that is so
        return
    if key.user_id is None or key.team_id is None or key.revoked_at is not None:
        return
    if session.get(Member, (key.team_id, key.user_id)) is None:
        raise InvalidRequest("The user is not in the team: add them first.", member="user")


def revoke_all(session: Session, keys: Collection[ApiKey]) -> None:
    """Revoke what belongs to a user or team that is deleted, within its transaction.

    Raises:
        Conflict: one is a key of the file, which could not be read again.
    """
    for key in keys:
        if key.owner == "file":
            raise Conflict(f"The file declares the key {key.name!r} of it; change it there first.")
    now, ids = time.time(), [key.id for key in keys]
    for begin in range(0, len(ids), 500):
        some = ids[begin : begin + 500]
        session.exec(update(ApiKey).where(col(ApiKey.id).in_(some)).values(revoked_at=now))
        _end_accounts(session, some)


def _end_accounts(session: Session, ids: Sequence[str]) -> None:
    """Drop the accounts of keys that are revoked, and what was approved of what servers listed to them."""
    for of in (StoredCredential, ListedFeature, ApprovedFeature, SeenServer):
        session.exec(delete(of).where(col(of.principal).in_(ids)))


def _live(session: Session, name: str) -> ApiKey | None:
    """The live key of this name; one made here before one of the file, which hides it but must not protect it."""
    query = select(ApiKey).where(_is_key, ApiKey.name == name, col(ApiKey.revoked_at).is_(None)).order_by(ApiKey.owner)
    return session.exec(query).first()


def _own(session: Session, name: str, may: Check) -> ApiKey:
    key = _live(session, name)
    if key is None:
        raise NotFound("key", name)
    may(key)
    if key.owner == "file":
        raise Conflict(f"The key {name!r} is declared in the file; change it there.")
    return key


def _insert(session: Session, spec: KeySpec, secret: str, *, owner: str) -> ApiKey:
    key = ApiKey(
        id=new_id("key"),
        name=spec.name,
        digest=digest(secret.encode()),
        grants="[]",
        created_at=time.time(),
        owner=owner,
        created_by=spec.created_by,
    )
    _write(session, key, spec)
    session.add(key)
    session.add(Change(kind="key", name=key.id))
    return key


def _write(session: Session, key: ApiKey, spec: KeySpec) -> None:
    """Make a key what is asked for, but for its name and secret."""
    key.grants = written(spec.allow) or "null"
    key.requests_per_minute = spec.requests_per_minute
    key.mcp_mode = spec.mcp_mode
    key.require_approval = floors.written(spec.require_approval)
    key.request_limits = written_limits(spec.request_limits)
    key.bounds = spec.bounds.written()
    key.expires_at = spec.expires_at
    key.doors = written(spec.doors)
    key.networks = written(spec.networks)
    key.team_id = _id_of(session, Team, spec.team)
    key.user_id = _id_of(session, User, spec.user)
    _check_membership(session, key)
