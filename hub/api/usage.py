"""`/api/usage`: calls, errors, tokens and cost by any dimension, as JSON or CSV."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field

from hub.api.access import ServicesNow, needs
from registry.identity import Principal
from registry.spending.usage import BY, as_csv, dimensions, summary

router = APIRouter(prefix="/usage", tags=["usage"])

CSV = "text/csv"


class Asked(BaseModel):
    """Which usage, and how it is to be summed and shown."""

    by: str = BY
    """Dimensions, between commas."""
    since: AwareDatetime | None = Field(default=None, alias="from")
    until: AwareDatetime | None = Field(default=None, alias="to")
    session: str | None = None
    """Only what was part of this conversation."""
    task: str | None = None
    """Only what was part of the task of this id."""
    format: Literal["json", "csv"] | None = None
    """Null: as `Accept` says."""


@router.get("", response_model=None, responses={200: {"content": {CSV: {}}}})
async def usage(
    request: Request,
    caller: Annotated[Principal, Depends(needs("usage", role="viewer"))],
    services: ServicesNow,
    asked: Annotated[Asked, Query()],
) -> dict[str, object] | Response:
    """Sum usage, grouped by a comma-separated list of dimensions; `format=csv`, or `Accept: text/csv`, for a table.

    To a role in a team, that of the team's keys.
    """
    wanted = dimensions(asked.by)
    await services.usage.flush()
    start = asked.since.timestamp() if asked.since else None
    end = asked.until.timestamp() if asked.until else None
    team = None if caller.grants.allow("admin", "usage") else caller.team_id
    only = {"session": asked.session, "task": asked.task}
    rows = await services.database.read(lambda session: summary(session, wanted, start, end, team=team, only=only))
    if asked.format == "csv" or (asked.format is None and request.headers.get("accept", "").startswith(CSV)):
        return Response(as_csv(rows), media_type=CSV)
    return {"items": rows, "next": None}
