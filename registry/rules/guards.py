"""Guards: checks on what calls say and on what is answered, a pipeline of small ones with names.

The rules of the policy decide first (registry/rules/policy.py). Then each guard that is about the call looks at the JSON that is
sent, and later at the JSON that came back, as the guards before it left it. What was looked at is what goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from registry.access import Grants
from registry.bench import BENCH
from registry.errors import ApprovalRequired, GuardRefused, HubError, UpstreamInvalid
from registry.identity import Circumstances, Principal
from registry.judged import JsonObject, check_size, plain
from registry.rules.first_look import FirstLook, Sizes, look_for
from registry.rules.policy import Policy, Rule, facts_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

Action = Literal["redact", "block", "require_approval"]
Side = Literal["arguments", "results"]

MEMO_SIZE = 4096
"""Entries whose guards are remembered."""

LARGE = 256 * 1024
"""Bytes from which on a check is better made in a thread."""

PATIENCE_S = 10.0
"""How long guards of others may take."""

_any_json = msgspec.json.Decoder(msgspec.Raw)

LEAST_NUMBER = 10**7
"""Smaller numbers are no card, phone number or other thing that guards look for."""


class Finding(NamedTuple):
    """What a guard found."""

    what: str
    """What it is, such as `email`: told to callers and in the audit log, so it holds nothing of what was found."""
    redacted: Any = msgspec.UNSET
    """The value with what was found replaced; unset: that cannot be done."""

    @property
    def can_redact(self) -> bool:
        """Whether there is such a value."""
        return self.redacted is not msgspec.UNSET


class Check(Protocol):
    """What looks for something. Any thread may call it, and it keeps nothing of what it saw."""

    def check(self, value: Any, mark: str) -> Finding | None:
        """Look at a JSON value, which must not be changed; `mark` stands in the place of what is redacted."""


class Own:
    """The hub's own checks: they take time linear in what they look at and wait for nothing. Others are given `PATIENCE_S`."""

    hint: Any = None
    """A pattern that matches wherever there may be something, in what `lines` makes of a value, and in JSON that `FirstLook` searches:
    the check is asked only where it does. None: it is always asked."""

    sizes: Sizes | None = None
    """Of a check that finds what is larger, and nothing else."""

    is_of_form: bool = False
    """What it finds depends on how JSON is laid out, so that a first look at what is translated before it is looked at says nothing."""


class GuardInvalid(ValueError):
    """A guard that cannot be used; the text says why."""


class GuardSpec(NamedTuple):
    """One guard as it is written."""

    name: str
    action: Action
    entries: tuple[str, ...] = ()
    """`kind:glob` as in grants; empty: everything."""
    of: tuple[Side, ...] = ("arguments", "results")
    when: str | None = None
    """A condition in CEL; None: always."""
    type: str = ""
    """As it is written; `rule`: it is one of the policy."""


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """One guard, ready to look."""

    spec: GuardSpec
    look: Check
    about: Grants | None
    """None: everything."""
    rule: Policy
    """Of one rule, which refuses what the guard is about."""

    @classmethod
    def of(cls, spec: GuardSpec, look: Check) -> Guard:
        """Put a guard together; raises `RuleInvalid` for its condition."""
        about = Grants.parse(spec.entries) if spec.entries else None
        return cls(spec, look, about, Policy([Rule(spec.name, "deny", spec.entries, spec.when)]))

    def applies(self, principal: Principal, kind: str, name: str, call: Circumstances) -> bool:
        """Whether its condition holds; one that cannot be decided does."""
        return (
            self.spec.when is None or self.rule.judge(facts_of(principal)).verdict(kind, name, call).effect != "allow"
        )


def foreign(guards: Sequence[Guard], side: Side) -> str | None:
    """The name of the first guard of a side that others made; None: there is none."""
    return next((one.spec.name for one in guards if side in one.spec.of and not isinstance(one.look, Own)), None)


class Pipeline:
    """Guards in their order, and what is known of them before there is a call."""

    __slots__ = ("first", "guards", "is_unconditional", "sides")

    def __init__(self, guards: Sequence[Guard]) -> None:
        self.guards = tuple(guards)
        self.is_unconditional = all(one.spec.when is None for one in guards)
        """All of them look at each call that they are about."""
        self.sides = frozenset(side for one in guards for side in one.spec.of)
        """What any of them is about."""
        self.first: dict[tuple[Side, bool], FirstLook | None] = {}
        """As `first_look`, where it was asked for."""

    def first_look(self, side: Side, *, is_as_seen: bool = True) -> FirstLook | None:
        """What may be found by those that look at a side; None: one of them has to look at everything."""
        looks = [one.look for one in self.guards if side in one.spec.of]
        own = [one for one in looks if isinstance(one, Own) and (is_as_seen or not one.is_of_form)]
        hints = tuple([one.hint.pattern for one in own if one.hint is not None])
        sizes = tuple([one.sizes for one in own if one.sizes is not None])
        found = look_for(hints, sizes) if len(hints) + len(sizes) == len(looks) else None
        self.first[side, is_as_seen] = found
        return found


NO_GUARDS = Pipeline(())


@lru_cache(maxsize=1024)
def pipeline(guards: tuple[Guard, ...]) -> Pipeline:
    """Some guards, those that look at a call, as a pipeline."""
    return Pipeline(guards)


class Guards:
    """All guards, in their order."""

    def __init__(self, guards: Sequence[Guard]) -> None:
        self.guards = tuple(guards)
        self._memo: dict[tuple[str, str], Pipeline | None] = {}

    def about(self, kind: str, name: str) -> Pipeline | None:
        """The guards of an entry; None: it has none."""
        try:
            return self._memo[kind, name]
        except KeyError:
            some = tuple([one for one in self.guards if one.about is None or one.about.allow(kind, name)])
            found = pipeline(some) if some else None
            if len(self._memo) < MEMO_SIZE:
                self._memo[kind, name] = found
            return found


def is_clear(guards: Pipeline, side: Side, data: bytes, *, is_as_seen: bool = True, is_json: bool = False) -> bool:
    """Whether guards surely find nothing in JSON as it is written, whoever reads it; False: they have to look at what it says.

    `is_as_seen`: it is laid out as what they would look at, and is not translated before. `is_json`: a reader of the hub has read all of it.
    """
    try:
        first = guards.first[side, is_as_seen]
    except KeyError:
        first = guards.first_look(side, is_as_seen=is_as_seen)
    return first is not None and len(data) <= LARGE and (is_json or _is_json(data)) and first.clears(data)


def _is_json(data: bytes) -> bool:
    try:
        _any_json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


class Seen(NamedTuple):
    """What guards made of a value."""

    value: Any
    found: tuple[tuple[str, str], ...]
    """Name of the guard and what it found, of those that redacted; empty: the value is what it was."""


async def look(guards: Pipeline, side: Side, value: Any, *, approved: bool = False) -> Seen:
    """Have guards look at what is sent, or at what came back; at much of it in a thread, as those of others always do.

    Raises:
        GuardRefused: one is against it, or has not looked at it in time.
        ApprovalRequired: one has a call approved that nobody has `approved`.
    """
    written = _written(value)
    first = guards.first_look(side) if len(written) <= LARGE else None
    if first is not None and written and first.clears(written):
        return Seen(value, ())
    some = guards.guards
    return await _done(some, side, len(written), partial(look_now, some, side, value, approved=approved))


async def tried(guard: Guard, side: Side, value: Any) -> Finding | None:
    """What one guard finds, whatever is done about it.

    Raises:
        GuardRefused: it could not look, or not in time.
    """
    return await _done([guard], side, len(_written(value)), partial(_asked, guard, side, _Looked(value)))


async def _done(guards: Sequence[Guard], side: Side, size: int, work: Callable[[], T]) -> T:
    """Have work of guards over so many bytes done where it keeps nobody waiting."""
    name = foreign(guards, side)
    if name is not None:
        try:
            return await BENCH.do(work, within_s=PATIENCE_S)
        except TimeoutError:
            raise GuardRefused(name, side, f"it has not looked at them within {PATIENCE_S:g} s") from None
    return await asyncio.to_thread(work) if guards and size > LARGE else work()


def _written(value: Any) -> bytes:
    """A value as JSON; empty: there is none of it."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return b""


def look_now(guards: Sequence[Guard], side: Side, value: Any, *, approved: bool) -> Seen:
    """As `look`, without a thread."""
    found = []
    seen = _Looked(value)
    for guard in guards:
        spec = guard.spec
        if side not in spec.of:
            continue
        finding = _asked(guard, side, seen)
        if finding is None:
            continue
        if spec.action == "redact" and finding.can_redact:
            seen = _Looked(finding.redacted)
            found.append((spec.name, finding.what))
        elif spec.action == "require_approval" and side == "arguments":
            if not approved:
                raise ApprovalRequired(spec.name, f"it found {finding.what}")
        else:
            raise GuardRefused(spec.name, side, f"it found {finding.what}")
    return Seen(seen.value, tuple(found))


class _Looked:
    """A value, and its texts for all guards that have a hint."""

    __slots__ = ("_lines", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._lines: bytes | None = None

    @property
    def lines(self) -> bytes:
        if self._lines is None:
            self._lines = lines(self.value).encode()
        return self._lines


def _asked(guard: Guard, side: Side, seen: _Looked) -> Finding | None:
    try:
        hint = guard.look.hint if isinstance(guard.look, Own) else None
        if hint is not None and hint.search(seen.lines) is None:
            return None
        return guard.look.check(seen.value, f"[redacted: {guard.spec.name}]")
    except HubError:
        raise
    except UnicodeEncodeError:
        raise GuardRefused(guard.spec.name, side, "there is a text in it that is not Unicode") from None
    except Exception as error:  # noqa: BLE001  # boundary: third parties' code; its words may hold what it looked at
        logger.error("a guard failed", extra={"guard": guard.spec.name, "error": type(error).__name__})  # noqa: TRY400
        raise GuardRefused(guard.spec.name, side, "it failed, and what is not looked at does not pass") from None


def read(data: bytes, entry: str) -> Any:
    """Decode what an upstream answered, all readers of which must see the same; raises `UpstreamInvalid`."""

    def pairs(members: list[tuple[str, Any]]) -> JsonObject:
        found = dict(members)
        if len(found) < len(members):
            raise UpstreamInvalid(entry, "a member stands twice in its answer, and guards have to look at it")
        return found

    try:
        check_size(data)
        found = plain(data)
        return json.loads(data, object_pairs_hook=pairs) if found is msgspec.UNSET else found
    except UpstreamInvalid:
        raise
    except (HubError, ValueError, RecursionError):
        raise UpstreamInvalid(entry, "its answer is not JSON that guards can look at") from None


NAME = ""
"""Stands for the member where a text is a name itself."""

Rewrite = Callable[[str, str | None], str]
"""What becomes of a text; with it, the name of the member that it is the value of."""


def rewritten(value: Any, rewrite: Rewrite, member: str | None = None) -> Any:
    """The value with each text, name of a member and large number as `rewrite` has them; itself where nothing changed."""
    if isinstance(value, str):
        return rewrite(value, member)
    if isinstance(value, dict):
        return _members(value, rewrite)
    if isinstance(value, list):
        items = [rewritten(item, rewrite, member) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= LEAST_NUMBER:
        text = repr(value)
        new = rewrite(text, member)
        return value if new == text else new
    return value


def lines(value: Any) -> str:
    """All texts of a value that `rewritten` asks about, each in a line, with the name of its member as in JSON: `name":"text"`.

    Nothing is escaped, so that patterns see the texts as they are. In the place of what is no text stand `[`, `{` and `0`.
    """
    found: list[str] = []
    left = [("", value)]
    while left:
        before, one = left.pop()
        kind = type(one)
        if kind is str:
            found.append(f'{before}"{one}"')
        elif kind is dict:
            found.append(before + "{")
            left += [(f'{name}":', item) for name, item in one.items()]
        elif kind is list:
            found.append(f"{before}[")
            left += [("", item) for item in one]
        elif (kind is int or kind is float) and abs(one) >= LEAST_NUMBER:
            found.append(f"{before}{one!r}")
        else:
            found.append(before + "0")
    return "\n".join(found)


def _members(value: JsonObject, rewrite: Rewrite) -> JsonObject:
    made: JsonObject = {}
    changed = False
    for name, item in value.items():
        written = rewrite(name, NAME)
        new = rewritten(item, rewrite, name)
        changed = changed or written != name or new is not item
        if written != name or written in made:
            written = _free(written, made, value)
        made[written] = new
    return made if changed else value


def _free(name: str, made: JsonObject, value: JsonObject) -> str:
    """A name that no member has: two that were redacted must not become one."""
    for number in range(2, len(value) + 3):
        if name not in made and name not in value:
            return name
        name = f"{name.removesuffix(f' {number - 1}')} {number}"
    return name
