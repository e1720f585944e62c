"""People who are signed in with a browser: each a row that is read at every request, so that its end holds everywhere at once.

A session stands for the same principal as a token that says the same (`registry.callers.accounts`), at `/api` and `/ui`
only: nobody asks for one elsewhere. Its secret is no key: what opens one never opens the other.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Collection
from typing import NamedTuple

import msgspec
from sqlmodel import Session, col, delete, or_, select

from registry.callers import levels
from registry.callers.accounts import Accounts, Place
from registry.callers.issuers import Issuers
from registry.callers.keys import Keys
from registry.callers.tokens import Bearer, TokenRefused
from registry.errors import NotFound
from registry.identity import Principal
from registry.sealed.secrets import digest
from registry.store.db import Database
from registry.store.tables.callers import BrowserSession

LASTS_S = 12 * 3600.0
"""A working day; then people sign in again."""

IDLE_S = 3600.0
"""A session that nobody used for so long is over."""

SEEN_EVERY_S = 60.0
"""How exactly it is known when one was used last."""

MAX_OF_USER = 20
"""Sessions of one user; the oldest ends with one more."""

_Said = tuple[str, tuple[str, ...] | None, tuple[str, ...], tuple[str, ...]]


class SignedIn(NamedTuple):
    """A session as it is now."""

    principal: Principal
    bearer: Bearer
    """What the issuer said when it began."""


class Sessions:
    """Begins, finds and ends sessions."""

    def __init__(self, database: Database, *, keys: Keys, accounts: Accounts, issuers: Issuers) -> None:
        self._database = database
        self._keys = keys
        self._accounts = accounts
        self._issuers = issuers

    async def begin(self, bearer: Bearer) -> tuple[str, Principal]:
        """Begin a session for who signed in, in the first of their teams; returns its secret, which is not kept.

        Raises:
            TokenRefused: they are nobody here, as `Accounts.find` says.
        """
        places = await self._accounts.places(bearer)
        principal = await self._accounts.find(_in(bearer, places[0].team_id) if places else bearer)
        return await self._insert(bearer, principal, until=time.time() + LASTS_S), principal

    async def _insert(self, bearer: Bearer, principal: Principal, *, until: float) -> str:
        secret, now = secrets.token_urlsafe(32), time.time()
        user_id = principal.user_id
        assert user_id is not None, "who comes from an issuer is a user"
        said: _Said = (bearer.user, bearer.teams, bearer.scopes, bearer.roles)
        row = BrowserSession(
            digest=digest(secret.encode()),
            user_id=user_id,
            account=principal.id,
            issuer=bearer.issuer.url,
            said=msgspec.json.encode(said).decode(),
            created_at=now,
            seen_at=now,
            expires_at=until,
        )

        def insert(session: Session) -> None:
            over = or_(col(BrowserSession.expires_at) < now, col(BrowserSession.seen_at) < now - IDLE_S)
            session.exec(delete(BrowserSession).where(over))
            theirs = select(BrowserSession).where(BrowserSession.user_id == user_id)
            newest = theirs.order_by(col(BrowserSession.created_at).desc()).offset(MAX_OF_USER - 1)
            for old in session.exec(newest).all():
                session.delete(old)
            session.add(row)

        await self._database.write(insert)
        return secret

    async def find(self, secret: bytes) -> SignedIn | None:
        """Whose session it is, as they are now; None: it is over."""
        known = digest(secret)

        def load(session: Session) -> tuple[BrowserSession, Principal] | None:
            row = session.get(BrowserSession, known)
            if row is None:
                return None
            found = levels.by_ids(session, [row.account])
            return (row, found[0]) if found else None

        found = await self._database.read(load)
        if found is None:
            return None
        row, principal = found
        now, ring = time.time(), self._issuers.rings.get(row.issuer)
        if now >= min(row.expires_at, row.seen_at + IDLE_S):
            return None
        if ring is None or ring.issuer.sign_in is None:
            return None  # the operator took it out of the file
        if now - row.seen_at > SEEN_EVERY_S:
            self._database.append_later(_see, (now, known))
        said = msgspec.json.decode(row.said, type=_Said)
        user, teams, scopes, roles = said
        bearer = Bearer(ring.issuer, user, teams, scopes, roles, expires_at=row.expires_at, paths=None)
        return SignedIn(self._keys.under(principal), bearer)

    async def places(self, signed_in: SignedIn) -> list[Place]:
        """The teams that they may act in."""
        return await self._accounts.places(signed_in.bearer)

    async def move(self, secret: bytes, signed_in: SignedIn, team_id: str) -> str:
        """Have them act in another of their teams; returns the secret of the session that takes this one's place.

        Raises:
            NotFound: it is none of theirs.
        """
        if team_id not in [place.team_id for place in await self.places(signed_in)]:
            raise NotFound("team", team_id)
        try:
            principal = await self._accounts.find(_in(signed_in.bearer, team_id))
        except TokenRefused:
            raise NotFound("team", team_id) from None
        moved = await self._insert(signed_in.bearer, principal, until=signed_in.bearer.expires_at)
        await self.end(secret)
        return moved

    async def end(self, secret: bytes) -> None:
        """End a session, if it is one."""
        known = digest(secret)
        await self._database.write(
            lambda session: session.exec(delete(BrowserSession).where(col(BrowserSession.digest) == known))
        )


def end_all(session: Session, user_ids: Collection[str]) -> None:
    """End all sessions of some users, within the transaction that changes what they are."""
    for user_id in user_ids:
        session.exec(delete(BrowserSession).where(col(BrowserSession.user_id) == user_id))


def _in(bearer: Bearer, team_id: str) -> Bearer:
    return bearer._replace(teams=(team_id,))


def _see(connection: sqlite3.Connection, seen: list[tuple[float, str]]) -> list[None]:
    connection.executemany("UPDATE sessions SET seen_at = max(seen_at, ?) WHERE digest = ?", seen)
    return [None] * len(seen)
