"""Who is it: from the request's headers to a principal. Fails closed; decides nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hmac import compare_digest
from typing import Protocol

import msgspec
from msgspec import structs

from agents import wire
from hub.browsers import Browsers
from hub.exchange import Header
from hub.sources import DIRECT, Sources
from registry.callers.issuers import Issuers
from registry.callers.keys import Keys
from registry.callers.levels import unexpired
from registry.errors import Unauthenticated
from registry.identity import HUBS_LIMITS, SESSION_HEADER_NAME, TASK_HEADER_NAME, DoorName, Principal
from registry.sealed.secrets import digest
from registry.spending.tasks import Tasks

SESSION_HEADER = SESSION_HEADER_NAME.encode()
TASK_HEADER = TASK_HEADER_NAME.encode()
HOPS_HEADER = wire.HOPS_HEADER.encode()

CREDENTIALS = (b"x-litellm-api-key", b"authorization", b"x-api-key")
"""Where `secret_of` looks. A proxy before the hub may have judged another one of two."""

MAX_SECRET_BYTES = 16 * 1024
"""Longer credentials are none of ours; hashing them would be work for nothing."""


class Request(Protocol):
    """What of a request says who it is from."""

    headers: Mapping[bytes, bytes]
    path: str

    @property
    def raw_headers(self) -> Sequence[Header]:
        """All of them, in their order."""

    @property
    def peer(self) -> str | None:
        """The address at the other end of the connection; None: it has none."""


class Asking(Request, Protocol):
    """A whole request."""

    method: str


def secret_of(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The API key or token of a request: `x-litellm-api-key` (with or without `Bearer`), `Authorization: Bearer`, `x-api-key`."""
    secret = headers.get(b"x-litellm-api-key") or headers.get(b"authorization")
    if secret is None:
        return headers.get(b"x-api-key")
    scheme, space, rest = secret.partition(b" ")
    if space and scheme.lower() == b"bearer":
        return rest.strip()
    return secret if headers.get(b"x-litellm-api-key") else headers.get(b"x-api-key")


def repeated_credential(raw_headers: Sequence[Header]) -> str | None:
    """The first header of those that say who calls which stands more than once."""
    names = [name for name, _ in raw_headers]
    return next((name.decode() for name in CREDENTIALS if names.count(name) > 1), None)


class Shown(msgspec.Struct, frozen=True):
    """A credential that was shown on a connection, and whose it is."""

    secret: bytes
    principal: Principal
    version: int
    """Of the keys when that was found: as long as none changes, it is true."""

    __repr__ = object.__repr__


class Line(Protocol):
    """What is remembered of a connection."""

    shown: Shown | None
    """The last credential that was a key of somebody's; None: there was none."""


class Authenticator:
    """Finds the principal of a request."""

    def __init__(
        self,
        keys: Keys,
        sources: Sources = DIRECT,
        tasks: Tasks | None = None,
        *,
        issuers: Issuers | None = None,
        browsers: Browsers | None = None,
    ) -> None:
        """Without `tasks` no request is part of one; without `issuers` no tokens are taken, without `browsers` no sessions."""
        self._keys = keys
        self._issuers = issuers
        self._browsers = browsers
        self._sources = sources
        self._tasks = tasks

    def known(self, request: Request, door: DoorName | None, line: Line) -> Principal | None:
        """As `principal`, of who shows on a connection what was shown on it before; None: `principal` is to look.

        Their secret is compared, which takes a third of what its digest takes.
        """
        secret, shown, keys = secret_of(request.headers), line.shown, self._keys
        if shown is None or not secret:
            return None
        keys.check_fresh()
        if shown.version != keys.version or not compare_digest(shown.secret, secret):
            return None
        found = unexpired(shown.principal)
        return found and self.check(found, door, request)

    async def principal(self, request: Asking, door: DoorName | None, line: Line | None = None) -> Principal:
        """The request's principal, at a door; None: there is none at its path. What is found is remembered of its `line`.

        Raises:
            Unauthenticated: no key or token, or one that is unknown, revoked, expired, or not for this door or from here.
            TaskOver: the task that it says it is part of has no time left.
            CrossSiteRefused: it comes with the session of a browser, and may be another site's doing.
            Overloaded: the hub cannot tell at the moment.
        """
        secret = secret_of(request.headers)
        if door == "api" and self._browsers is not None and secret is None:
            session = self._browsers.secret(request.headers)
            if session is not None:
                return self.check(await self._browsers.principal(request, session), door, request)
        version = self._keys.version
        found = await self._find(secret)
        if line is not None and secret is not None:
            line.shown = Shown(secret, found, version)
        return self.check(found, door, request)

    async def _find(self, secret: bytes | None) -> Principal:
        """Whose a secret is; raises as `principal`."""
        hashed, issuers = hash_of(secret), self._issuers
        found = self._keys.cached(hashed)
        if found is None and issuers is not None and secret is not None and issuers.knows(secret):
            found = await issuers.find(hashed, secret)
        elif found is None:
            found = await self._keys.find(hashed)
        if found is None:
            raise Unauthenticated
        return found

    def check(self, principal: Principal, door: DoorName | None, request: Request) -> Principal:
        """The principal, if its key may be used at this door and from where the request comes, with the task that it is part of; raises as `principal`."""
        if principal.doors is not None and door not in principal.doors:
            raise Unauthenticated
        networks = principal.networks
        if principal.paths is not None and not _is_below(request.path, principal.paths):
            raise Unauthenticated
        if networks is not None and not self._sources.is_within(networks, request.peer, request.raw_headers):
            raise Unauthenticated
        self._keys.last_use.note(principal.id)
        if SESSION_HEADER in request.headers:
            principal = principal.in_session("named", request.headers[SESSION_HEADER].decode("latin-1"))
        if HOPS_HEADER in request.headers:
            principal = structs.replace(principal, hops=wire.hops_or_most(request.headers))
        if self._tasks is not None and (principal.request_limits is not HUBS_LIMITS or TASK_HEADER in request.headers):
            return self._tasks.enter(principal, request.headers.get(TASK_HEADER))
        return principal

    async def before_peer(self, headers: Mapping[bytes, bytes], door: DoorName) -> Principal:
        """As `principal` where the peer is not known yet; `check` has to follow."""
        found = await self._find(secret_of(headers))
        if found.doors is not None and door not in found.doors:
            raise Unauthenticated
        return found


def _is_below(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def hash_of(secret: bytes | None) -> str:
    """The digest by which a secret is known; raises `Unauthenticated` if it can be none."""
    if not secret or len(secret) > MAX_SECRET_BYTES:
        raise Unauthenticated
    return digest(secret)
