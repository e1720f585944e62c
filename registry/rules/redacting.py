"""Rules of the policy that redact: each becomes guards, which are asked before those of hub.yaml. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from registry.errors import ParseFailed
from registry.judged import decode, encode, fold
from registry.rules.guard_kinds import build
from registry.rules.guards import Check, Finding, Guard, Guards, GuardSpec, Own
from registry.rules.policy import Rule

WHOLE_KINDS = frozenset({"secrets", "pii"})
"""Of what rules redact: types of guards. All others are kinds of personal data."""


class Fields(Own):
    """Looks for members by their names, wherever they stand: `ssn`, or `customer.address` for one within another.

    In any spelling that an SDK may take for it. Lists are looked through, and texts that are JSON, as MCP servers and models write it.
    """

    is_of_form = True

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = {tuple(map(fold, path.split("."))): path for path in paths}
        self._most = max(map(len, self._paths))
        self.hint = _hint({path[-1] for path in self._paths})

    def check(self, value: Any, mark: str) -> Finding | None:
        """As `Check.check`."""
        found: set[str] = set()
        redacted = self._left(value, (), mark, found)
        return Finding(", ".join(sorted(found)), redacted) if found else None

    def _left(self, value: Any, above: tuple[str, ...], mark: str, found: set[str]) -> Any:
        """The value without them; itself where there is none."""
        if isinstance(value, str):
            return self._text(value, above, mark, found)
        if isinstance(value, list):
            items = [self._left(item, above, mark, found) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        if not isinstance(value, dict):
            return value
        made = {}
        for name, item in value.items():
            here = (*above, fold(name))[-self._most :]
            ends = [path for path in self._paths if here[-len(path) :] == path]
            found.update(f"member {self._paths[path]}" for path in ends)
            made[name] = mark if ends else self._left(item, here, mark, found)
        return made if any(made[name] is not item for name, item in value.items()) else value

    def _text(self, text: str, above: tuple[str, ...], mark: str, found: set[str]) -> str:
        if not text.lstrip().startswith(("{", "[")):
            return text
        try:
            said = decode(text.encode())
        except ParseFailed:
            return text
        left = self._left(said, above, mark, found)
        return text if left is said else encode(left).decode()


def _hint(names: Collection[str]) -> Any:
    """What matches wherever a member may be called so, in any spelling, as `Own.hint`; None: they are such that nothing does.

    Names of other scripts may fold to ours, and texts that are JSON may have escapes: where there are such, it matches.
    """
    if not all(name.isascii() and name.isalnum() for name in names):
        return None
    import re2  # type: ignore[import-untyped]  # noqa: PLC0415  # as in guard_kinds

    spelt = "|".join("[_-]*".join(name) for name in sorted(names))
    named = rf"(?i)(?:^|[^0-9A-Za-z_-])[_-]*(?:{spelt})[_-]*\"\s*:"
    return re2.compile(rf"(?:{named})|[^\x00-\x7f][^\"]*\"\s*:|\\")


def with_rules(guards: Guards | None, rules: Sequence[Rule]) -> Guards | None:
    """The guards of a hub with those that its rules are; None: there are none."""
    of_rules = [guard for rule in rules if rule.effect == "redact" for guard in _guards(rule)]
    return Guards([*of_rules, *(guards.guards if guards is not None else ())]) if of_rules else guards


def _guards(rule: Rule) -> Iterator[Guard]:
    spec = GuardSpec(rule.name, "redact", rule.entries, rule.of, rule.when, type="rule")
    for look in _looks(rule):
        yield Guard.of(spec, look)


def _looks(rule: Rule) -> Iterator[Check]:
    if rule.fields:
        yield Fields(rule.fields)
    for kind in sorted(WHOLE_KINDS & set(rule.redact)):
        yield build(kind, {})
    if kinds := [kind for kind in rule.redact if kind not in WHOLE_KINDS]:
        yield build("pii", {"kinds": kinds})
