"""Policy: rules over who calls what, with which arguments and when (surface.md 4). Pure.

Grants come first: what is not granted is not there. Of the rules that are about an entry the first whose condition
holds decides: it lets the call pass, refuses it, or has it approved. Where none does, the grant stands. Those that redact decide
nothing: they are guards (registry/rules/redacting.py). A condition is written in
CEL (cel-spec 0.25); one that fails, for want of an argument or by its type, counts against the call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import structs

from registry import judged
from registry.access import OF_SERVERS, SEPARATOR, Grant, Grants
from registry.errors import ApprovalRequired, PolicyRefused
from registry.identity import Circumstances, Principal, Tree
from registry.judged import BACKSLASH, JsonObject
from registry.sealed.secrets import digest

Effect = Literal["allow", "deny", "require_approval", "redact"]

KINDS = frozenset({"tool", "prompt", "resource", "server", "agent", "model"})
"""What rules are about. Not the admin API: nobody shuts themselves out."""

KNOWN_OF_ENTRY = frozenset({"principal", "entry"})
"""What a condition may look at that is known before there is a call. Lists obey rules that look at nothing else."""

VARIABLES = KNOWN_OF_ENTRY | {"arguments", "now", "tree"}
MAX_CONDITION_CHARS = 2000
MAX_RULES = 1000
MAX_ARGUMENT_BYTES = 64 * 1024
"""Of arguments that conditions look at: a condition with larger ones is not decided, and counts against the call."""

MEMO_SIZE = 4096
"""Entries whose rules are remembered, for each kind of principal."""

_MACRO = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*(\w+)\s*,")
_MEMBER = re.compile(r"\bprincipal\b(?:\s*\.\s*(\w+))?")
_OF_TREE = re.compile(r"(?<![\w.])tree\s*\.\s*(\w+)")
_KNOWN = re.compile(r"\b(?:principal|entry|tree|now)\s*\.\s*\w+")
_TEXT = re.compile(r"""(["'])((?:\\.|(?!\1).)*)\1(\s*\]|\s+in\b)?""")
_SELECTED = re.compile(r"\.\s*\??\s*([A-Za-z_]\w*)\b(?!\s*\()")
_ARGUMENT = re.compile(r"\barguments\b(?:\s*\.\s*(\w+)\b(?!\s*\())?")
"""Without a member where a condition looks at all arguments, or may: by a name in brackets, a function, an operator."""


class Rule(NamedTuple):
    """One rule as it is written."""

    name: str
    effect: Effect
    entries: tuple[str, ...] = ()
    """`kind:glob` as in grants; empty: everything."""
    when: str | None = None
    """A condition in CEL; None: always."""
    reason: str | None = None
    """What callers are told."""
    redact: tuple[str, ...] = ()
    """Of one that redacts: what it looks for, `secrets`, `pii` or kinds of that."""
    fields: tuple[str, ...] = ()
    """Likewise: names of members, `a.b` for one within another."""
    of: tuple[Literal["arguments", "results"], ...] = ("arguments", "results")
    """Likewise: in what."""


class RuleInvalid(ValueError):
    """A rule that cannot be used; the text says why."""


class Verdict(NamedTuple):
    """What the rules say of a call."""

    effect: Effect
    rule: Rule | None = None
    """None: no rule decided, so the grant stands."""
    fault: str | None = None
    """Why its condition could not be decided; None: it could."""


PASSED = Verdict("allow")


class Facts(NamedTuple):
    """What conditions may know of a principal."""

    id: str
    name: str
    """Free for others once it is nobody's, as the names of team and user are; ids never are."""
    team: str | None
    """Its alias."""
    user: str | None
    """Their name."""
    team_id: str | None
    user_id: str | None


PRINCIPAL_MEMBERS = Facts._fields


class Plan(NamedTuple):
    """The rules that may decide calls of one entry, in their order."""

    asked: tuple[_Compiled, ...]
    """Their conditions are decided with each call."""
    verdict: Verdict
    """Where none of them holds."""
    names: frozenset[str] = frozenset()
    """Of arguments that the conditions look at, in every depth."""
    finds: re.Pattern[bytes] | None = None
    """Finds these in arguments; None: conditions look at other things too."""
    otherwise: Verdict = PASSED
    """Where it finds none."""


class _Absent(NamedTuple):
    """What a condition says of calls that have no argument that it looks at, so that it is not asked about each of them."""

    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    grants: Grants | None
    """What it is about; None: everything."""
    condition: Any
    """The program; None: it always holds."""
    variables: frozenset[str]
    members: frozenset[str]
    """Those of the principal that it looks at."""
    arguments: frozenset[str] | None = None
    """Those that it looks at; None: all. Each that is handed over costs more than the condition."""
    absent: _Absent | None = None
    """What it says where there is none of those; None: that depends on other things too."""
    names: frozenset[str] = frozenset()
    """What it calls them, and members in them."""

    def is_about(self, kind: str, name: str) -> bool:
        return self.grants is None or self.grants.allow(kind, name)


class Policy:
    """Compiled rules, in their order."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Compile `rules`; raises `RuleInvalid`."""
        self.rules = tuple(rules)
        self.digest = digest(msgspec.json.encode(self.rules))
        """Of all rules, as approvals are bound to them."""
        self._compiled = tuple(_compile(rule) for rule in self.rules)
        self._members = tuple(
            name
            for name in PRINCIPAL_MEMBERS
            if any(name in one.members for one in self._compiled if one.variables <= KNOWN_OF_ENTRY)
        )
        self._plans: dict[tuple[object, ...], dict[tuple[str, str], Plan]] = {}

    def judge(self, facts: Facts) -> Judge:
        """The rules for one principal."""
        seen = tuple(getattr(facts, name) for name in self._members)
        plans = self._plans.get(seen)
        if plans is None:
            plans = {}
            if len(self._plans) < MEMO_SIZE:
                self._plans[seen] = plans
        return Judge(self, facts, plans)

    def plan(self, facts: Facts, kind: str, name: str) -> Plan:
        """The rules that may decide calls of an entry."""
        asked = []
        for one in self._compiled:
            if one.rule.effect == "redact" or not one.is_about(kind, name):
                continue
            if not one.variables <= KNOWN_OF_ENTRY:
                asked.append(one)
                continue
            verdict = _decide(one, {"principal": facts._asdict(), "entry": _entry(kind, name)})
            if verdict is not None:
                return _planned(asked, verdict)
        return _planned(asked, PASSED)


@dataclass(frozen=True, slots=True)
class Judge:
    """The rules as they are for one principal."""

    policy: Policy
    facts: Facts
    plans: dict[tuple[str, str], Plan] = field(repr=False, compare=False)
    """Shared by all principals that are the same to all rules about entries."""
    given: tuple[str, str, JsonObject] | None = field(default=None, compare=False, repr=False)
    """The kind, name and arguments of a call that was approved."""

    def plan(self, kind: str, name: str) -> Plan:
        """The rules that may decide calls of an entry."""
        plan = self.plans.get((kind, name))
        if plan is None:
            plan = self.policy.plan(self.facts, kind, name)
            if len(self.plans) < MEMO_SIZE:
                self.plans[kind, name] = plan
        return plan

    def asks(self, kind: str, name: str) -> bool:
        """Whether calls of an entry are judged one by one."""
        if kind not in KINDS:
            return False
        plan = self.plan(kind, name)
        return bool(plan.asked) or plan.verdict.effect != "allow"

    def hides(self, kind: str, name: str) -> bool:
        """Whether no call of an entry can pass, so that it is not there for this principal."""
        if kind not in KINDS:
            return False
        plan = self.plan(kind, name)
        return plan.verdict.effect == "deny" and all(one.rule.effect == "deny" for one in plan.asked)

    def verdict(self, kind: str, name: str, call: Circumstances) -> Verdict:
        """What the rules say of a call."""
        if kind not in KINDS:
            return PASSED
        plan = self.plans.get((kind, name)) or self.plan(kind, name)
        if not plan.asked:
            return plan.verdict
        if plan.finds is not None and call.arguments is not None:
            written = msgspec.json.encode(call.arguments)
            if written.isascii() and len(written) <= MAX_ARGUMENT_BYTES and plan.finds.search(written) is None:
                return plan.otherwise
        return self._decided(plan, kind, name, call)

    def passes(self, kind: str, name: str, written: bytes) -> bool:
        """Whether a call surely passes whose arguments are JSON as its caller wrote it; also if members stand twice in it, since none is asked about."""
        plan = self.plans.get((kind, name))
        if plan is None:
            if kind not in KINDS:
                return True
            plan = self.plan(kind, name)
        if not plan.asked:
            return plan.verdict.effect == "allow"
        finds = plan.finds
        return (
            finds is not None
            and plan.otherwise.effect == "allow"
            and len(written) <= MAX_ARGUMENT_BYTES
            and written.isascii()
            and (BACKSLASH not in written or b"\\u" not in written)
            and finds.search(written) is None
        )

    def _decided(self, plan: Plan, kind: str, name: str, call: Circumstances) -> Verdict:
        """What the conditions say, one after the other."""
        given: dict[str, object] = {}
        for one in plan.asked:
            for variable in one.variables:
                if variable in given:
                    continue
                value = self._value(variable, kind, name, call)
                if value is None:
                    return Verdict(
                        "deny", one.rule, "it looks at arguments, and this call has none that it can look at"
                    )
                given[variable] = value
                other = judged.misspelt(value, plan.names) if variable == "arguments" else None
                if other is not None:  # which the one who is called may take for the other
                    return Verdict("deny", one.rule, f"it looks at {other[1]}, which this call spells {other[0][:80]}")
            verdict = _decide(one, given)
            if verdict is not None:
                return verdict
        return plan.verdict

    def _value(self, variable: str, kind: str, name: str, call: Circumstances) -> object | None:
        """What a condition sees of a call; None: nothing."""
        if variable == "arguments":
            return None if call.arguments is None or _is_too_large(call.arguments) else call.arguments
        if variable == "tree":
            return {name: value for name, value in msgspec.structs.asdict(call.tree()).items() if value is not None}
        if variable == "now":
            return datetime.now(UTC)
        return self.facts._asdict() if variable == "principal" else _entry(kind, name)

    def wants_approval(self, kind: str, name: str, arguments: JsonObject | None) -> bool:
        """Whether a call with these arguments is to be approved first; None: whether some call is."""
        if kind not in KINDS:
            return False
        if arguments is not None:
            return self.verdict(kind, name, Circumstances(arguments)).effect == "require_approval"
        plan = self.plan(kind, name)
        return any(one.rule.effect == "require_approval" for one in plan.asked) or (
            plan.verdict.effect == "require_approval"
        )

    def approved(self, kind: str, name: str, arguments: JsonObject) -> Judge:
        """The same rules, with this call approved."""
        return replace(self, given=(kind, name, arguments))

    @property
    def digest(self) -> str:
        """Of all rules."""
        return self.policy.digest

    def check(self, kind: str, name: str, call: Circumstances, *, approved: bool = False) -> None:
        """Let a call pass; `approved`: somebody has approved it.

        Raises:
            PolicyRefused: a rule refuses it.
            ApprovalRequired: a rule has it approved first.
        """
        effect, rule, fault = self.verdict(kind, name, call)
        if effect == "allow" or rule is None:
            return
        if effect == "deny":
            raise PolicyRefused(rule.name, fault or rule.reason)
        if not approved and self.given != (kind, name, call.arguments):
            raise ApprovalRequired(rule.name, rule.reason)


def _planned(asked: Sequence[_Compiled], verdict: Verdict) -> Plan:
    names = frozenset[str]().union(*(one.names | (one.arguments or set()) for one in asked))
    absent = [one.absent for one in asked if one.absent is not None]
    if len(absent) < len(asked):
        return Plan(tuple(asked), verdict, names)
    otherwise = next((one.verdict for one in absent if one.verdict is not None), verdict)
    return Plan(tuple(asked), verdict, names, judged.spellings(names), otherwise)


def _is_too_large(arguments: JsonObject) -> bool:
    return len(msgspec.json.encode(arguments)) > MAX_ARGUMENT_BYTES


def _decide(one: _Compiled, variables: Mapping[str, Any]) -> Verdict | None:
    """What a rule says; None: its condition does not hold. One that cannot be decided counts against the call."""
    if one.condition is None:
        return Verdict(one.rule.effect, one.rule)
    if one.absent is not None and one.arguments is not None and one.arguments.isdisjoint(variables["arguments"]):
        return one.absent.verdict
    return _executed(one, {name: _shown(one, name, variables[name]) for name in one.variables})


def _value(condition: Any, shown: Mapping[str, object]) -> object:
    """What a condition says; None: it cannot be decided."""
    try:
        return condition.execute(shown)
    except (KeyError, RuntimeError, TypeError, ValueError, ArithmeticError, IndexError):
        return None


def _executed(one: _Compiled, shown: Mapping[str, object]) -> Verdict | None:
    holds = _value(one.condition, shown)
    if holds is True:
        return Verdict(one.rule.effect, one.rule)
    if holds is False or one.rule.effect == "allow":
        return None
    return Verdict(one.rule.effect, one.rule, "its condition cannot be decided for this call")


def _shown(one: _Compiled, variable: str, value: Any) -> object:
    if variable != "arguments" or one.arguments is None:
        return value
    return {name: value[name] for name in one.arguments if name in value}


def _entry(kind: str, name: str) -> dict[str, str]:
    server = name.partition(SEPARATOR)[0] if kind in OF_SERVERS else ""
    return {"kind": kind, "name": name, "server": server}


def _compile(rule: Rule) -> _Compiled:
    if (rule.effect == "redact") != bool(rule.redact or rule.fields):
        raise RuleInvalid("redact and fields are of rules whose effect is redact, which need one of them")
    grants = Grants(tuple(_about(text) for text in rule.entries)) if rule.entries else None
    if rule.when is None:
        return _Compiled(rule, grants, None, frozenset(), frozenset())
    if len(rule.when) > MAX_CONDITION_CHARS:
        raise RuleInvalid(f"when has more than {MAX_CONDITION_CHARS} characters")
    import cel  # noqa: PLC0415  # most hubs have no conditions, and it takes 6 MB

    try:
        condition = cel.compile(rule.when)
    except ValueError as error:
        raise RuleInvalid(f"when is not CEL: {' '.join(str(error).split())[:200]}") from None
    own = _MACRO.findall(rule.when)
    if len(own) > 1:
        raise RuleInvalid("when goes through a list more than once, which a long one would make slow")
    variables = _variables(condition, own)
    members = frozenset(_MEMBER.findall(rule.when)) if "principal" in variables else frozenset()
    if members - set(PRINCIPAL_MEMBERS):
        raise RuleInvalid(f"when may look at principal.{', principal.'.join(PRINCIPAL_MEMBERS)}")
    if "tree" in variables and not set(_OF_TREE.findall(_TEXT.sub("", rule.when))) <= set(Tree.__struct_fields__):
        raise RuleInvalid(f"when may look at tree.{', tree.'.join(Tree.__struct_fields__)}")
    names = _names(rule.when) if "arguments" in variables else frozenset[str]()
    made = _Compiled(rule, grants, condition, variables, members, _arguments(rule.when), names=names)
    if made.arguments is None or variables != {"arguments"}:
        return made
    return replace(made, absent=_Absent(_executed(made, {"arguments": {}})))


def _variables(condition: Any, own: list[str]) -> frozenset[str]:
    """What a condition looks at, beside what it names itself; one that looks at nothing must say true or false."""
    variables = frozenset(condition.variables()) - set(own)
    if unknown := sorted(variables - VARIABLES):
        raise RuleInvalid(f"when has no {unknown[0]}: it may look at {', '.join(sorted(VARIABLES))}")
    if not variables and not isinstance(_value(condition, {}), bool):
        raise RuleInvalid("when must say true or false")
    return variables


def _names(when: str) -> frozenset[str]:
    """What a condition calls arguments and their members: behind a point, in brackets, before `in`."""
    texts = _TEXT.findall(when)
    selected = _SELECTED.findall(_KNOWN.sub("", _TEXT.sub(r"\3", when)))
    return frozenset([*selected, *(text for _, text, place in texts if place)])


def _arguments(when: str) -> frozenset[str] | None:
    """Which arguments a condition looks at; None: it may be any."""
    found = frozenset(_ARGUMENT.findall(when))
    return None if "" in found or "//" in when else found  # a comment may stand before a bracket


def _about(text: str) -> Grant:
    grant = Grant.parse(text)
    if grant.kind not in KINDS:
        raise RuleInvalid(f"entries {text!r}: rules are about {', '.join(sorted(KINDS))}")
    return grant


@dataclass(frozen=True, eq=False)
class Ruled(Grants):
    """Grants, without what the rules keep from their holder however it calls it."""

    judge: Judge
    base: Grants

    @classmethod
    def of(cls, base: Grants, judge: Judge) -> Ruled:
        """Put `base` under the rules."""
        return cls(base.grants, judge=judge, base=base)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ruled) and self.judge.plans is other.judge.plans and self.base == other.base

    def __hash__(self) -> int:
        return hash(self.base)

    def _decide(self, kind: str, name: str) -> bool:
        return self.base.allow(kind, name) and not self.judge.hides(kind, name)

    def granting(self, kind: str, name: str) -> tuple[str, ...]:
        """The grants that allow `name`, whatever the rules say then."""
        return self.base.granting(kind, name)

    def reach(self, kind: str, prefix: str) -> bool:
        """Whether some name that begins with `prefix` may be allowed, now or later."""
        return self.base.reach(kind, prefix)

    def cover(self, other: Grants) -> bool:
        """Whether a holder of these grants may hand out all of `other`: who gets it is under the rules too."""
        return self.base.cover(other)

    def named(self, within: Grant) -> Iterator[Grant]:
        """Those grants, as they are written, that allow nothing but what `within` does."""
        return self.base.named(within)


def facts_of(principal: Principal) -> Facts:
    """What conditions may know of a principal."""
    return Facts(principal.id, principal.name, principal.team, principal.user, principal.team_id, principal.user_id)


def under(policy: Policy, principal: Principal) -> Principal:
    """The principal under the rules."""
    if not policy.rules:
        return principal
    judge = policy.judge(facts_of(principal))
    return structs.replace(principal, policy=judge, grants=Ruled.of(principal.grants, judge))
