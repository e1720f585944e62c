"""How much one request that runs tools may do: the strictest of what it says itself, what its key says, and what the hub says. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from llm.types import Turn
from registry.errors import TooExpensive
from registry.identity import RequestLimits

CALLS = 1024
"""Tool calls of a request for which nobody says less."""


class Bounds:
    """One for a run of the loop."""

    def __init__(self, asked: RequestLimits, keys: RequestLimits, *, rounds: int, seconds: float) -> None:
        """`asked` by the request, `keys` of its key; `rounds` are those of a request that asks for no number, `seconds` the hub's."""
        wanted = RequestLimits(asked.max_rounds or rounds, asked.max_calls, asked.max_seconds, asked.max_usd).within(
            keys
        )
        self.rounds = wanted.max_rounds or rounds
        self.seconds = seconds if wanted.max_seconds is None else min(seconds, wanted.max_seconds)
        self.calls = CALLS if wanted.max_calls is None else wanted.max_calls
        self._usd = wanted.max_usd
        self._made = 0

    def take_call(self) -> str | None:
        """Count one call of a tool; the reason why it may not be made, for the model."""
        if self._made >= self.calls:
            return f"Not called: this request may make {self.calls} tool calls, and has. Answer with what you know."
        self._made += 1
        return None

    def check_cost(self, turns: Sequence[Turn], charged_usd: float) -> None:
        """Raise `TooExpensive` when another round may not be begun: `turns` and calls that cost `charged_usd` were too much."""
        if self._usd is None:
            return
        spent = charged_usd + sum(turn.reply.used.cost_usd or 0.0 for turn in turns)
        if spent >= self._usd:
            raise TooExpensive(spent, self._usd)
