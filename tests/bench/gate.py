"""What limits and budgets cost a call: the gate alone, without a network, with them and without, in turn.

`python -m tests.bench.gate` prints CPU microseconds for each call, with so many calls under way at a time. All callers of one process
share a commit, so the price of a call falls with the company it is in.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from registry.access import Grants
from registry.entries import Agent
from registry.gate import Gate
from registry.identity import Principal
from registry.limits import Bounds
from registry.spending.counters import Counters
from registry.store.db import open_database, open_engine
from registry.store.schema import migrate

CALLS = 2000
ROUNDS = 7
UNDER_WAY = (1, 16, 64)
UPSTREAM_S = 0.0005
AGENT = Agent(name="bench", url="http://bench.example", call_usd=0.001)
BOUNDS = {
    "no limits": Bounds(),
    "calls and tokens a day": Bounds(calls_per_day=10**12, tokens_per_day=10**12),
    "the same and a budget": Bounds(calls_per_day=10**12, tokens_per_day=10**12, usd=1_000_000, per="month"),
}


async def one_caller(gate: Gate, principal: Principal, calls: int) -> None:
    for _ in range(calls):
        with gate.admit(principal, AGENT) as permit:
            if permit.due:
                await permit.reserve()
            permit.use()
            await asyncio.sleep(UPSTREAM_S)
            permit.charge(AGENT.call_usd)


async def measured(gate: Gate, bounds: Bounds, under_way: int) -> float:
    grants = Grants.parse(["agent:*"])
    principal = Principal(id="key_1", name="bench", grants=grants, limits=bounds.of("key_1", "the key's"))
    each = CALLS // under_way
    began = time.process_time()
    await asyncio.gather(*(one_caller(gate, principal, each) for _ in range(under_way)))
    return (time.process_time() - began) / (each * under_way) * 1e6


async def main() -> None:
    with TemporaryDirectory() as directory:
        address = f"sqlite:///{Path(directory, 'hub.db')}"
        engine = open_engine(address)
        migrate(engine)
        engine.dispose()
        async with open_database(address) as database:
            counters = Counters(database, "bench")
            gate = Gate(lambda _settled: None, counters)
            writing = asyncio.create_task(counters.run())
            for under_way in UNDER_WAY:
                found: dict[str, list[float]] = {name: [] for name in BOUNDS}
                for _ in range(ROUNDS):
                    for name, bounds in BOUNDS.items():
                        found[name].append(await measured(gate, bounds, under_way))
                free = found["no limits"]
                for name, costs in found.items():
                    more = median(cost - base for cost, base in zip(costs, free, strict=True))
                    print(f"{under_way:3} under way  {name:24} {median(costs):6.1f} us a call, {more:+6.1f}")
            writing.cancel()
            await asyncio.wait([writing])


if __name__ == "__main__":
    asyncio.run(main())
