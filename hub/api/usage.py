"""`/api/usage`: calls, errors and tokens by any dimension."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from hub.api.access import ServicesNow, needs
from registry.errors import InvalidRequest
from registry.identity import Principal
from registry.usage import DIMENSIONS, summary

router = APIRouter(prefix="/usage", tags=["usage"])


@router.get("")
async def usage(
    _caller: Annotated[Principal, Depends(needs("usage"))],
    services: ServicesNow,
    by: str = "key,kind,name",
    since: Annotated[AwareDatetime | None, Query(alias="from")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to")] = None,
) -> dict[str, object]:
    """Sum usage, grouped by a comma-separated list of dimensions."""
    wanted = [name for name in dict.fromkeys(by.split(",")) if name]
    unknown = [name for name in wanted if name not in DIMENSIONS]
    if unknown:
        raise InvalidRequest(f"by: {', '.join(unknown)} is none of {', '.join(DIMENSIONS)}", member="by")
    await services.usage.flush()
    start = since.timestamp() if since else None
    end = until.timestamp() if until else None
    rows = await services.database.read(lambda session: summary(session, wanted, start, end))
    return {"items": rows, "next": None}
