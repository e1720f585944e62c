"""The tool loop: ask the model, run the tools it asks for, ask again, until it answers. A pure generator.

It yields what is to be done and is sent the outcome; who drives it (llm/run.py) does the I/O. A conversation can thus be
tested as a play: `CallModel` is answered with a `Reply`, `CallTools` with `ToolOutcome`s.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from llm.stream import name_of
from llm.types import Reply, ToolCall, ToolOutcome
from llm.wire.chat import add_usage
from registry.errors import TooManyRounds
from registry.judged import JsonObject


@dataclass(frozen=True, slots=True)
class CallModel:
    """Ask the model; `messages` follow those of the caller."""

    messages: Sequence[JsonObject]
    first: bool


@dataclass(frozen=True, slots=True)
class CallTools:
    """Execute these calls, all at the same time."""

    calls: Sequence[ToolCall]


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer to the caller."""

    message: JsonObject
    finish_reason: str
    usage: JsonObject
    """Summed over all rounds."""
    outcomes: Sequence[ToolOutcome]
    """Everything that the hub executed, in order."""


Step = CallModel | CallTools
Sent = Reply | Sequence[ToolOutcome] | None


@dataclass(slots=True)
class _State:
    messages: list[JsonObject] = field(default_factory=list)
    usage: JsonObject = field(default_factory=dict)
    outcomes: list[ToolOutcome] = field(default_factory=list)


def conversation(own_tools: frozenset[str], *, max_rounds: int) -> Generator[Step, Sent, Finished]:
    """Run the loop. `own_tools` are the caller's: a call of one ends the loop and is the caller's to execute.

    When the model asks for both, the hub's calls are executed, reported, and only the caller's are in the answer.

    Raises:
        TooManyRounds: the model still asked for tools after `max_rounds` rounds of them.
    """
    state = _State()
    for number in range(max_rounds + 1):
        reply = yield CallModel(tuple(state.messages), first=number == 0)
        assert isinstance(reply, Reply), "CallModel is answered with a Reply"
        state.usage = add_usage(state.usage, reply.usage)
        asked = _identified(reply.message.get("tool_calls") or ())
        own = [call for call in asked if name_of(call) in own_tools]
        hubs = [call for call in asked if name_of(call) not in own_tools]
        if hubs and number == max_rounds:
            raise TooManyRounds(max_rounds)
        outcomes: Sequence[ToolOutcome] = ()
        if hubs:
            sent = yield CallTools([_tool_call(call) for call in hubs])
            assert not isinstance(sent, Reply), "CallTools is answered with outcomes"
            outcomes = sent or ()
            state.outcomes += outcomes
        if own or not hubs:
            return _finished(reply, own, state)
        state.messages += [{**reply.message, "tool_calls": asked}, *map(_told, outcomes)]
    raise AssertionError("the last round returns or raises")


def _finished(reply: Reply, own: list[JsonObject], state: _State) -> Finished:
    message = {name: value for name, value in reply.message.items() if name != "tool_calls"}
    if own:
        message["tool_calls"] = own
    reason = "tool_calls" if own else reply.finish_reason
    return Finished(message, "stop" if reason == "tool_calls" and not own else reason, state.usage, state.outcomes)


def _identified(calls: Sequence[JsonObject]) -> list[JsonObject]:
    """Give each call an id of its own: some providers send none, or the same for all."""
    seen: set[str] = set()
    identified: list[JsonObject] = []
    for call in calls:
        given = call.get("id")
        name = given if isinstance(given, str) and given and given not in seen else f"call_{uuid.uuid4().hex}"
        seen.add(name)
        identified.append({**call, "id": name})
    return identified


def _tool_call(call: JsonObject) -> ToolCall:
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    return ToolCall(id=call["id"], name=name_of(call), arguments=arguments if isinstance(arguments, str) else "")


def _told(outcome: ToolOutcome) -> JsonObject:
    return {"role": "tool", "tool_call_id": outcome.call.id, "content": outcome.text}
