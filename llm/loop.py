"""The tool loop: ask the model, run the tools it asks for, ask again, until it answers. A pure generator.

It yields what is to be done and is sent the outcome; who drives it (llm/rounds.py) does the I/O. A conversation can thus
be tested as a play: `CallModel` is answered with a `Reply`, `CallTools` with `ToolOutcome`s.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from llm.types import Finished, Reply, ToolCall, ToolOutcome, Turn
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


Step = CallModel | CallTools
Sent = Reply | Sequence[ToolOutcome] | None


def conversation(is_own: Callable[[str], bool], *, max_rounds: int) -> Generator[Step, Sent, Finished]:
    """Run the loop. `is_own` says of a tool's name whether it is the caller's: a call of one ends the loop.

    When the model asks for both, the hub's calls are executed, reported, and only the caller's are in the answer.

    Raises:
        TooManyRounds: the model still asked for tools after `max_rounds` rounds of them.
    """
    turns: list[Turn] = []
    for number in range(max_rounds + 1):
        reply = yield CallModel(tuple(turns))
        assert isinstance(reply, Reply), "CallModel is answered with a Reply"
        own = [call for call in reply.calls if is_own(call.name)]
        hubs = [call for call in reply.calls if not is_own(call.name)]
        if hubs and number == max_rounds:
            raise TooManyRounds(max_rounds)
        outcomes: Sequence[ToolOutcome] = ()
        if hubs:
            sent = yield CallTools(hubs, tuple(turns))
            assert not isinstance(sent, Reply), "CallTools is answered with outcomes"
            outcomes = sent or ()
        turns.append(Turn(reply, outcomes))
        if own or not hubs:
            return Finished(turns, own, _finish_reason(reply, own))
    raise AssertionError("the last round returns or raises")


def _finish_reason(reply: Reply, own: Sequence[ToolCall]) -> str:
    if own:
        return "tool_calls"
    return "stop" if reply.finish_reason == "tool_calls" else reply.finish_reason
