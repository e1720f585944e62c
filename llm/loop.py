"""The tool loop: ask the model, run the tools it asks for, ask again, until it answers. A pure generator.

It yields what is to be done and is sent the outcome; who drives it (llm/rounds.py) does the I/O. A conversation can thus
be tested as a play: `CallModel` is answered with a `Reply`, `CallTools` with `ToolOutcome`s.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from llm.types import Finished, Held, Parked, Reply, ToolCall, ToolOutcome, Turn
from registry.errors import TooManyRounds


@dataclass(frozen=True, slots=True)
class CallModel:
    """Ask the model; `turns` are the rounds before."""

    turns: Sequence[Turn]


@dataclass(frozen=True, slots=True)
class CallTools:
    """Execute these calls, all at the same time."""

    calls: Sequence[ToolCall]
    turns: Sequence[Turn]
    """The rounds before."""
    with_own: bool = False
    """The model asked for tools of the caller's at the same time."""


Step = CallModel | CallTools
Sent = Reply | Sequence[ToolOutcome] | Held | None


def conversation(
    is_own: Callable[[str], bool], *, max_rounds: int, parked: Parked | None = None
) -> Generator[Step, Sent, Finished]:
    """Run the loop. `is_own` says of a tool's name whether it is the caller's: a call of one ends the loop.

    When the model asks for both, the hub's calls are executed, reported, and only the caller's are in the answer.
    `CallTools` answered with `Held` ends the loop too: some of the calls wait. With `parked`, such a run goes on.

    Raises:
        TooManyRounds: the model still asked for tools after `max_rounds` rounds of them.
    """
    turns: list[Turn] = []
    told: frozenset[str] = frozenset()
    if parked is not None:
        came = yield CallTools([one.call for one in parked.held.waiting], parked.turns)
        assert not isinstance(came, Reply | Held), "what was decided waits no more"
        turns = [*parked.turns, Turn(parked.reply, _in_order(parked.reply, [*parked.held.outcomes, *(came or ())]))]
        told = frozenset(one.call.id for one in _outcomes(parked))
    before = len(turns)
    for number in range(before, max_rounds + 1):
        reply = yield CallModel(tuple(turns))
        assert isinstance(reply, Reply), "CallModel is answered with a Reply"
        own = [call for call in reply.calls if is_own(call.name)]
        hubs = [call for call in reply.calls if not is_own(call.name)]
        if hubs and number == max_rounds:
            raise TooManyRounds(max_rounds)
        outcomes: Sequence[ToolOutcome] = ()
        if hubs:
            sent = yield CallTools(hubs, tuple(turns), bool(own))
            assert not isinstance(sent, Reply), "CallTools is answered with outcomes"
            if isinstance(sent, Held):
                turns.append(Turn(reply, sent.outcomes))
                return Finished(turns, [], "stop", waiting=sent.waiting, before=before, told=told)
            outcomes = sent or ()
        turns.append(Turn(reply, outcomes))
        if own or not hubs:
            return Finished(turns, own, _finish_reason(reply, own), before=before, told=told)
    raise AssertionError("the last round returns or raises")


def _outcomes(parked: Parked) -> Sequence[ToolOutcome]:
    return [*(outcome for turn in parked.turns for outcome in turn.outcomes), *parked.held.outcomes]


def _in_order(reply: Reply, outcomes: Sequence[ToolOutcome]) -> Sequence[ToolOutcome]:
    """Outcomes in the order of the model's calls."""
    places = {call.id: place for place, call in enumerate(reply.calls)}
    return sorted(outcomes, key=lambda outcome: places[outcome.call.id])


def _finish_reason(reply: Reply, own: Sequence[ToolCall]) -> str:
    if own:
        return "tool_calls"
    return "stop" if reply.finish_reason == "tool_calls" else reply.finish_reason
