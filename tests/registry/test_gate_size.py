"""What the gate does about a call is the same however many keys, teams and grants there are: it walks none of them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Never

from registry.access import Grant, Grants
from registry.errors import NotFound
from registry.limits import Limit
from registry.rules.policy import Rule
from registry.sealed.secrets import digest
from tests.bench.gate import GUARDS, LIMITS, Hub, Variant, hub

RULES = (
    Rule("others", "deny", ("tool:other__*",)),
    Rule("owners", "deny", ("tool:*",), "has(arguments.owner) && arguments.owner != 'acme'"),
)
FEW = Variant("few", LIMITS, RULES, GUARDS, keys=10, teams=5, grants=50, has_budget=True)
MANY = FEW._replace(name="many", keys=10_000, teams=1000, grants=10_000)
ONE_TEAM = FEW._replace(name="one team with all grants", teams=1, grants=10_000)


class Tool(NamedTuple):
    """What the gate asks of one."""

    grant_name: str
    kind: str = "tool"
    limits: tuple[Limit, ...] = ()
    call_usd: float | None = 0.001


class Untouchable(tuple[Any, ...]):
    """Items that nobody looks at."""

    __slots__ = ()

    def _refuse(self, *_: object) -> Never:
        raise AssertionError("it walks all grants")

    __iter__ = __contains__ = __hash__ = __eq__ = __len__ = __getitem__ = _refuse  # type: ignore[assignment]


def instructions_of(work: Callable[[], object]) -> int:
    """How many of Python's instructions, in whatever functions, `work` executes."""
    counted = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal counted
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        counted += event == "opcode"
        return trace

    before = sys.gettrace()
    gc.disable()  # what others left behind is not this work's
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        gc.enable()
    return counted


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run what waits for nothing: neither for a database nor for anybody else."""
    with suppress(StopIteration):
        work.send(None)
        raise AssertionError("it waited")


async def call(one: Hub) -> None:
    """A call as the doors and the way out have it, by the last of its grants, and one of what is not granted."""
    last = Tool(f"server-{one.variant.grants // one.variant.teams - 1}__x")
    principal = one.keys.cached(digest(one.secret.encode()))
    assert principal is not None
    with one.gate.admit(principal, last) as permit:
        assert permit.passes(one.variant.arguments)
        await permit.reserve()
        permit.use()
        assert permit.clears(one.variant.answer)
        permit.charge(last.call_usd)
    with suppress(NotFound):
        one.gate.admit(principal, Tool("absent__x"))
        raise AssertionError("nobody may call that")


async def test_a_call_takes_as_many_instructions_with_few_as_with_many(tmp_path: Path) -> None:
    counted = {}
    async with AsyncExitStack() as stack:
        for number, variant in enumerate((FEW, MANY, ONE_TEAM)):
            one = await stack.enter_async_context(hub(tmp_path / str(number), variant))
            principal = await one.keys.find(digest(one.secret.encode()))
            assert principal is not None
            await call(one)  # it leases what limits have, and remembers what grants say
            grants = principal.grants.base.grants  # type: ignore[attr-defined]
            assert len(grants) == variant.grants // variant.teams
            counted[variant.name] = [instructions_of(lambda one=one: run(call(one))) for _ in range(3)][-1]
    assert len(set(counted.values())) == 1, counted
    assert min(counted.values()) > 1000  # it was counted


async def test_what_grants_say_of_an_entry_is_found_once() -> None:
    grants = Grants(tuple(Grant("tool", f"server-{number}__*") for number in range(10_000)))
    assert grants.allow("tool", "server-9999__x")
    assert not grants.allow("agent", "x")
    object.__setattr__(grants, "grants", Untouchable(grants.grants))
    object.__setattr__(grants, "_globs", {"tool": Untouchable(grants._globs["tool"])})
    assert grants.allow("tool", "server-9999__x")
    assert not grants.allow("agent", "x")
    assert hash(grants) == hash(grants)
