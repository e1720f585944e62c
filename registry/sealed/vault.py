"""The vault: what the hub keeps of OAuth, sealed and bound to its place. SQL only; knows no protocol.

A credential is kept for a principal, a server and an issuer together, and nothing opens it for any other three.
"""

from __future__ import annotations

import logging
import time

from sqlalchemy import Delete
from sqlmodel import Session, col, delete, select

from registry.sealed import places
from registry.sealed.secrets import Sealer, SecretKeyInvalid, digest
from registry.store.db import Database
from registry.store.tables.sealed import OAuthClient, OAuthFlow, StoredCredential

logger = logging.getLogger(__name__)


class Vault:
    """Credentials of principals, the hub's registrations, and authorizations under way."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def credential(self, principal: str, server: str) -> bytes | None:
        """The principal's credential at a server, the newest if issuers changed; None: it has none."""
        query = (
            select(StoredCredential)
            .where(StoredCredential.principal == principal, StoredCredential.server == server)
            .order_by(col(StoredCredential.updated_at).desc())
        )
        row = await self._database.read(lambda session: session.exec(query).first())
        return None if row is None else self._opened(row.sealed, places.credential(principal, server, row.issuer))

    async def keep(self, principal: str, server: str, issuer: str, value: bytes) -> None:
        """Keep a credential in the place of the one before; it is on disk when this returns."""
        sealed = self._sealer.seal(value, about=places.credential(principal, server, issuer))
        row = StoredCredential(principal=principal, server=server, issuer=issuer, sealed=sealed, updated_at=time.time())
        await self._database.write(lambda session: _put(session, row))

    async def forget(self, principal: str, server: str) -> None:
        """Drop a principal's credentials at a server."""
        statement = delete(StoredCredential).where(
            col(StoredCredential.principal) == principal, col(StoredCredential.server) == server
        )
        await self._database.write(lambda session: _run(session, statement))

    async def client(self, server: str, issuer: str) -> bytes | None:
        """How the hub is registered with an issuer for a server; None: it is not."""
        row = await self._database.read(lambda session: session.get(OAuthClient, (server, issuer)))
        return None if row is None else self._opened(row.sealed, places.client(server, issuer))

    async def keep_client(self, server: str, issuer: str, value: bytes) -> None:
        """Keep a registration in the place of the one before."""
        sealed = self._sealer.seal(value, about=places.client(server, issuer))
        row = OAuthClient(server=server, issuer=issuer, sealed=sealed)
        await self._database.write(lambda session: _put(session, row))

    async def forget_client(self, server: str, issuer: str) -> None:
        """Drop a registration that the issuer does not know any more."""
        statement = delete(OAuthClient).where(col(OAuthClient.server) == server, col(OAuthClient.issuer) == issuer)
        await self._database.write(lambda session: _run(session, statement))

    async def begin(self, link: str, state: str, value: bytes, *, expires_at: float) -> bool:
        """Note an authorization that begins at a link; False: the link was used before."""
        sealed = self._sealer.seal(value, about=places.flow(link))

        def insert(session: Session) -> bool:
            session.exec(delete(OAuthFlow).where(col(OAuthFlow.expires_at) < time.time()))
            if session.get(OAuthFlow, link) is not None:
                return False
            row = OAuthFlow(link=link, state_digest=digest(state.encode()), sealed=sealed, expires_at=expires_at)
            session.add(row)
            return True

        return await self._database.write(insert)

    async def take(self, state: str) -> bytes | None:
        """End an authorization and return what was noted; None: unknown, expired, or ended before."""

        def end(session: Session) -> tuple[str, bytes] | None:
            query = select(OAuthFlow).where(OAuthFlow.state_digest == digest(state.encode()))
            row = session.exec(query).first()
            if row is None or row.sealed is None or row.expires_at < time.time():
                return None
            found, row.sealed = (row.link, row.sealed), None
            session.add(row)
            return found

        taken = await self._database.write(end)
        return None if taken is None else self._opened(taken[1], places.flow(taken[0]))

    def _opened(self, sealed: bytes, about: str) -> bytes | None:
        try:
            return self._sealer.open(sealed, about=about)
        except SecretKeyInvalid:  # its sealing key was taken away: as if it had never been
            logger.warning("a stored credential cannot be opened and counts for nothing")
            return None


def _put(session: Session, row: StoredCredential | OAuthClient) -> None:
    session.merge(row)


def _run(session: Session, statement: Delete) -> None:
    session.exec(statement)
