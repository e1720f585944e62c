"""One event of a stream as it is shown, and what it shows of its task. Pure."""

from __future__ import annotations

import msgspec

from agents import answers
from agents.answers import Sighting
from agents.speech import Speech
from agents.spoken import event_of, seen_in
from registry.entries import Agent
from registry.errors import UpstreamError, UpstreamInvalid
from registry.ledger.ownership import FINAL_STATES

INTERRUPTED = frozenset({"TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED"})
"""States that end a stream though the task is not finished (A2A 1.0 §3.1.2)."""


class Shown(msgspec.Struct, frozen=True, gc=False):
    """One event as it is shown. A Struct: made for every event."""

    seq: int
    """Its number in the task; 0: it belongs to no task."""
    speech: Speech
    """How `data` is written."""
    data: bytes
    seen: Sighting | None = None
    """What it shows, if that was just read."""


def is_over(state: str | None) -> bool:
    """Whether a stream ends with this state."""
    return state in FINAL_STATES or state in INTERRUPTED


def last_state(entry: Agent, batch: list[Shown]) -> str | None:
    """The last state that a batch of events shows; None: it shows none."""
    states = [(one.seen or look(entry, one.speech, one.data)).state for one in batch]
    return next((state for state in reversed(states) if state is not None), None)


def look_at_all(entry: Agent, speech: Speech, batch: list[bytes]) -> tuple[list[Sighting], UpstreamError | None]:
    """What the events of a batch show, up to the first that ends the stream, and what that is."""
    if speech.binding == "JSONRPC" and (found := answers.read_events(batch)) is not None:
        return found, None
    sightings: list[Sighting] = []
    try:
        for one in batch:
            sightings.append(look(entry, speech, one))  # noqa: PERF401 - what came before a failure counts
    except UpstreamError as failure:
        return sightings, failure
    return sightings, None


def look(entry: Agent, speech: Speech, data: bytes) -> Sighting:
    """What an event's data shows; raises what it is if it is an error."""
    seen = seen_in(entry, speech, "SubscribeToTask", data)
    if seen is None:
        event_of(entry, speech, data)  # raises the agent's own error
        raise UpstreamInvalid(entry.name, "its stream is not A2A")
    return seen
