"""`/api/push/dead-letters`: notifications that were given up, and their replay. Neither bodies nor addresses are shown.

Whoever may register agents may see what became of the news of their tasks.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel

from hub.api.access import MAX_NUMBER, PageSize, ServicesNow, needs
from registry.errors import NotFound
from registry.identity import Principal
from registry.ledger.outbox import DeadLetter, dead_letters, replay

router = APIRouter(prefix="/push/dead-letters", tags=["push"])
Caller = Annotated[Principal, Depends(needs("agents"))]


class PublicLetter(BaseModel):
    """A notification that was given up."""

    id: int
    agent: str
    task_id: str
    config_id: str
    owner: str
    """The id of the principal whose configuration it is."""
    event_id: str
    """`jti` of the hub's signature."""
    attempts: int
    size_bytes: int
    since: datetime
    given_up_at: datetime
    reason: str


class LetterPage(BaseModel):
    """Some notifications; `next` continues the list as `after`."""

    items: list[PublicLetter]
    next: int | None


class Replayed(BaseModel):
    """How many notifications are on their way again."""

    replayed: int


@router.get("")
async def listed(
    _caller: Caller,
    services: ServicesNow,
    after: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
    limit: PageSize = 100,
) -> LetterPage:
    """List what was given up, oldest first."""
    found = await services.database.read(lambda session: dead_letters(session, after, limit + 1))
    items = [_public(letter) for letter in found[:limit]]
    return LetterPage(items=items, next=items[-1].id if len(found) > limit else None)


@router.post("/replay", status_code=202)
async def replay_all(_caller: Caller, services: ServicesNow) -> Replayed:
    """Send all again, each receiver's in order; they have a day as before."""
    return Replayed(replayed=await services.database.write(lambda session: replay(session, time.time())))


@router.post("/{letter}/replay", status_code=202)
async def replay_one(
    letter: Annotated[int, Path(ge=1, le=MAX_NUMBER)], _caller: Caller, services: ServicesNow
) -> Replayed:
    """Send one again; its receiver, if it was stopped, gets what comes after it too."""
    done = await services.database.write(lambda session: replay(session, time.time(), only=letter))
    if not done:
        raise NotFound("dead letter", str(letter))
    return Replayed(replayed=done)


def _public(letter: DeadLetter) -> PublicLetter:
    return PublicLetter(
        id=letter.id,
        agent=letter.agent,
        task_id=letter.task_id,
        config_id=letter.config_id,
        owner=letter.owner,
        event_id=letter.event_id,
        attempts=letter.attempts,
        size_bytes=letter.size,
        since=datetime.fromtimestamp(letter.since, UTC),
        given_up_at=datetime.fromtimestamp(letter.dead_at, UTC),
        reason=letter.reason,
    )
