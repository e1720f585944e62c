"""What the gate costs a call by itself, without a network: `python -m tests.bench --only gate`.

A call is found by its key, admitted, judged by rules and guards, reserved, settled and recorded, as the doors have it done; in the place of
its upstream it lets the others go on. It waits for no time, since what the event loop does then differs more from one time to the next than a
call costs. What the same costs without a gate is subtracted. Variants take turns, round after round; each is the one before with one part more,
so that parts are differences.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from registry.callers.keys import Keys
from registry.entries import Agent
from registry.gate import Gate
from registry.judged import decode, encode
from registry.limits import Bounds
from registry.rules.guard_kinds import PiiShape, SecretsShape
from registry.rules.guards import Guard, Guards, GuardSpec
from registry.rules.policy import Policy, Rule, under
from registry.sealed.secrets import digest
from registry.spending.counters import Counters
from registry.spending.usage import UsageLog
from registry.store.db import open_database, open_engine
from registry.store.schema import migrate
from tests.bench.loading import spread
from tests.bench.upstream import TOOL_RESULT

CALLS = {1: 1600, 16: 1600, 64: 1600}
"""Of a round, by how many are under way."""
BUDGET_US, BUDGET_AT = 40, 16
"""Of CPU for a call, with as many under way as there are connections in the comparison."""

KEYS, TEAMS, GRANTS = 100_000, 1000, 10_000
"""Of the larger of two hubs; the other has what it needs."""

AGENT = Agent(name="bench", url="http://bench.example", call_usd=0.001)
ARGUMENTS = {"argument_0": "7", "argument_1": "today"}
TEXT = "Which of the records have to be ordered again this week, and from whom? " * 57
"""4 KiB."""

LIMITS = Bounds(calls_per_day=10**12, tokens_per_day=10**12, concurrent_calls=10**6, usd=1_000_000, per="month")
RULES = (
    Rule("others", "deny", ("agent:other",)),
    Rule("owners", "deny", ("agent:*",), "has(arguments.owner) && arguments.owner != 'acme'"),
)
GUARDS = (
    Guard.of(GuardSpec("secrets", "redact"), SecretsShape().build()),
    Guard.of(GuardSpec("pii", "redact"), PiiShape().build()),
)


class Variant(NamedTuple):
    """What is on."""

    name: str
    bounds: Bounds = Bounds()
    rules: tuple[Rule, ...] = ()
    guards: tuple[Guard, ...] = ()
    keys: int = 1
    teams: int = 1
    grants: int = 1
    has_budget: bool = False
    arguments: bytes = encode(ARGUMENTS)
    answer: bytes = encode(TOOL_RESULT)


VARIANTS = (
    Variant("key, grant, usage record"),
    Variant("and four limits, one of them a budget", LIMITS),
    Variant("and two rules, one of them in CEL", LIMITS, RULES),
    Variant("everything: and guards for secrets and personal data", LIMITS, RULES, GUARDS, has_budget=True),
    Variant(
        f"the same of {KEYS:,} keys, {TEAMS:,} teams, {GRANTS:,} grants",
        *(LIMITS, RULES, GUARDS, KEYS, TEAMS, GRANTS),
        has_budget=True,
    ),
    Variant(
        "everything, over 4 KiB of text that is sent and as much that is answered",
        *(LIMITS, RULES, GUARDS),
        arguments=encode({"text": TEXT}),
        answer=encode(TOOL_RESULT | {"content": [{"type": "text", "text": TEXT}]}),
    ),
)


class Hub(NamedTuple):
    """The parts of one hub that decide about calls."""

    keys: Keys
    gate: Gate
    usage: UsageLog
    secret: str
    variant: Variant

    async def call(self) -> None:
        """One call, as the doors and the way out have it."""
        hashed = digest(self.secret.encode())
        principal = self.keys.cached(hashed) or await self.keys.find(hashed)
        assert principal is not None
        with self.gate.admit(principal, AGENT) as permit:
            if permit.unjudged and not permit.passes(self.variant.arguments):
                await permit.judge(decode(self.variant.arguments), rewrites=True, screening=True)
            if permit.due:
                await permit.reserve()
            permit.use()
            await asyncio.sleep(0)
            if permit.screens and not permit.clears(self.variant.answer):
                await permit.screened(decode(self.variant.answer))
            permit.charge(AGENT.call_usd)


@asynccontextmanager
async def hub(directory: Path, variant: Variant) -> AsyncIterator[Hub]:
    """A hub with a database of its own."""
    directory.mkdir()
    address = f"sqlite:///{directory / 'hub.db'}"
    engine = open_engine(address)
    migrate(engine)
    with engine.begin() as connection:
        each = variant.grants // variant.teams
        allow = msgspec.json.encode(["agent:bench", *(f"tool:server-{n}__*" for n in range(1, each))]).decode()
        connection.exec_driver_sql(
            "INSERT INTO teams (id, alias, allow, created_at) VALUES (?, ?, ?, 0)",
            [(f"team_{n}", f"team-{n}", allow) for n in range(variant.teams)],
        )
        bounds = variant.bounds.written()
        keys = [
            (digest(f"sk-{n}".encode()), f"key_{n}", f"key-{n}", f"team_{n % variant.teams}", bounds)
            for n in range(variant.keys)
        ]
        connection.exec_driver_sql(
            "INSERT INTO api_keys (digest, id, name, grants, team_id, bounds, created_at, owner) VALUES (?, ?, ?, 'null', ?, ?, 0, 'api')",
            sorted(keys),  # as the index has them, which takes half the time
        )
    engine.dispose()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(address))
        # nobody changes keys here, so that what is cached is fresh
        known, usage, counters = Keys(database, clock=lambda: 0), UsageLog(database), Counters(database, "bench")
        policy = Policy(variant.rules)
        known.under = lambda principal: under(policy, principal)
        gate = Gate(usage.record, counters)
        gate.guards = Guards(variant.guards) if variant.guards else None
        some = range(0, variant.keys, KEYS // TEAMS + 1)  # one of each team is cached
        await asyncio.gather(*(known.find(digest(f"sk-{number}".encode())) for number in some))
        writing = [asyncio.create_task(part.run()) for part in (usage, counters)]
        try:
            yield Hub(known, gate, usage, f"sk-{variant.keys // 2}", variant)
        finally:
            for task in writing:
                task.cancel()
            await asyncio.wait(writing)


async def _cpu_us(one: Hub | None, under_way: int) -> float:
    """CPU of a call; without a hub that of what stands for its upstream."""
    each = CALLS[under_way] // under_way

    async def caller() -> None:
        for _ in range(each):
            if one is None:
                await asyncio.sleep(0)
            else:
                await one.call()

    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(under_way)))
    if one is not None:  # what calls left to be written is theirs, and not of who is measured then
        await one.usage.flush()
    return (time.process_time() - began) / (each * under_way) * 1e6


async def _measure(directory: Path, rounds: int) -> dict[str, Any]:
    taken: dict[str, dict[int, list[float]]] = {one.name: {count: [] for count in CALLS} for one in VARIANTS}
    async with AsyncExitStack() as stack:
        hubs = [
            await stack.enter_async_context(hub(directory / f"gate-{number}", variant))
            for number, variant in enumerate(VARIANTS)
        ]
        for number in range(rounds + 1):
            for under_way in CALLS:
                free = await _cpu_us(None, under_way)
                for variant, one in zip(VARIANTS, hubs, strict=True):
                    found = await _cpu_us(one, under_way) - free
                    if number:  # the first round warms up
                        taken[variant.name][under_way].append(found)
    return {
        "budget_us": BUDGET_US,
        "budget_at": BUDGET_AT,
        "variants": {
            one.name: {
                "has_budget": one.has_budget,
                "cpu_us": {str(count): spread(found) for count, found in taken[one.name].items()},
            }
            for one in VARIANTS
        },
    }


def measure(directory: Path, rounds: int) -> dict[str, Any]:
    """The CPU that the gate takes for a call, by what is on and how many are under way."""
    return asyncio.run(_measure(directory, rounds))
