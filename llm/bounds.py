"""How much one request that runs tools may do: the strictest of what it says itself, what its key says, and what the hub says. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from llm.types import Turn, Used
from registry.errors import TooExpensive, TooManyTokens
from registry.identity import RequestLimits

CALLS = 1024
"""Tool calls of a request for which nobody says less."""


class Bounds:
    """One for a run of the loop."""

    def __init__(
        self,
        asked: RequestLimits,
        keys: RequestLimits,
        *,
        rounds: int,
        seconds: float,
        before: Used | None = None,
    ) -> None:
        """`asked` by the request, `keys` of its key; `rounds` are those of a request that asks for no number, `seconds` the hub's.

        `before`: what a run that goes on may do in all, and did before it waited.
        """
        if before is not None:
            asked = before.limits.within(asked)
        wanted = asked._replace(max_rounds=asked.max_rounds or rounds).within(keys)
        self.rounds = wanted.max_rounds or rounds
        self.seconds = seconds if wanted.max_seconds is None else min(seconds, wanted.max_seconds)
        self.calls = CALLS if wanted.max_calls is None else wanted.max_calls
        self._usd = wanted.max_usd
        self._tokens = wanted.max_total_tokens
        self._before = before or Used()
        self._made = self._before.calls

    @property
    def seconds_left(self) -> float:
        """How long it may still take."""
        return self.seconds - self._before.seconds

    def used(self, seconds: float, charged_usd: float) -> Used:
        """What a run that is to wait may do in all, and has done; it went on for `seconds`, and its calls cost `charged_usd`."""
        limits = RequestLimits(self.rounds, self.calls, self.seconds, self._usd, self._tokens)
        before = self._before
        return Used(limits, self._made, before.seconds + seconds, before.charged_usd + charged_usd)

    def take_call(self) -> str | None:
        """Count one call of a tool; the reason why it may not be made, for the model."""
        if self._made >= self.calls:
            return f"Not called: this request may make {self.calls} tool calls, and has. Answer with what you know."
        self._made += 1
        return None

    def check_next(self, turns: Sequence[Turn], charged_usd: float) -> None:
        """Raise when another round may not be begun: `turns`, and calls that cost `charged_usd`, were too much.

        Raises:
            TooManyTokens, TooExpensive: which they are too much of.
        """
        if self._tokens is not None:
            used = sum(
                (one.input_tokens or 0) + (one.output_tokens or 0) for one in (turn.reply.used for turn in turns)
            )
            if used >= self._tokens:
                raise TooManyTokens(used, self._tokens)
        if self._usd is not None:
            spent = self._before.charged_usd + charged_usd + sum(turn.reply.used.cost_usd or 0.0 for turn in turns)
            if spent >= self._usd:
                raise TooExpensive(spent, self._usd)
