"""Agents that take UUIDs only as ids of contexts: what they are sent for their clients' own ids, and what is shown for it.

Inside the hub a context has its client's id always; only the way to the agent knows another one. It is computed, so
nothing of it is kept, and it is claimed as the context is: who cannot name the one to the agent cannot name the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from agents import wire
from agents.ledger import Ledger
from agents.quirks import Quirks
from agents.speech import Ask
from registry import judged
from registry.entries import Agent
from registry.errors import AgentFault, UpstreamError
from registry.identity import Principal
from registry.judged import JsonObject

REFUSALS: Final = frozenset({-32600, -32602})
"""Codes of agents that did nothing for the parameters' sake (A2A 1.0 §5.4)."""

STREAM_REFUSALS: Final = REFUSALS | {-32603}
"""The same as the first and only event of a stream, where LangGraph knows no better word."""

MAX_TRIES = 3
"""How often an agent that refuses a message is asked with a UUID in vain, before its refusals are taken as they are."""

MAX_AGENTS = 10_000

_NAMESPACE = UUID("5f2d6c1e-8f5b-5b0e-9a53-0c5f3b1f7f2a")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""As every reader and writer spells it."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A context whose id is no UUID, and the UUID that stands for it."""

    own: str
    uuid: str

    def sent(self, ask: Ask) -> Ask:
        """A request as an agent takes it that takes UUIDs only."""
        message = ask.params.get("message")
        if not isinstance(message, dict) or message.get("contextId") != self.own:
            return ask
        params = {**ask.params, "message": {**message, "contextId": self.uuid}}
        return replace(ask, params=params, context_id=self.uuid)

    def shown(self, said: JsonObject) -> JsonObject:
        """An answer with the client's own id."""
        data = judged.encode(said)
        shown = self.shown_data(data)
        return said if shown is data else judged.decode(shown)

    def shown_data(self, data: bytes) -> bytes:
        """JSON with the client's own id: the same object if there is nothing to change."""
        uuid = judged.encode(self.uuid)
        return data.replace(uuid, judged.encode(self.own)) if uuid in data else data


class Aliased(NamedTuple):
    """The alias of a request's context."""

    alias: Alias
    is_needed: bool
    """The agent takes UUIDs only; else it is not known yet."""


class Contexts:
    """What is known of how agents take contexts' ids. One for a process."""

    def __init__(self, ledger: Ledger, quirks: Quirks) -> None:
        self._ledger = ledger
        self._quirks = quirks
        self._liberal: dict[tuple[str, str], None] = {}
        """Name and URL of agents that take any id."""
        self._tries: Counter[tuple[str, str]] = Counter()

    def matter(self, entry: Agent, naming: wire.Naming) -> bool:
        """Whether the agent may see another id of the context than its client; the naming's task was checked before."""
        return (entry.name, entry.url) not in self._liberal and self._own(entry, naming) is not None

    async def aliased(self, entry: Agent, principal: Principal, naming: wire.Naming) -> Aliased | None:
        """The alias for a request of `principal`, claimed for them unless it was before; None: it needs none.

        Raises:
            NotFound: somebody else has it.
        """
        if (entry.name, entry.url) in self._liberal or (own := self._own(entry, naming)) is None:
            return None
        alias = _alias(entry, own)
        if naming.context_id is not None:
            await self._ledger.check(entry.name, principal, wire.Named(context_id=alias.uuid))
        return Aliased(alias, self._quirks.has(entry, "uuid_contexts"))

    def shown(self, entry: Agent, task_id: str, event: JsonObject) -> JsonObject:
        """What an agent posted of a task that is remembered, with the client's own id."""
        own = self._own(entry, wire.Named(task_id))
        return event if own is None else _alias(entry, own).shown(event)

    def may_try(self, entry: Agent, naming: wire.Naming, code: int, refusals: frozenset[int] = REFUSALS) -> bool:
        """Whether an agent that refused a message may have done so for its context's id alone."""
        return naming.context_id is not None and code in refusals and self._tries[entry.name, entry.url] < MAX_TRIES

    @contextmanager
    def trying(self, entry: Agent, fault: AgentFault) -> Iterator[None]:
        """Note what becomes of a refused message that is sent again with a UUID; raises `fault` if it fails as well."""
        try:
            yield
        except UpstreamError:
            if len(self._tries) >= MAX_AGENTS:
                self._tries.clear()
            self._tries[entry.name, entry.url] += 1
            raise fault from None
        self._quirks.note(entry, "uuid_contexts")

    def learn(self, entry: Agent, alias: Alias, context_id: str | None) -> None:
        """Learn from the context that an answer shows to who sent the client's own id, or none."""
        if context_id == alias.uuid:
            self._quirks.note(entry, "uuid_contexts")
        elif context_id == alias.own:
            if len(self._liberal) >= MAX_AGENTS:
                self._liberal.clear()
            self._liberal[entry.name, entry.url] = None

    def uuid_of(self, entry: Agent, naming: wire.Naming) -> str | None:
        """A UUID for the context that a request belongs to, whichever id of it is named; None: it belongs to none."""
        context_id = self._context(entry, naming)
        own = self._own(entry, naming)
        return context_id if own is None else _alias(entry, own).uuid

    def _context(self, entry: Agent, naming: wire.Naming) -> str | None:
        if naming.context_id is None and naming.task_id is not None:
            return self._ledger.context(entry.name, naming.task_id)
        return naming.context_id

    def _own(self, entry: Agent, naming: wire.Naming) -> str | None:
        """The context that a request belongs to; None: there is none, or it is a UUID."""
        context_id = self._context(entry, naming)
        return None if not context_id or _UUID.fullmatch(context_id) else context_id


def _alias(entry: Agent, context_id: str) -> Alias:
    """One for all who share the context: of those who name it the hub lets pass only them."""
    return Alias(context_id, str(uuid5(_NAMESPACE, f"{entry.name}\n{context_id}")))
