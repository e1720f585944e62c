"""`/api/audit`: what was done through the admin API and what was refused, newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from hub.api.access import MAX_NUMBER, PageSize, ServicesNow, needs
from registry.identity import Principal
from registry.store.tables.auditing import AuditRow, Written

router = APIRouter(prefix="/audit", tags=["audit"])
Caller = Annotated[Principal, Depends(needs("audit"))]


class PublicAudit(Written):
    """One administrative act or refusal."""

    number: int
    at: datetime


class AuditPage(BaseModel):
    """Some of the log, newest first; `next` continues it as `before`."""

    items: list[PublicAudit]
    next: int | None


class PublicVerified(BaseModel):
    """What a check of the chain of digests found; `broken_at` is the first row that is not as it was written."""

    rows: int
    head: str
    broken_at: int | None


@router.get("")
async def listed(
    _caller: Caller,
    services: ServicesNow,
    before: Annotated[int | None, Query(ge=0, le=MAX_NUMBER)] = None,
    limit: PageSize = 100,
) -> AuditPage:
    """List acts and refusals, newest first."""
    found = await services.audit.page(before, limit + 1)
    items = [_public(row) for row in found[:limit]]
    return AuditPage(items=items, next=items[-1].number if len(found) > limit else None)


@router.get("/verify")
async def verify(_caller: Caller, services: ServicesNow) -> PublicVerified:
    """Check that no row was changed or taken out."""
    return PublicVerified(**(await services.audit.verify())._asdict())


def _public(row: AuditRow) -> PublicAudit:
    return PublicAudit(**{**row.model_dump(), "at": datetime.fromtimestamp(row.at, UTC)})
