"""What may be kept in memory only, bounded: the records of requests with `store: false`. As `registry.sealed.kept`, for their owner alone."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

from registry.identity import Principal

MAX_BYTES = 64 * 1024 * 1024
"""Of all records. Beyond it those that were put first are forgotten."""


KEPT_S = 3600.0
"""How long a record is kept where nobody says."""


class _Record(NamedTuple):
    value: bytes
    expires_at: float


class Fleeting:
    """One for a process and a purpose."""

    def __init__(self) -> None:
        self._records: OrderedDict[tuple[str, str, str], _Record] = OrderedDict()
        self._size = 0

    async def put(
        self, kind: str, name: str, owner: Principal, value: bytes, *, expires_at: float | None = None
    ) -> None:
        """Keep a record in the place of the one before."""
        key = (kind, name, owner.id)
        self._drop(key)
        self._records[key] = _Record(value, time.time() + KEPT_S if expires_at is None else expires_at)
        self._size += len(value)
        while self._size > MAX_BYTES:
            self._drop(next(iter(self._records)))

    async def get(self, kind: str, name: str, principal: Principal) -> bytes | None:
        """What is kept; None: nothing, or not for `principal`."""
        found = self._records.get((kind, name, principal.id))
        return None if found is None or found.expires_at <= time.time() else found.value

    async def replace(self, kind: str, name: str, principal: Principal, value: bytes) -> bool:
        """Keep `value` in the place of what is kept; False: nothing is."""
        if await self.get(kind, name, principal) is None:
            return False
        await self.put(kind, name, principal, value)
        return True

    async def take(self, kind: str, name: str, principal: Principal) -> bytes | None:
        """Forget a record and return it."""
        found = await self.get(kind, name, principal)
        self._drop((kind, name, principal.id))
        return found

    def _drop(self, key: tuple[str, str, str]) -> None:
        found = self._records.pop(key, None)
        self._size -= len(found.value) if found else 0
