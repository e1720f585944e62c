"""`/api/guards`: which guards there are, what they found lately, and what they would find."""

from __future__ import annotations

import time
from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from hub.api.access import ServicesNow, needs
from registry.errors import GuardRefused
from registry.identity import Principal
from registry.judged import encode, unambiguous
from registry.rules.guards import Guard, Guards, Side, tried

router = APIRouter(prefix="/guards", tags=["policy"])
Caller = Annotated[Principal, Depends(needs("policy"))]

DAY_S = 86_400.0


class PublicGuard(BaseModel):
    """A guard in its place. Rules that redact are asked first; their type is `rule`."""

    name: str
    type: str
    action: str
    entries: list[str]
    of: list[str]
    when: str | None
    redacted: int
    """How often it did so in the last day, as far as the audit log says it."""
    refused: int


class GuardList(BaseModel):
    """All of them, in the order in which they are asked."""

    items: list[PublicGuard]


class WantedTest(BaseModel):
    """What guards are to look at; without `guards` all do, whatever their entries and conditions are."""

    model_config = ConfigDict(extra="forbid")
    value: Any
    of: Side = "arguments"
    guards: list[str] | None = None


class PublicFinding(BaseModel):
    """What one guard would make of the value by itself."""

    guard: str
    action: str
    found: str
    redacted: Any = Field(default=None)
    """The value as it would leave it; null: it cannot redact it."""


class FindingList(BaseModel):
    """Of those that found something."""

    items: list[PublicFinding]


@router.get("")
async def listed(_caller: Caller, services: ServicesNow) -> GuardList:
    """List the guards of hub.yaml and the rules that redact."""
    found = await services.audit.found_by_guards(since=time.time() - DAY_S)
    return GuardList(items=[_public(one, found) for one in _specs(services.registry.catalog.guards)])


@router.post("/test")
async def test(body: WantedTest, _caller: Caller, services: ServicesNow) -> FindingList:
    """Say what guards would find in a JSON value; nothing of it is stored."""
    value = unambiguous(encode({"value": body.value}))["value"]
    items: list[PublicFinding] = []
    guards = services.registry.catalog.guards
    for guard in guards.guards if guards is not None else ():
        if body.of not in guard.spec.of or (body.guards is not None and guard.spec.name not in body.guards):
            continue
        try:
            finding = await tried(guard, body.of, value)
        except GuardRefused as error:
            items.append(PublicFinding(guard=guard.spec.name, action="block", found=error.text))
            continue
        if finding is not None:
            items.append(
                PublicFinding(
                    guard=guard.spec.name,
                    action=guard.spec.action,
                    found=finding.what,
                    redacted=finding.redacted if finding.can_redact else None,
                )
            )
    return FindingList(items=items)


def _specs(guards: Guards | None) -> list[Guard]:
    """One guard of each name: a rule may be several."""
    return list({one.spec.name: one for one in guards.guards}.values()) if guards is not None else []


def _public(guard: Guard, found: Counter[tuple[str, str]]) -> PublicGuard:
    spec = guard.spec
    return PublicGuard(
        name=spec.name,
        type=spec.type,
        action=spec.action,
        entries=list(spec.entries),
        of=list(spec.of),
        when=spec.when,
        redacted=found["redacted", spec.name],
        refused=found["refused", spec.name],
    )
