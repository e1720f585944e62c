"""The hub's signing keys: kept sealed, made when the first is needed. Knows nothing of what is signed, nor how."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlmodel import Session, col, select

from registry.sealed import places
from registry.sealed.secrets import Sealer, SecretKeyInvalid
from registry.store.db import Database
from registry.store.tables.sealed import SigningKey

logger = logging.getLogger(__name__)


class SigningKeys:
    """The stored keys."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def newest_first(self, make: Callable[[], tuple[str, bytes]]) -> list[bytes]:
        """All private keys; `make` makes the first, with its name. Of several processes that start together one makes it."""
        opened = self._opened(await self._database.read(_rows))
        if opened:
            return opened

        def insert(session: Session) -> list[SigningKey]:
            rows = _rows(session)
            if not self._opened(rows):
                kid, private = make()
                sealed = self._sealer.seal(private, about=places.signing_key(kid))
                rows.insert(0, SigningKey(kid=kid, sealed=sealed, created_at=time.time()))
                session.add(rows[0])
            return rows

        return self._opened(await self._database.write(insert))

    def _opened(self, rows: list[SigningKey]) -> list[bytes]:
        opened = []
        for row in rows:
            try:
                opened.append(self._sealer.open(row.sealed, about=places.signing_key(row.kid)))
            except SecretKeyInvalid as error:  # its sealing key was taken away: what it signed verifies no more
                logger.error("a signing key cannot be used", extra={"reason": str(error)})  # noqa: TRY400
        return opened


def _rows(session: Session) -> list[SigningKey]:
    return list(session.exec(select(SigningKey).order_by(col(SigningKey.created_at).desc())).all())
