"""What of each agent's card was approved: the SQL of drift. Knows no card; its parts are names and digests."""

from __future__ import annotations

import time

import msgspec
from sqlmodel import Session

from registry.store.db import Database
from registry.store.tables.trust import ApprovedCard

Parts = dict[str, str]
"""The digest of each part of a card."""


class Approvals:
    """The approved cards of all agents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def changed(self, agent: str, url: str, parts: Parts) -> tuple[str, ...]:
        """Name the parts that are no longer as they were approved. What is seen first, at this URL, is approved."""
        row = await self._database.read(lambda session: session.get(ApprovedCard, agent))
        if row is None or row.url != url:
            row = await self._database.write(lambda session: _first(session, agent, url, parts))
        approved = msgspec.json.decode(row.parts, type=Parts)
        return tuple(sorted(name for name in approved.keys() | parts.keys() if approved.get(name) != parts.get(name)))

    async def approve(self, agent: str, url: str, parts: Parts) -> None:
        """Approve what a card says now."""
        await self._database.write(lambda session: _put(session, agent, url, parts))


def _first(session: Session, agent: str, url: str, parts: Parts) -> ApprovedCard:
    row = session.get(ApprovedCard, agent)  # another process may have seen it meanwhile
    return row if row is not None and row.url == url else _put(session, agent, url, parts)


def _put(session: Session, agent: str, url: str, parts: Parts) -> ApprovedCard:
    row = session.get(ApprovedCard, agent) or ApprovedCard(agent=agent, url=url, parts="", approved_at=0)
    row.url, row.parts, row.approved_at = url, msgspec.json.encode(parts, order="sorted").decode(), time.time()
    session.add(row)
    return row
