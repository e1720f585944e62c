"""`/api/policy`: the rules, version by version; and `/api/explain`: which of them decides for whom."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from hub.api.access import MAX_NUMBER, ServicesNow, needs
from hub.services import Services
from hub.standing import meant, standing
from registry.access import EVERYTHING, KINDS
from registry.declared.config import rule_of
from registry.declared.shapes import RuleShape
from registry.errors import InvalidRequest, NotFound
from registry.identity import Principal
from registry.rules.explaining import ALONE, Answer, explain, said_object, tree_of
from registry.rules.policies import NONE, Version
from registry.rules.policy import MAX_RULES, Rule

router = APIRouter(tags=["policy"])
Caller = Annotated[Principal, Depends(needs("policy"))]


class WantedRules(BaseModel):
    """The rules that are to be the API's; `version` is the one that they were written for, if it matters."""

    model_config = ConfigDict(extra="forbid")
    rules: list[RuleShape]
    version: Annotated[int | None, Field(ge=0, le=MAX_NUMBER)] = None


class WantedVersion(BaseModel):
    """A version whose rules are to be the API's again."""

    model_config = ConfigDict(extra="forbid")
    version: Annotated[int, Field(ge=0, le=MAX_NUMBER)]


class PublicRule(BaseModel):
    """A rule in its place. Rules of the file come first."""

    name: str
    effect: str
    entries: list[str]
    when: str | None
    reason: str | None
    redact: list[str]
    fields: list[str]
    of: list[str]
    owner: Literal["file", "api"]


class PublicPolicy(BaseModel):
    """The policy of one version."""

    version: int
    at: datetime | None
    by: str
    rules: list[PublicRule]


class VersionPage(BaseModel):
    """Some versions, newest first; `next` continues the list as `before`."""

    items: list[PublicPolicy]
    next: int | None


class Changed(BaseModel):
    """One rule in two versions."""

    before: PublicRule
    after: PublicRule


class Difference(BaseModel):
    """What is different in `to`. Rules are told by their names."""

    added: list[PublicRule]
    removed: list[PublicRule]
    changed: list[Changed]
    reordered: bool
    """Rules that both have are asked in another order."""


class GuardLooking(BaseModel):
    """A guard, or a rule that redacts, which looks at such a call if its condition holds."""

    name: str
    action: str
    of: list[str]
    when: str | None


class Asked(BaseModel):
    """What is to be explained."""

    kind: str
    name: str
    principal: str | None = None
    """A key's name or id; null: the caller."""
    arguments: str | None = None
    """A JSON object: those of a call, which rules may look at."""
    tree: str | None = None
    """Another: where the call stands; null: nothing is above it."""


class PublicExplanation(BaseModel):
    """What decides about one entry for one principal."""

    principal: str
    kind: str
    name: str
    answer: Answer
    listed: bool
    grants: list[str]
    rule: str | None
    asked: list[str]
    reason: str
    guards: list[GuardLooking]


EXAMPLE = {
    "rules": [
        {
            "name": "no-deletes",
            "effect": "deny",
            "entries": ["tool:*__delete_*"],
            "when": "principal.team_id != 'team_5d1f0c3b7a9d2e48561f0c3b7a9d2e48'",
        }
    ]
}
_body = {"requestBody": {"content": {"application/json": {"examples": [EXAMPLE]}}}}


@router.get("/policy")
async def now(_caller: Caller, services: ServicesNow) -> PublicPolicy:
    """Show the rules in force."""
    return _public(await _latest(services))


@router.put("/policy", openapi_extra=_body)
async def replace(body: WantedRules, caller: Caller, services: ServicesNow) -> PublicPolicy:
    """Make these the rules that come after the file's, all at once; they are in force when this answers."""
    if len(body.rules) > MAX_RULES:
        raise InvalidRequest(f"more than {MAX_RULES} rules", member="rules")
    rules = [rule_of(shape) for shape in body.rules]
    return _public(await services.registry.set_policy(rules, caller, instead_of=body.version))


@router.get("/policy/versions")
async def versions(
    _caller: Caller,
    services: ServicesNow,
    before: Annotated[int | None, Query(ge=0, le=MAX_NUMBER)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> VersionPage:
    """List the policy's versions, newest first."""
    found = await services.registry.policies.page(before, limit + 1)
    return VersionPage(
        items=[_public(one) for one in found[:limit]], next=found[limit - 1].number if len(found) > limit else None
    )


@router.get("/policy/versions/{number}")
async def version(
    number: Annotated[int, Path(ge=0, le=MAX_NUMBER)], _caller: Caller, services: ServicesNow
) -> PublicPolicy:
    """Show the rules of one version."""
    return _public(await services.registry.policies.find(number))


@router.get("/policy/diff")
async def difference(
    _caller: Caller,
    services: ServicesNow,
    since: Annotated[int, Query(alias="from", ge=0, le=MAX_NUMBER)],
    to: Annotated[int | None, Query(ge=0, le=MAX_NUMBER)] = None,
) -> Difference:
    """Say what is different between two versions; without `to`, between one and the rules in force."""
    policies = services.registry.policies
    one = await policies.find(since)
    two = await _latest(services) if to is None else await policies.find(to)
    return _difference(_rules(one), _rules(two))


@router.post("/policy/rollback")
async def roll_back(body: WantedVersion, caller: Caller, services: ServicesNow) -> PublicPolicy:
    """Make the API's rules of an older version the newest; what the file says stays."""
    found = await services.registry.policies.find(body.version)
    return _public(await services.registry.set_policy(found.rules, caller))


@router.get("/explain")
async def explained(request: Request, services: ServicesNow, asked: Annotated[Asked, Query()]) -> PublicExplanation:
    """Say what decides whether a principal may call something: the caller, or with `admin:policy` anybody."""
    caller: Principal = request.scope["principal"]
    found, principal, kind, name = caller, asked.principal, asked.kind, asked.name
    is_operator = caller.grants.allow("admin", "policy")
    if principal not in (None, caller.name, caller.id):
        assert principal is not None, "it is another's"
        if not is_operator:
            raise NotFound("principal", principal)
        found = await services.keys.named(principal)
    if kind not in KINDS:
        raise InvalidRequest(f"kind must be one of {', '.join(sorted(KINDS))}", member="kind")
    given = None if asked.arguments is None else said_object("arguments", asked.arguments)
    tree = ALONE if asked.tree is None else tree_of(said_object("tree", asked.tree))
    catalog = services.registry.catalog
    kind, name = meant(catalog, kind, name, EVERYTHING if is_operator else caller.grants)
    known = standing(catalog, kind, name, lambda path: services.tools.view(found, path))
    said = explain(found, kind, name, given, catalog.guards, tree=tree).standing(known, is_operator=is_operator)
    return PublicExplanation(
        principal=found.name,
        kind=kind,
        name=name,
        answer=said.answer,
        listed=said.is_listed,
        grants=list(said.grants),
        rule=said.rule,
        asked=list(said.asked),
        reason=said.reason,
        guards=[GuardLooking(name=one.name, action=one.action, of=list(one.of), when=one.when) for one in said.guards],
    )


async def _latest(services: Services) -> Version:
    found = await services.registry.policies.page(None, 1)
    return found[0] if found else NONE


def _rules(version: Version) -> list[PublicRule]:
    return [*_shown(version.of_file, "file"), *_shown(version.rules, "api")]


def _shown(rules: Sequence[Rule], owner: Literal["file", "api"]) -> list[PublicRule]:
    return [PublicRule(**rule._asdict(), owner=owner) for rule in rules]


def _public(version: Version) -> PublicPolicy:
    at = datetime.fromtimestamp(version.at, UTC) if version.number else None
    return PublicPolicy(version=version.number, at=at, by=version.by_name, rules=_rules(version))


def _difference(one: list[PublicRule], two: list[PublicRule]) -> Difference:
    before, after = ({rule.name: rule for rule in rules} for rules in (one, two))
    both = before.keys() & after.keys()
    return Difference(
        added=[rule for rule in two if rule.name not in before],
        removed=[rule for rule in one if rule.name not in after],
        changed=[
            Changed(before=before[rule.name], after=rule)
            for rule in two
            if rule.name in both and rule != before[rule.name]
        ],
        reordered=[name for name in before if name in both] != [name for name in after if name in both],
    )
