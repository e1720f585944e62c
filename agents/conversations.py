"""Which context of an agent a chat goes on in: found by the ids that the hub gave with an answer, else by what was said.

Clients of chat completions send the whole conversation each time and no id. A conversation is found again by the digest of
what was said in it, once: who sends the same beginning a second time is another line of it, which begins a context of
its own and is told what was said. So no two conversations of one key, however equal they begin, ever share a context.
Kept in memory: what is forgotten costs no more than that.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

MAX_KEPT = 20_000
"""Conversations, and tasks that wait for their caller: some 10 MB."""


class Place(NamedTuple):
    """Where a conversation goes on."""

    context_id: str | None
    task_id: str | None
    """The task that waits for what is said next; None: there is none."""


class Conversations:
    """One for a process."""

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[str, str, bytes], Place] = OrderedDict()
        self._waiting: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    def take(self, owner: str, agent: str, said: bytes) -> Place | None:
        """Where the conversation goes on in which this was said; it is not found so again. `said` is its digest."""
        place = self._places.pop((owner, agent, said), None)
        if place is not None and place.context_id is not None:
            self._waiting.pop((owner, agent, place.context_id), None)
        return place

    def at(self, owner: str, agent: str, context_id: str) -> Place:
        """Where a conversation goes on whose context is known."""
        return Place(context_id, self._waiting.pop((owner, agent, context_id), None))

    def keep(self, owner: str, agent: str, said: bytes, place: Place) -> None:
        """Remember where a conversation goes on in which this was said."""
        self._places[owner, agent, said] = place
        if place.context_id is not None and place.task_id is not None:
            self._waiting[owner, agent, place.context_id] = place.task_id
        for kept in (self._places, self._waiting):
            if len(kept) > MAX_KEPT:
                kept.popitem(last=False)
