"""`/api/toolsets`: what the file declares, and what the tools of each cost a model that is given their list."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from hub.api.access import ServicesNow, needs
from mcp_bridge.views import AGGREGATE, cost_at
from registry.access import EVERYTHING, Grants
from registry.catalog import Catalog
from registry.entries import Toolset
from registry.errors import NotFound
from registry.identity import Principal

router = APIRouter(prefix="/toolsets", tags=["toolsets"])
Caller = Annotated[Principal, Depends(needs("mcp-servers"))]


class ViewCost(BaseModel):
    """What a list of tools costs. Tokens are estimated: four bytes each of names, descriptions and input schemas."""

    tools: int
    tokens: int
    search_tokens: int | None
    """Of the list in search mode; null: there is none here."""
    advice: str | None
    """What search mode would save; null: not enough to speak of."""


class PublicToolset(BaseModel):
    """A toolset as the hub serves it."""

    name: str
    description: str | None
    mode: str | None
    tools: list[str]
    presented: list[dict[str, str | None]]
    view: ViewCost


class ToolsetPage(BaseModel):
    """All toolsets: a file holds few."""

    items: list[PublicToolset]
    next: None = None


@router.get("")
async def listed(_caller: Caller, services: ServicesNow) -> ToolsetPage:
    """List toolsets by name."""
    catalog = services.registry.catalog
    return ToolsetPage(items=[_public(catalog, found) for _, found in sorted(catalog.toolsets.items())])


@router.get("/{name}")
async def one(name: str, _caller: Caller, services: ServicesNow) -> PublicToolset:
    """Show a toolset."""
    catalog = services.registry.catalog
    if name not in catalog.toolsets:
        raise NotFound("toolset", name)
    return _public(catalog, catalog.toolsets[name])


def view_cost(catalog: Catalog, grants: Grants, path: str = AGGREGATE) -> ViewCost:
    """What somebody with these grants is listed at a path of the MCP door."""
    cost = cost_at(catalog, grants, path)
    return ViewCost(**cost._asdict(), advice=cost.advice)


def _public(catalog: Catalog, found: Toolset) -> PublicToolset:
    return PublicToolset(
        name=found.name,
        description=found.description,
        mode=found.mode,
        tools=list(found.tools),
        presented=[{"tool": one.tool, "as": one.alias, "description": one.description} for one in found.presented],
        view=view_cost(catalog, EVERYTHING, found.name),
    )
