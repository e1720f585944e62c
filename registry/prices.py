"""What calls cost. Pure: numbers in USD, made once and multiplied for each call."""

from __future__ import annotations

from dataclasses import dataclass

from registry.access import matches
from registry.gate import Usage

_MILLION = 1_000_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs, in USD for a million tokens. None: as the tokens that those are among, input or output."""

    input: float = 0.0
    output: float = 0.0
    cached: float | None = None
    """Of input that the provider had in its cache."""
    cache_write: float | None = None
    """Of input that it took into its cache."""
    reasoning: float | None = None
    """Of output that the model thought and did not say."""
    audio_input: float | None = None
    audio_output: float | None = None
    call: float = 0.0
    """Of one call, in USD, beside its tokens."""
    above: tuple[tuple[int, Price], ...] = ()
    """What all tokens of a call cost whose input is larger than so many tokens; rising."""

    def cost(self, used: Usage) -> float | None:
        """What a call costs in USD; None: its tokens are not known."""
        given, made, _, cached, cache_written, reasoning, audio_input, audio_output, _ = used
        if given is None and made is None:
            return None
        given, made, rate = given or 0, made or 0, self
        for least, higher in self.above:
            if given > least:
                rate = higher
        usd = given * rate.input + made * rate.output
        if cached and rate.cached is not None:
            usd += cached * (rate.cached - rate.input)
        if cache_written and rate.cache_write is not None:
            usd += cache_written * (rate.cache_write - rate.input)
        if reasoning and rate.reasoning is not None:
            usd += reasoning * (rate.reasoning - rate.output)
        if audio_input and rate.audio_input is not None:
            usd += audio_input * (rate.audio_input - rate.input)
        if audio_output and rate.audio_output is not None:
            usd += audio_output * (rate.audio_output - rate.output)
        return max(usd, 0.0) / _MILLION + rate.call


def priced(price: Price | None, used: Usage) -> Usage:
    """The usage with what it cost; None: the price is not known, and neither is the cost."""
    return used if price is None else Usage._make((*used[:-1], price.cost(used)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPrice:
    """What the calls of an MCP server's tools cost, in USD."""

    call: float | None = None
    """Of a call of a tool that none of the globs matches."""
    tools: tuple[tuple[str, float], ...] = ()
    """By globs over the server's own tool names; the first that matches holds."""

    def of(self, tool: str) -> float | None:
        """What a call of this tool costs; None: that is not known."""
        for glob, usd in self.tools:
            if matches(glob, tool):
                return usd
        return self.call
