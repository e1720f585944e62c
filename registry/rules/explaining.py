"""Why somebody may call something or not: the grant and the rule that decide, for lists and calls alike. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from registry import judged
from registry.errors import CallerError, InvalidRequest
from registry.identity import Circumstances, Principal, Tree
from registry.judged import JsonObject
from registry.rules.guards import Guards, GuardSpec
from registry.rules.policy import Judge

Answer = Literal["allowed", "denied", "needs_approval", "depends"]

ALONE = Tree()

_ANSWERS: dict[str, Answer] = {"allow": "allowed", "deny": "denied", "require_approval": "needs_approval"}


class Standing(NamedTuple):
    """What is known of an entry, whoever is granted it."""

    why: str
    """In words for operators."""
    is_callable: bool = False
    """It can be called though it is not listed."""
    is_hidden: bool = True
    """To callers it looks like what was never there."""


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

    def standing(self, known: Standing | None, *, is_operator: bool) -> Explanation:
        """The same with what is known of the entry itself, which is told to others as far as a call tells it."""
        if known is None or not self.grants or not (is_operator or self.is_listed):
            return self
        if known.is_callable:
            return self._replace(is_listed=False, reason=f"{self.reason}; {known.why}")
        is_listed = self.is_listed and not known.is_hidden
        why = known.why if is_operator or not known.is_hidden else "nothing of that name is there"
        return Explanation("denied", is_listed, self.grants, None, (), why)


def said_object(member: str, text: str) -> JsonObject:
    """The JSON object that a question's member says; raises `InvalidRequest`, which names the member."""
    try:
        return judged.unambiguous(text.encode())
    except CallerError as error:
        reason = 'must be a JSON object, such as {"owner": "acme"}; in an address it is percent-encoded'
        if isinstance(error, InvalidRequest) and error.member is not None:  # one that stands twice
            reason = error.text
    raise InvalidRequest(f"{member}: {reason}", member=member)


def tree_of(said: JsonObject) -> Tree:
    """Where a call stands that is asked about; raises `InvalidRequest`."""
    try:
        return msgspec.convert(said, Tree)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"tree: {error}", member="tree") from None


def explain(
    principal: Principal,
    kind: str,
    name: str,
    arguments: JsonObject | None,
    guards: Guards | None,
    *,
    tree: Tree = ALONE,
) -> Explanation:
    """Say what decides; `arguments` are those of a call, which stands at `tree`, None: of no certain one."""
    call = Circumstances(arguments, lambda: tree)
    found = _explained(principal, kind, name, call)
    looking = guards.about(kind, name) if guards is not None and found.grants else None
    some = looking.guards if looking is not None else ()
    looks = (one.spec for one in some if arguments is None or one.applies(principal, kind, name, call))
    return found._replace(guards=tuple(looks))


def _explained(principal: Principal, kind: str, name: str, call: Circumstances) -> Explanation:
    grants = principal.grants.granting(kind, name)
    if not grants:
        return Explanation("denied", False, (), None, (), f"no grant of {principal.name} allows {kind}:{name}")
    judge = principal.policy if isinstance(principal.policy, Judge) else None
    if judge is None or not judge.asks(kind, name):
        return Explanation("allowed", True, grants, None, (), f"granted by {grants[0]}, and no rule is against it")
    plan = judge.plan(kind, name)
    asked, is_listed = tuple(one.rule.name for one in plan.asked), not judge.hides(kind, name)
    if asked and call.arguments is None:
        text = f"the rule {asked[0]} is asked at each call: say with which arguments"
        return Explanation("depends", is_listed, grants, None, asked, text)
    effect, rule, fault = judge.verdict(kind, name, call)
    if rule is None:
        text = f"granted by {grants[0]}, and no rule that is asked is against it"
        return Explanation("allowed", is_listed, grants, None, asked, text)
    text = f"the rule {rule.name} says {effect}: {fault or rule.reason or rule.when or 'always'}"
    return Explanation(_ANSWERS[effect], is_listed, grants, rule.name, asked, text)
