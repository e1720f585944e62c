"""The `hub` member of a request, on every door: what its caller says to the hub itself. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from llm.verdicts import ANSWER, Answer, read_answer
from registry import judged
from registry.entries import Model
from registry.errors import InvalidRequest
from registry.identity import HUBS_LIMITS, RequestLimits
from registry.judged import JsonObject
from registry.limits import MOST

MAX_ROUNDS = 32
"""The most that a request may ask for."""

MAX_CALLS = 1024

_LIMITS = RequestLimits._fields
_TALK = ("context_id", "task_id")


class HubMember(NamedTuple):
    """What it says."""

    limits: RequestLimits = HUBS_LIMITS
    talk: JsonObject | None = None
    """For an agent as a model: in which context or task of its the conversation goes on."""
    answer: Answer | None = None
    """The request goes on with a run that waits for approvals."""


NOTHING_SAID = HubMember()


def read(raw: msgspec.Raw | None) -> HubMember:
    """Read it; raises `InvalidRequest`."""
    said = None if raw is None else judged.decode(raw)
    if said is None:
        return NOTHING_SAID
    if not isinstance(said, dict) or not said.keys() <= {*_LIMITS, *_TALK, *ANSWER}:
        raise InvalidRequest(f"hub may hold {', '.join((*_LIMITS, *_TALK, *ANSWER))}", member="hub")
    talk = {name: said[name] for name in _TALK if said.get(name) is not None}
    if not all(isinstance(value, str) for value in talk.values()):
        raise InvalidRequest("context_id and task_id of hub must be strings", member="hub")
    limits = RequestLimits(
        _whole(said, "max_rounds", MAX_ROUNDS),
        _whole(said, "max_calls", MAX_CALLS),
        _above_nothing(said, "max_seconds"),
        _above_nothing(said, "max_usd"),
        _whole(said, "max_total_tokens", MOST),
    )
    return HubMember(limits, talk or None, read_answer(said))


def check_talk(talk: JsonObject | None, model: Model) -> None:
    """Refuse a context of an agent's for a model that is none; raises `InvalidRequest`."""
    if talk is not None and model.kind != "agent":
        raise InvalidRequest("context_id and task_id of hub are for agents as models", member="hub")


def _whole(said: JsonObject, member: str, most: int) -> int | None:
    value = said.get(member)
    if value is not None and (type(value) is not int or not 1 <= value <= most):
        raise InvalidRequest(f"{member} of hub must be 1 to {most}", member="hub")
    return value


def _above_nothing(said: JsonObject, member: str) -> float | None:
    value = said.get(member)
    if value is not None and (type(value) not in (int, float) or not 0 < value < float("inf")):
        raise InvalidRequest(f"{member} of hub must be a number above 0", member="hub")
    return value
