"""API keys: made, looked up through a bounded cache, revoked. A revoked key is refused at the next request."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

import msgspec
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, delete, or_, select

from registry import floors
from registry.access import Grants
from registry.db import Database
from registry.errors import Conflict, InvalidRequest, NotFound, Overloaded
from registry.identity import ADMIN_ID, HUBS_LIMITS, KeySpec, Principal, RequestLimits, admin
from registry.limits import Bounds, Limit
from registry.models import ApiKey, Change, Setting, StoredCredential, Team
from registry.secrets import digest, new_api_key, new_id

logger = logging.getLogger(__name__)

MAX_CACHED = 100_000
"""Digests remembered, good and bad together: a flood of wrong keys costs this much memory and no more."""

STALE_AFTER_S = 10.0
"""A process that could not read changes for this long refuses: a key in its cache may be revoked (architecture.md 3.4)."""

_ADMIN_DIGEST = "admin_key_sha256"


class Keys:
    """All keys of the hub. Cached lookups are synchronous; a miss reads the database."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._cache: OrderedDict[str, Principal | None] = OrderedDict()
        self._version = 0
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
        self._check_fresh()
        return _unexpired(self._cache.get(secret_digest))

    async def find(self, secret_digest: str) -> Principal | None:
        """The principal of a key's SHA-256, from the cache or the database; None: no valid key."""
        self._check_fresh()
        while secret_digest not in self._cache:
            version = self._version
            found = await self._database.read(lambda session: _load(session, secret_digest))
            if version == self._version:  # otherwise a key changed while we read: what we read may be old
                self._cache[secret_digest] = None if found is None else self.under(found)
                if len(self._cache) > MAX_CACHED:
                    self._cache.popitem(last=False)
        return _unexpired(self._cache[secret_digest])

    def _check_fresh(self) -> None:
        if self._clock() - self._fresh_at > STALE_AFTER_S:
            raise Overloaded("The hub cannot read its own key changes; try again shortly.")

    def mark_fresh(self) -> None:
        """Note that all changes up to now have been read."""
        self._fresh_at = self._clock()

    def forget(self) -> None:
        """Drop all cached keys: one of them changed."""
        self._version += 1
        self._cache.clear()
        for listener in self._listeners:
            listener()

    async def living(self, ids: Collection[str]) -> dict[str, Principal]:
        """Those of some principals, by id, whose keys are valid, as they are now.

        Raises:
            Overloaded: the database cannot be read.
        """

        def load(session: Session) -> list[Principal]:
            found = session.exec(select(ApiKey).where(col(ApiKey.id).in_(ids), col(ApiKey.revoked_at).is_(None))).all()
            return [self.under(_principal(session, key)) for key in found]

        try:
            found = [admin(), *await self._database.read(load)]
        except SQLAlchemyError as error:
            logger.warning("keys cannot be read", extra={"reason": str(error)})
            raise Overloaded("The hub cannot read its own keys; try again shortly.") from None
        return {one.id: one for one in found if _unexpired(one) is not None}

    async def named(self, name: str) -> Principal:
        """The principal of a valid key, by its name or id; raises `NotFound`."""

        def load(session: Session) -> Principal | None:
            by_id = select(ApiKey).where(ApiKey.id == name, col(ApiKey.revoked_at).is_(None))
            key = _live(session, name) or session.exec(by_id).first()
            return None if key is None else _principal(session, key)

        found = _unexpired(await self._database.read(load))
        if found is None:
            raise NotFound("principal", name)
        return self.under(found)

    async def create(self, spec: KeySpec) -> tuple[ApiKey, str]:
        """Make a key; returns it and its secret, which is not kept.

        Raises:
            Conflict: a live key has this name.
            InvalidRequest: there is no such team.
        """
        secret = spec.secret or new_api_key()

        def insert(session: Session) -> ApiKey:
            if _live(session, spec.name) is not None:
                raise Conflict(f"A key named {spec.name!r} exists; revoke it first.")
            return _insert(session, spec, secret, owner="api")

        made = await self._database.write(insert)
        self.forget()
        return made, secret

    async def all_live(self) -> list[ApiKey]:
        """All live keys by name; their secrets are not known."""
        query = select(ApiKey).where(col(ApiKey.revoked_at).is_(None)).order_by(ApiKey.name)
        return await self._database.read(lambda session: list(session.exec(query).all()))

    async def update(
        self, name: str, *, check: Callable[[ApiKey], object] = lambda _key: None, **members: object
    ) -> ApiKey:
        """Replace members of a key made here; raises `NotFound`, or `Conflict` for a key of the file.

        `check` sees the key as it would be, may change it further, and raises to leave it as it was. The member `team` is an
        alias or id, or None; raises `InvalidRequest` when there is no such team.
        """

        def change(session: Session) -> ApiKey:
            key = _own(session, name)
            for member, value in members.items():
                if member == "team":
                    key.team_id = _team_id(session, value)
                else:
                    setattr(key, member, value)
            check(key)
            session.add(key)
            if key.revoked_at is not None:  # nobody will use its accounts any more
                session.exec(delete(StoredCredential).where(col(StoredCredential.principal) == key.id))
            session.add(Change(kind="key", name=key.id))
            return key

        changed = await self._database.write(change)
        self.forget()
        return changed

    async def revoke(self, name: str) -> None:
        """Revoke a key: refused at the next request here, within a second elsewhere; raises as `update`."""
        await self.update(name, revoked_at=time.time())

    async def follow_file(self, specs: list[KeySpec]) -> None:
        """Make the file's keys exist and no others of the file's.

        A changed secret is a new key with a new id: it inherits nothing of the old one (surface.md 4).

        Raises:
            Conflict: a key of the file has the secret of a key made here, live or revoked.
            InvalidRequest: it names a team that does not exist.
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
                    key.grants = msgspec.json.encode(spec.allow).decode()
                    key.requests_per_minute = spec.requests_per_minute
                    key.mcp_mode = spec.mcp_mode
                    key.require_approval = floors.written(spec.require_approval)
                    key.request_limits = written_limits(spec.request_limits)
                    key.bounds = spec.bounds.written()
                    key.expires_at = spec.expires_at
                    key.team_id = _team_id(session, spec.team)
                session.add(key)
            session.flush()
            for secret_digest, spec in wanted.items():
                if session.exec(select(ApiKey).where(ApiKey.digest == secret_digest)).first() is not None:
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
            return False

        made = await self._database.write(store)
        self.forget()
        return secret if made and configured is None else None


def _load(session: Session, secret_digest: str) -> Principal | None:
    row = session.get(Setting, _ADMIN_DIGEST)
    if row is not None and row.value == secret_digest:
        return admin()
    key = session.exec(select(ApiKey).where(ApiKey.digest == secret_digest)).first()
    if key is None or key.revoked_at is not None:
        return None
    return _principal(session, key)


def _principal(session: Session, key: ApiKey) -> Principal:
    return Principal(
        id=key.id,
        name=key.name,
        grants=Grants.parse(grants_of(key)),
        requests_per_minute=key.requests_per_minute,
        mcp_mode=key.mcp_mode,
        require_approval=floors.stored(key.require_approval),
        request_limits=request_limits_of(key),
        limits=limits_of(session, key),
        expires_at=key.expires_at,
        team_id=key.team_id,
    )


def limits_of(session: Session, key: ApiKey) -> tuple[Limit, ...]:
    """What is counted of a key's calls: by its own limits, and by those of the key that made it, which it spends from too."""
    found = Bounds.stored(key.bounds).of(key.id, "the key's")
    for name in _line(session, key.id)[1:]:
        maker = session.get(ApiKey, name)
        if maker is not None:
            found += Bounds.stored(maker.bounds).of(maker.id, "its maker's")
    return found


def request_limits_of(key: ApiKey) -> RequestLimits:
    """Its bounds of one request."""
    return RequestLimits(*msgspec.json.decode(key.request_limits)) if key.request_limits else HUBS_LIMITS


def written_limits(limits: RequestLimits) -> str | None:
    """Bounds of one request as they are stored."""
    return None if limits == HUBS_LIMITS else msgspec.json.encode(limits).decode()


def team_named(session: Session, name: str) -> Team | None:
    """The team of this alias or id; no alias reads like an id."""
    return session.exec(select(Team).where(or_(col(Team.alias) == name, col(Team.id) == name))).first()


def _team_id(session: Session, name: object) -> str | None:
    if name is None:
        return None
    team = team_named(session, str(name))
    if team is None:
        raise InvalidRequest(f"There is no team {name!r}: make it first, or write its present alias.", member="team")
    return team.id


def are_kin(session: Session, one: str, other: str) -> bool:
    """Whether two principals are one, or one's key was made by the other, perhaps through further keys.

    The operator's admin key is nobody's kin: whom it makes keys for is the operator's business.
    """
    return other in _line(session, one) or one in _line(session, other)


def _line(session: Session, name: str) -> list[str]:
    """A principal, who made its key, who made that one's, and so on."""
    found = [name]
    while (key := session.get(ApiKey, found[-1])) is not None and key.created_by not in (None, ADMIN_ID, *found):
        found.append(str(key.created_by))
    return found


def grants_of(key: ApiKey) -> tuple[str, ...]:
    """The grants of a stored key."""
    return msgspec.json.decode(key.grants, type=tuple[str, ...])


def _unexpired(principal: Principal | None) -> Principal | None:
    if principal is not None and principal.expires_at is not None and principal.expires_at <= time.time():
        return None
    return principal


def _live(session: Session, name: str) -> ApiKey | None:
    """The live key of this name; one made here before one of the file, which hides it but must not protect it."""
    query = select(ApiKey).where(ApiKey.name == name, col(ApiKey.revoked_at).is_(None)).order_by(ApiKey.owner)
    return session.exec(query).first()


def _own(session: Session, name: str) -> ApiKey:
    key = _live(session, name)
    if key is None:
        raise NotFound("key", name)
    if key.owner == "file":
        raise Conflict(f"The key {name!r} is declared in the file; change it there.")
    return key


def _insert(session: Session, spec: KeySpec, secret: str, *, owner: str) -> ApiKey:
    key = ApiKey(
        id=new_id("key"),
        name=spec.name,
        digest=digest(secret.encode()),
        grants=msgspec.json.encode(spec.allow).decode(),
        requests_per_minute=spec.requests_per_minute,
        mcp_mode=spec.mcp_mode,
        require_approval=floors.written(spec.require_approval),
        request_limits=written_limits(spec.request_limits),
        bounds=spec.bounds.written(),
        expires_at=spec.expires_at,
        created_at=time.time(),
        owner=owner,
        created_by=spec.created_by,
        team_id=_team_id(session, spec.team),
    )
    session.add(key)
    session.add(Change(kind="key", name=key.id))
    return key
