"""The recording gate: the real one, whose permits are watched (issue: one gate).

Every upstream request must happen under a permit that is open, and every permit must be settled exactly once, also on
cancel, cut and exception; one that is passed on to what stands in, once for each. The way out refuses requests without an open permit; this gate finds the permits left open.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from registry.gate import Gate, Outcome, Permit, Settled


class Unlimited:
    """What the way out asks of a permit, as of one without limits."""

    due = False

    async def reserve(self) -> None:
        raise AssertionError("nothing is due")

    def missed(self) -> None:
        """Nobody counts."""


class RecordingGate(Gate):
    """Remembers all permits of one hub."""

    def __init__(self, record: Any, counters: Any = None) -> None:
        super().__init__(record, counters)
        self.permits: list[Permit] = []
        self.settled: list[Settled] = []
        self.outcomes: dict[int, list[Outcome]] = {}
        self.passed_on: Counter[int] = Counter()

    def admit(self, *args: Any, **kwargs: Any) -> Permit:
        permit = super().admit(*args, **kwargs)
        self.permits.append(permit)
        return permit

    def pass_on(self, permit: Permit, *args: Any) -> None:
        self.passed_on[id(permit)] += 1
        super().pass_on(permit, *args)

    def record(self, permit: Permit, outcome: Outcome, duration_ms: float) -> None:
        self.outcomes.setdefault(id(permit), []).append(outcome)
        super().record(permit, outcome, duration_ms)

    def check(self) -> None:
        """Fail unless every permit was settled exactly once."""
        wrong = {
            f"{permit.kind}:{permit.entry_name}": self.outcomes.get(id(permit), [])
            for permit in self.permits
            if len(self.outcomes.get(id(permit), [])) != 1 + self.passed_on[id(permit)]
        }
        assert not wrong, f"permits not settled exactly once: {wrong}"
