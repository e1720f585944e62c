"""The ledger: whose every task and context is, and what was shown of it; written before the client sees it.

Knows nothing of HTTP or of the wire's shapes. Ownership never changes, so what is cached is true for ever; a miss
reads the database. "Unknown" and "not yours" are one answer (A2A 1.0 §13.1). Whether an agent's tasks are open to
their makers' teams is asked each time: it is a setting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from agents.answers import Sighting
from agents.wire import Naming
from registry.errors import NotFound, UpstreamInvalid
from registry.identity import Principal
from registry.ledger.ownership import FINAL_STATES, FIRST_STATE, NOWHERE, Claim, Listing, Ownership, Placing
from registry.store.tables.ledger import OwnedTask

T = TypeVar("T")

MAX_CACHED = 20_000
"""Tasks, and contexts, remembered in memory: some 10 MB. Older ones cost one read of the database."""


class _Holder(NamedTuple):
    """Whose a context is."""

    owner: str
    team: str | None


class _Known(msgspec.Struct, gc=False):
    """What is remembered of a task."""

    owner: str
    team: str | None
    context_id: str
    state: str
    at: float
    instance: str


class Recent(Generic[T]):
    """What was kept or asked for last, by agent and id: at most MAX_CACHED.

    Two generations: forgetting the older one whole costs a fifth of forgetting entry by entry.
    """

    def __init__(self) -> None:
        self._new: dict[tuple[str, str], T] = {}
        self._old: dict[tuple[str, str], T] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def get(self, key: tuple[str, str]) -> T | None:
        """What was kept; None: nothing, or it was forgotten."""
        found = self._new.get(key)
        if found is None and (found := self._old.pop(key, None)) is not None:
            self.keep(key, found)
        return found

    def keep(self, key: tuple[str, str], value: T) -> None:
        """Remember a value, and forget the oldest when there are too many."""
        self._new[key] = value
        if 2 * len(self._new) > MAX_CACHED:
            self._old, self._new = self._new, {}

    def drop(self, key: tuple[str, str]) -> None:
        """Forget a value."""
        self._new.pop(key, None)
        self._old.pop(key, None)


class Ledger:
    """Owners of tasks and contexts. One for a process; safe to use from several tasks."""

    def __init__(self, ownership: Ownership, *, is_shared: Callable[[str], bool] = lambda _agent: False) -> None:
        """`is_shared` says whether the setting of an agent, by its name, opens its tasks to teams now."""
        self._ownership = ownership
        self._is_shared = is_shared
        self._tasks = Recent[_Known]()
        self._contexts = Recent[_Known | _Holder]()
        self._places = Recent[str]()
        """The instance that has a context, of agents with several."""

    async def check(self, agent: str, principal: Principal, request: Naming, *, instance: str = "") -> str | None:
        """Let a request pass whose tasks are all open to the caller, and make a context that is new to the agent theirs.

        `instance` is the one that has such a context. Returns the context that the request is part of, None or empty: it
        names none.

        Raises:
            NotFound: a task is unknown or not open to the caller, or the context is someone else's or not the task's.
        """
        own = ""  # the task's context: any other is no better than an unknown one, whoever has it
        if request.task_id is not None:
            own = (await self._require(agent, principal, request.task_id)).context_id
        for task_id in request.reference_task_ids:
            await self._require(agent, principal, task_id)
        context_id = request.context_id
        if context_id is None or context_id == own or (own and _usual(context_id) == _usual(own)):
            return own
        if own or not await self._claim_named(agent, principal, context_id, instance):
            raise NotFound("context", context_id)
        return context_id

    async def place(self, agent: str, principal: Principal, request: Naming) -> str | None:
        """Check a request as `check`, and say which instance has what it names.

        Empty: it was made when the agent had one; None: no instance has it, any will do.
        """
        await self.check(agent, principal, request, instance=NOWHERE)
        if request.task_id is not None:
            return (await self._require(agent, principal, request.task_id)).instance
        if request.context_id is not None:
            found = await self._context_place(agent, request.context_id)
            if found is not None:
                return found
        for task_id in request.reference_task_ids:
            return (await self._require(agent, principal, task_id)).instance
        return None

    async def place_of_task(self, agent: str, task_id: str) -> str:
        """Which instance has a task; as `place`."""
        await self.know(agent, task_id)
        known = self._tasks.get((agent, task_id))
        return known.instance if known is not None else ""

    async def _context_place(self, agent: str, context_id: str) -> str | None:
        found = self._places.get((agent, context_id))
        if found is None:
            row = await self._ownership.find_context(agent, context_id)
            found = self._places.get((agent, context_id))  # one that was chosen meanwhile
            if found is None and row is not None and row.instance != NOWHERE:
                found = row.instance
                self._places.keep((agent, context_id), found)
        return found

    def hold(self, agent: str, context_id: str, instance: str) -> None:
        """Send what names a context to an instance from now on, before that is known to have it."""
        self._places.keep((agent, context_id), instance)

    def release(self, agent: str, context_id: str) -> None:
        """Forget what was held: the instance was not reached."""
        self._places.drop((agent, context_id))

    async def settle(self, agent: str, context_id: str, instance: str) -> None:
        """Write which instance has a context, from now on and for every hub process."""
        if not await self._ownership.place(Placing(instance, agent, context_id)):
            self.release(agent, context_id)  # another process was first: its word is read next time

    async def is_open(self, agent: str, task_id: str, principal_id: str) -> bool:
        """Whether a task is open to somebody who is not calling now; their team is read from the database."""
        await self.know(agent, task_id)
        known = self._tasks.get((agent, task_id))
        if known is None or known.owner == principal_id:
            return known is not None
        team = self._is_shared(agent) and known.team
        return bool(team) and team == await self._ownership.team_of(principal_id)

    def record(
        self,
        agent: str,
        principal: Principal,
        seen: Sighting,
        *,
        context_id: str | None = None,
        reader: str = "",
        instance: str = "",
    ) -> Coroutine[None, None, bool]:
        """Note what an answer shows, before it is shown; return whether its task was surely never seen before.

        `context_id` is the request's, for answers that name none; `reader` the process that reads on; `instance` the one
        that answered, of an agent with several.

        Raises:
            UpstreamInvalid: the task or the context is someone else's; the answer must not be shown.
        """
        context_id = seen.context_id or context_id
        known = self._tasks.get((agent, seen.task_id)) if seen.task_id is not None else None
        if known is None and seen.task_id is not None:
            return self._claim_task(agent, principal, seen, context_id, reader, instance)
        return self._note(agent, principal, seen, known, context_id, instance)

    async def _note(
        self,
        agent: str,
        principal: Principal,
        seen: Sighting,
        known: _Known | None,
        context_id: str | None,
        instance: str,
    ) -> bool:
        """As `record` what shows a task that is known, or none."""
        fits = known is None or (self._opens(agent, principal, known) and _is_one(known.instance, instance))
        if fits and context_id is not None and (known is None or known.context_id != context_id):
            claimer = _Holder(principal.id, self.team_of(agent, principal))
            fits = await self._claim_context(agent, claimer, context_id, instance)
        if not fits:
            raise _of_somebody_else(agent)
        if known is not None and seen.task_id is not None and seen.state is not None:
            self._advance(agent, seen.task_id, known, seen.state, seen.at)
        return False

    async def advance(self, agent: str, seen: Sighting) -> None:
        """Note the state that an event shows of a task that was recorded."""
        if seen.task_id is None or seen.state is None:
            return
        await self.know(agent, seen.task_id)  # it may not be remembered any more
        if (known := self._tasks.get((agent, seen.task_id))) is not None:
            self._advance(agent, seen.task_id, known, seen.state, seen.at)

    def state(self, agent: str, task_id: str) -> str | None:
        """The state of a task that was checked or recorded; None when it is not remembered."""
        known = self._tasks.get((agent, task_id))
        return known.state if known is not None else None

    async def owner(self, agent: str, task_id: str) -> str | None:
        """The id of the principal whose a task is; None: there is no such task."""
        await self.know(agent, task_id)
        known = self._tasks.get((agent, task_id))
        return known.owner if known is not None else None

    def context(self, agent: str, task_id: str) -> str | None:
        """The context of a task that was checked or recorded; None when it is not remembered."""
        known = self._tasks.get((agent, task_id))
        return known.context_id if known is not None else None

    async def fits(self, agent: str, task_id: str, context_id: str) -> bool:
        """Whether an agent may show a context with a task: it is the task's, or another one of those who have the task."""
        await self.know(agent, task_id)
        known = self._tasks.get((agent, task_id))
        if known is None or context_id == known.context_id:
            return known is not None
        team = known.team if known.team is not None and self._is_shared(agent) else None
        return await self._claim_context(agent, _Holder(known.owner, team), context_id, known.instance)

    async def page(self, listing: Listing) -> tuple[list[OwnedTask], int]:
        """One page of an owner's tasks; as `Ownership.list_tasks`."""
        return await self._ownership.list_tasks(listing)

    async def know(self, agent: str, task_id: str) -> None:
        """Remember a task of the database, so that its states can be noted."""
        if self._tasks.get((agent, task_id)) is None:
            row = await self._ownership.find_task(agent, task_id)
            if row is not None:
                known = _Known(row.owner, row.team, row.context_id, row.state, row.updated_at, row.instance)
                self._tasks.keep((agent, task_id), known)

    def team_of(self, agent: str, principal: Principal) -> str | None:
        """The team in which the caller shares what the agent keeps; None: the caller does not, or may not."""
        return principal.team_id if principal.team_id is not None and self._is_shared(agent) else None

    def _opens(self, agent: str, principal: Principal, held: _Known | _Holder) -> bool:
        if held.owner == principal.id:
            return True
        return held.team is not None and held.team == self.team_of(agent, principal)

    async def _require(self, agent: str, principal: Principal, task_id: str) -> _Known:
        known = self._tasks.get((agent, task_id))
        if known is None:
            await self.know(agent, task_id)
            known = self._tasks.get((agent, task_id))
        if known is None or not self._opens(agent, principal, known):
            raise NotFound("task", task_id)
        return known

    async def _claim_named(self, agent: str, principal: Principal, context_id: str, instance: str) -> bool:
        """Claim a context that a client names: in the usual spelling too, since agents may read any as the same UUID."""
        if (known := self._contexts.get((agent, context_id))) is not None:
            return self._opens(agent, principal, known)
        usual, claimer = _usual(context_id), _Holder(principal.id, self.team_of(agent, principal))
        if usual != context_id and not await self._claim_context(agent, claimer, usual, instance):
            return False
        return await self._claim_context(agent, claimer, context_id, instance)

    async def _claim_context(self, agent: str, claimer: _Holder, context_id: str, instance: str) -> bool:
        known = self._contexts.get((agent, context_id))
        if known is not None:
            return known.owner == claimer.owner or (claimer.team is not None and known.team == claimer.team)
        claim = Claim(agent, claimer.owner, context_id, None, "", 0.0, instance=instance, team=claimer.team)
        held = await self._ownership.claim(claim)
        if held is None:
            return False
        self._contexts.keep((agent, context_id), _Holder(held.owner, held.team))
        return True

    async def _claim_task(
        self, agent: str, principal: Principal, seen: Sighting, context_id: str | None, reader: str, instance: str
    ) -> bool:
        """As `record` what shows a task that is not remembered."""
        task_id = seen.task_id
        assert task_id is not None
        state, at = seen.state or FIRST_STATE, seen.at or time.time()
        team = self.team_of(agent, principal)
        context = self._contexts.get((agent, context_id)) if context_id is not None else None
        # of another team than its owner's now: the database gives the task the context's
        owns_context = context is not None and context.team == team and self._opens(agent, principal, context)
        claim = Claim(agent, principal.id, context_id, task_id, state, at, owns_context, reader, instance, team)
        held = await self._ownership.claim(claim)
        if held is None:
            raise _of_somebody_else(agent)
        known = _Known(held.owner, held.team, context_id or "", state, at, instance)
        self._tasks.keep((agent, task_id), known)
        if context_id and held is claim and not owns_context:
            self._contexts.keep((agent, context_id), known)  # both are new, so whose the one is the other is
        return held.is_new

    def _advance(self, agent: str, task_id: str, known: _Known, state: str, at: float | None) -> None:
        if known.state in FINAL_STATES or (state == known.state and (at is None or at <= known.at)):
            return
        known.state, known.at = state, at or time.time()
        self._ownership.advance_later(Claim(agent, known.owner, known.context_id, task_id, state, known.at))


def _of_somebody_else(agent: str) -> UpstreamInvalid:
    return UpstreamInvalid(agent, "it answered with a task of somebody else")


def _is_one(instance: str, another: str) -> bool:
    """Whether two may be the same instance; empty: the agent had one then, or has one now."""
    return not instance or not another or instance == another


def _usual(context_id: str) -> str:
    """The usual spelling of a UUID; what is none as it is."""
    try:
        return str(UUID(context_id))
    except ValueError:
        return context_id
