"""Answers ListTasks: the page from the ledger, each task of it from its agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agents import answers, listing
from agents.discovery import Found
from agents.instances import Instances
from agents.ledger import Ledger
from agents.speech import SPEECHES, Ask
from agents.upstream import Upstream
from registry import judged
from registry.entries import Agent
from registry.errors import AgentFault, UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable
from registry.gate import Permit
from registry.judged import JsonObject

LISTED_AT_ONCE = 8
"""GetTask calls under way for one ListTasks: a page is soon there, and an agent is not flooded."""


class Pages:
    """The pages of all callers. One for a process."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        ledger: Ledger,
        instances: Instances,
        find: Callable[[Agent], Awaitable[Found]],
        max_bytes: int,
    ) -> None:
        """`max_bytes` is how large the tasks of a page may be together."""
        self._upstream = upstream
        self._ledger = ledger
        self._instances = instances
        self._find = find
        self._max_bytes = max_bytes

    async def page(self, permit: Permit, entry: Agent, ask: Ask) -> JsonObject:
        """One page.

        Raises:
            InvalidParams: a parameter is wrong.
            UpstreamError: the agent cannot be asked, or shows what is somebody else's.
        """
        principal = permit.principal
        team = self._ledger.team_of(entry.name, principal)
        query = listing.read_query(ask.params, agent=entry.name, owner=principal.id, team=team)
        rows, total = await self._ledger.page(query.listing)
        page = rows[: query.listing.size]
        found = await self._details(permit, entry, [(row.instance, query.detail(row.task_id)) for row in page])
        return {
            "tasks": [
                listing.shown(row, task, include_artifacts=query.include_artifacts)
                for row, task in zip(page, found, strict=True)
            ],
            "nextPageToken": listing.next_token(query.listing, rows),
            "pageSize": query.listing.size,
            "totalSize": total,
        }

    async def _details(self, permit: Permit, entry: Agent, wanted: list[tuple[str, Ask]]) -> list[JsonObject | None]:
        """Ask the agent for tasks, some at a time; together they may not be larger than one answer.

        None: the agent has lost one, or that one of its instances which has it cannot be reached.
        """
        found: list[JsonObject | None] = [None] * len(wanted)
        waiting = iter(enumerate(wanted))
        size = 0

        async def work() -> None:
            nonlocal size
            for index, (place, ask) in waiting:
                await self._ledger.know(entry.name, ask.params["id"])
                try:
                    with self._instances.at(entry, place) as one:
                        route = (await self._find(one)).choose(SPEECHES[0])
                        task = await self._upstream.result(permit, one, route, ask)
                except AgentFault:
                    continue
                except (UpstreamUnavailable, UpstreamTimeout):
                    if not entry.is_several:
                        raise
                    continue
                size += len(judged.encode(task))
                if size > self._max_bytes:
                    raise UpstreamInvalid(entry.name, "the tasks of this page are too large; ask for a smaller one")
                seen = answers.sighting_of(task)
                if seen.task_id != ask.params["id"]:
                    raise UpstreamInvalid(entry.name, "it answered with another task")
                await self._ledger.record(entry.name, permit.principal, seen, instance=one.instance)
                found[index] = task

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(LISTED_AT_ONCE, len(wanted))):
                    tasks.create_task(work())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return found
