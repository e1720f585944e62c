"""Who listens to a task hears of it as long as it is open to them: a key may be revoked, narrowed or moved meanwhile."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from typing import Protocol

from agents.ledger import Ledger
from agents.shown import Shown
from agents.wire import Naming
from registry.entries import Agent
from registry.errors import NotFound, Unauthenticated
from registry.identity import Principal


class Keys(Protocol):
    """What is asked of `registry.callers.keys.Keys`."""

    version: int
    """Another one once a key may have changed."""

    async def living(self, ids: Collection[str]) -> Mapping[str, Principal]:
        """Those of some principals, by id, whose keys are valid, as they are now."""


class Watching:
    """Looks at listeners again when keys change. One for a process."""

    def __init__(self, keys: Keys, ledger: Ledger) -> None:
        self._keys = keys
        self._ledger = ledger

    async def heard(
        self, principal: Principal, entry: Agent, named: Naming, batches: AsyncGenerator[list[Shown]]
    ) -> AsyncGenerator[list[Shown]]:
        """Show what comes of a task.

        Raises:
            Unauthenticated: the key is revoked or has expired.
            NotFound: it may not call the agent any more, or the task is not open to it.
            Overloaded: keys cannot be read.
        """
        version = self._keys.version
        async with aclosing(batches):
            async for batch in batches:
                if version != self._keys.version:
                    version = self._keys.version
                    await self._check(principal, entry, named)
                yield batch

    async def _check(self, principal: Principal, entry: Agent, named: Naming) -> None:
        now = (await self._keys.living({principal.id})).get(principal.id)
        if now is None:
            raise Unauthenticated
        if not now.grants.allow("agent", entry.name):
            raise NotFound("agent", entry.name)
        await self._ledger.check(entry.name, now, named)
