"""Why somebody may call something or not: the grant and the rule that decide, for lists and calls alike. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from registry.identity import Circumstances, Principal
from registry.judged import JsonObject
from registry.rules.guards import Guards, GuardSpec
from registry.rules.policy import Judge

Answer = Literal["allowed", "denied", "needs_approval", "depends"]

_ANSWERS: dict[str, Answer] = {"allow": "allowed", "deny": "denied", "require_approval": "needs_approval"}


class Explanation(NamedTuple):
    """What decides about one entry for one principal."""

    answer: Answer
    """`depends`: on a call's arguments, the time or the way it came."""
    is_listed: bool
    grants: tuple[str, ...]
    """Those that allow it; empty: none does."""
    rule: str | None
    """The rule that decides; None: none does."""
    asked: tuple[str, ...]
    """The rules that are asked at each call, in their order."""
    reason: str
    guards: tuple[GuardSpec, ...] = ()
    """Those that look at such a call, or may: their conditions are asked at each call."""


def explain(
    principal: Principal, kind: str, name: str, arguments: JsonObject | None, guards: Guards | None
) -> Explanation:
    """Say what decides; `arguments` are those of a call, None: of no certain one."""
    found = _explained(principal, kind, name, arguments)
    looking = guards.about(kind, name) if guards is not None and found.grants else None
    call = Circumstances(arguments)
    looks = (one.spec for one in looking or () if arguments is None or one.applies(principal, kind, name, call))
    return found._replace(guards=tuple(looks))


def _explained(principal: Principal, kind: str, name: str, arguments: JsonObject | None) -> Explanation:
    grants = principal.grants.granting(kind, name)
    if not grants:
        return Explanation("denied", False, (), None, (), f"no grant of {principal.name} allows {kind}:{name}")
    judge = principal.policy if isinstance(principal.policy, Judge) else None
    if judge is None or not judge.asks(kind, name):
        return Explanation("allowed", True, grants, None, (), f"granted by {grants[0]}, and no rule is against it")
    plan = judge.plan(kind, name)
    asked, is_listed = tuple(one.rule.name for one in plan.asked), not judge.hides(kind, name)
    if asked and arguments is None:
        text = f"the rule {asked[0]} is asked at each call: say with which arguments"
        return Explanation("depends", is_listed, grants, None, asked, text)
    effect, rule, fault = judge.verdict(kind, name, Circumstances(arguments))
    if rule is None:
        text = f"granted by {grants[0]}, and no rule that is asked is against it"
        return Explanation("allowed", is_listed, grants, None, asked, text)
    text = f"the rule {rule.name} says {effect}: {fault or rule.reason or rule.when or 'always'}"
    return Explanation(_ANSWERS[effect], is_listed, grants, rule.name, asked, text)
