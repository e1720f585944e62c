"""Connections to one older server that serve one caller each, so that what it says and asks can be told apart.

A front session has one for its life; a call of a 2026-07-28 client that can be asked something leases one, which the
next call of the same principal with the same capabilities finds warm.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from mcp_bridge.listener import Front
from mcp_bridge.owner import Owner
from registry.errors import Overloaded

MAX_WARM = 4
"""Leased connections that are kept for a next call."""

MakeOwner = Callable[[msgspec.Raw], Owner]
"""Makes the owner of a connection for a caller with these capabilities."""


class Sessions:
    """The private connections to one server."""

    def __init__(self, make: MakeOwner, *, limit: int) -> None:
        """`limit`: how many may be open at the same time, half of them for one principal."""
        self._make = make
        self._limit = limit
        self._of_fronts: dict[Front, Owner] = {}
        self._warm: list[tuple[str, bytes, Owner]] = []
        self._owners: dict[Owner, str] = {}
        """And the principal that each is for."""
        self._ending: set[asyncio.Task[None]] = set()

    def of_front(self, front: Front, principal: str, capabilities: msgspec.Raw) -> Owner:
        """The connection of a front session, made when it first asks and ended with it; raises `Overloaded`."""
        owner = self._of_fronts.get(front)
        if owner is None:
            owner = self._of_fronts[front] = self._new(principal, capabilities)
            front.when_closed(lambda: self._left(front))
        elif not owner.is_open:
            self._make_room(principal)
        return owner

    def kept(self, front: Front) -> Owner | None:
        """The connection of a front session, if it has one."""
        return self._of_fronts.get(front)

    @asynccontextmanager
    async def lease(self, principal: str, capabilities: msgspec.Raw) -> AsyncIterator[Owner]:
        """A connection for one call; one whose call failed is not used again. Raises `Overloaded`."""
        wanted = bytes(capabilities)
        found = next((one for one in reversed(self._warm) if one[:2] == (principal, wanted)), None)
        if found is not None:
            self._warm.remove(found)
        owner = found[2] if found is not None else self._new(principal, capabilities)
        try:
            yield owner
        except BaseException:
            self._end(owner)
            raise
        self._warm.append((principal, wanted, owner))
        if len(self._warm) > MAX_WARM:
            self._end(self._warm.pop(0)[2])

    async def stop(self, *, drain_s: float) -> None:
        """End them all."""
        self._warm.clear()
        self._of_fronts.clear()
        owners = list(self._owners)
        self._owners.clear()
        await asyncio.gather(*(owner.stop(drain_s=drain_s) for owner in owners), *self._ending)

    def _new(self, principal: str, capabilities: msgspec.Raw) -> Owner:
        self._make_room(principal)
        owner = self._make(capabilities)
        self._owners[owner] = principal
        return owner

    def _make_room(self, principal: str) -> None:
        """Let go of the connection that was warm longest, if there is no room for another."""
        of = [of for owner, of in self._owners.items() if owner.is_open]
        if of.count(principal) >= self._limit // 2:
            warm = [one for one in self._warm if one[0] == principal]
        elif len(of) >= self._limit:
            warm = self._warm
        else:
            return
        if not warm:
            raise Overloaded("Too many sessions with this server are open; end some, or try again.")
        self._warm.remove(warm[0])
        self._end(warm[0][2])

    def _left(self, front: Front) -> None:
        owner = self._of_fronts.pop(front, None)
        if owner is not None:
            self._end(owner)

    def _end(self, owner: Owner) -> None:
        if owner in self._owners:
            del self._owners[owner]
            task = asyncio.get_running_loop().create_task(owner.stop())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
