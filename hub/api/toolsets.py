"""`/api/toolsets`: bundles of tools, and what the tools of each cost a model that is given their list.

As entries of other kinds: bodies are the maps of hub.yaml plus `name`, and what the file declares is not changed here.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from hub.api.access import JsonBody, PageSize, ServicesNow, needs, read_disabled
from hub.services import Services
from mcp_bridge.views import AGGREGATE, cost_at
from registry.access import EVERYTHING, Grants
from registry.catalog import Catalog
from registry.errors import Conflict, InvalidRequest, NotFound
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
    owner: str
    disabled: bool
    shadowed: bool
    description: str | None
    mode: str | None
    tools: list[str]
    presented: list[dict[str, str | None]]
    view: ViewCost


class ToolsetPage(BaseModel):
    """Some toolsets; `next` continues the list as `after`."""

    items: list[PublicToolset]
    next: str | None


EXAMPLE = {"name": "daily", "description": "What developers use daily", "tools": ["github__list_*"]}
_body = {"requestBody": {"content": {"application/json": {"examples": [EXAMPLE]}}}}


@router.post("", status_code=201, openapi_extra=_body)
async def create(body: JsonBody, _caller: Caller, services: ServicesNow) -> PublicToolset:
    """Make a toolset; it is served at once."""
    name = body.pop("name", None)
    if not isinstance(name, str):
        raise InvalidRequest("name is missing", member="name")
    await services.registry.put("toolset", name, body, trusted=False)
    return _public(services, name)


@router.get("")
async def listed(
    _caller: Caller,
    services: ServicesNow,
    after: str = "",
    limit: PageSize = 100,
) -> ToolsetPage:
    """List toolsets by name."""
    names = sorted(name for name in services.registry.toolsets() if name > after)
    items = [_public(services, name) for name in names[:limit]]
    return ToolsetPage(items=items, next=names[limit - 1] if len(names) > limit else None)


@router.get("/{name}")
async def one(name: str, _caller: Caller, services: ServicesNow) -> PublicToolset:
    """Show a toolset."""
    return _public(services, name)


@router.patch("/{name}")
async def change(name: str, body: JsonBody, _caller: Caller, services: ServicesNow) -> PublicToolset:
    """Change members of a toolset, or switch it off and on."""
    found = _public(services, name)
    disabled = read_disabled(body)
    if body:
        stored = await services.registry.body("toolset", name)
        if stored is None or found.owner == "file":
            raise Conflict(f"The toolset {name!r} is declared in the file; change it there.")
        await services.registry.replace("toolset", name, {**stored, **body}, trusted=False)
    if disabled is not None:
        await services.registry.switch("toolset", name, on=not disabled)
    return _public(services, name)


@router.delete("/{name}", status_code=204)
async def remove(name: str, _caller: Caller, services: ServicesNow) -> None:
    """Delete a toolset; its tools stay where they are."""
    await services.registry.delete("toolset", name)


def view_cost(catalog: Catalog, grants: Grants, path: str = AGGREGATE) -> ViewCost:
    """What somebody with these grants is listed at a path of the MCP door."""
    cost = cost_at(catalog, grants, path)
    return ViewCost(**cost._asdict(), advice=cost.advice)


def _public(services: Services, name: str) -> PublicToolset:
    catalog, found = services.registry.catalog, services.registry.toolsets().get(name)
    if found is None:
        raise NotFound("toolset", name)
    key = ("toolset", name)
    return PublicToolset(
        name=name,
        owner=found.owner,
        disabled=key in catalog.switched_off,
        shadowed=key in catalog.shadowed,
        description=found.description,
        mode=found.mode,
        tools=list(found.tools),
        presented=[{"tool": one.tool, "as": one.alias, "description": one.description} for one in found.presented],
        view=view_cost(catalog, EVERYTHING, name),
    )
