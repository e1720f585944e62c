"""`POST /api/mcp-servers/{name}/approve`: what a server says now is what it is compared with from here on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from hub.api.access import ServicesNow, needs
from registry.entries import Server
from registry.errors import NotFound
from registry.identity import Principal
from registry.judged import JsonObject
from registry.trust.pins import Assent

router = APIRouter(prefix="/mcp-servers", tags=["mcp-servers"])


class WantedApproval(BaseModel):
    """What is approved."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"features": ["get_me"]}]})
    features: Annotated[list[str], Field(min_length=1, max_length=10_000)] | None = None
    """As `trust.features` of the server calls them; null: everything."""
    digest: str | None = None
    """`trust.digest` as it was shown: what changed since then is not approved."""
    principal: str | None = None
    """As `trust.accounts` has it: of what the server lists to this one's account, for all accounts."""


@router.post("/{name}/approve")
async def approve(
    name: str,
    caller: Annotated[Principal, Depends(needs("mcp-servers"))],
    services: ServicesNow,
    body: WantedApproval | None = None,
) -> JsonObject:
    """Approve what a server says of itself and its features now; what was quarantined for it can be used again."""
    entry = services.registry.all_of("server").get(name)
    if not isinstance(entry, Server):
        raise NotFound("server", name)
    wanted = body or WantedApproval()
    assent = Assent(caller.id, wanted.features, seen=wanted.digest, account=wanted.principal or "")
    await services.registry.approve(entry, assent)
    return {"name": name, "trust": await services.registry.trust(entry)}
