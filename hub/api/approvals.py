"""`/api/approvals`: the inbox of tools' calls that wait for somebody's word. An answer resumes the run that waits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from hub.api.access import PageSize, ServicesNow, needs
from registry.identity import Principal
from registry.tool_approvals import Approval, State, Verdict

router = APIRouter(prefix="/approvals", tags=["approvals"])
Caller = Annotated[Principal, Depends(needs("approvals"))]


class PublicApproval(BaseModel):
    """A call of a tool that waits, or waited, for approval."""

    id: str
    state: State
    server: str
    tool: str
    arguments: dict[str, Any]
    principal: str
    """The id of the principal in whose request the call is."""
    principal_name: str
    answerer: Literal["caller", "admin"]
    """`admin`: a rule of the hub asks for it, so the caller itself cannot answer."""
    door: str
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    decided_by_name: str | None
    reason: str | None


class ApprovalPage(BaseModel):
    """Some approvals; `next` continues the list as `after`."""

    items: list[PublicApproval]
    next: str | None


class Decision(BaseModel):
    """An answer; the model is told a denial's reason."""

    model_config = ConfigDict(extra="forbid")
    decision: Literal["approve", "deny"]
    reason: str | None = Field(default=None, max_length=1000)


@router.get("")
async def listed(
    _caller: Caller,
    services: ServicesNow,
    state: State | Literal["all"] = "pending",
    after: str | None = None,
    limit: PageSize = 100,
) -> ApprovalPage:
    """List approvals, oldest first."""
    found = await services.approvals.page(None if state == "all" else state, after, limit + 1)
    items = [_public(approval) for approval in found[:limit]]
    return ApprovalPage(items=items, next=items[-1].id if len(found) > limit else None)


@router.get("/{name}")
async def one(name: str, _caller: Caller, services: ServicesNow) -> PublicApproval:
    """Show an approval."""
    return _public(await services.approvals.find(name))


@router.post("/{name}")
async def decide(name: str, body: Decision, caller: Caller, services: ServicesNow) -> PublicApproval:
    """Approve or deny, once. What a rule of the hub asks for is not answered by the key that made the request."""
    verdict = Verdict(body.decision == "approve", body.reason)
    return _public(await services.approvals.decide(name, verdict, caller))


def _public(approval: Approval) -> PublicApproval:
    return PublicApproval(
        id=approval.id,
        state=approval.state,
        server=approval.server,
        tool=approval.tool,
        arguments=approval.arguments,
        principal=approval.principal,
        principal_name=approval.principal_name,
        answerer=approval.answerer,
        door=approval.door,
        created_at=datetime.fromtimestamp(approval.created_at, UTC),
        expires_at=datetime.fromtimestamp(approval.expires_at, UTC),
        decided_at=None if approval.decided_at is None else datetime.fromtimestamp(approval.decided_at, UTC),
        decided_by=approval.decided_by,
        decided_by_name=approval.decided_by_name,
        reason=approval.reason,
    )
