"""Finished rounds as bytes and back, for what the hub keeps between requests. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec

from llm import pieces as forms
from llm.pieces import Piece
from llm.types import Held, Offer, Parked, Place, Reply, ToolCall, ToolOutcome, Turn, Used, Waiting
from registry.gate import Usage
from registry.identity import RequestLimits
from registry.judged import JsonObject
from registry.spending.tasks import Paused

_PIECES: Mapping[str, type[Piece]] = {
    form.__name__: form
    for form in (forms.Text, forms.Thought, forms.Refusal, forms.CallBegun, forms.CallArguments, forms.Opaque)
}


@dataclass(frozen=True, slots=True)
class KeptTool:
    """A tool that was called once, as much of it as is told of a call."""

    server: str
    name: str
    exposed: str
    description: str = ""
    input_schema: JsonObject = field(default_factory=dict)
    annotations: JsonObject = field(default_factory=dict)


def written(turns: Sequence[Turn]) -> bytes:
    """Turns as bytes."""
    return msgspec.msgpack.encode([_turn(turn) for turn in turns])


def read(data: bytes) -> list[Turn]:
    """The turns that `written` wrote."""
    return [_read_turn(value) for value in msgspec.msgpack.decode(data)]


def written_run(parked: Parked) -> bytes:
    """A waiting run as bytes."""
    waiting = [{**_members(one), "call": _members(one.call), "offer": _offer(one.offer)} for one in parked.held.waiting]
    return msgspec.msgpack.encode(
        {
            "run": parked.run,
            "about": parked.about,
            "turns": [_turn(turn) for turn in parked.turns],
            "reply": _reply(parked.reply),
            "outcomes": [_outcome(one) for one in parked.held.outcomes],
            "waiting": waiting,
            "expires_at": parked.expires_at,
            "used": parked.used,
            "place": parked.place,
            "is_fleeting": parked.is_fleeting,
        }
    )


def read_run(data: bytes) -> Parked:
    """The run that `written_run` wrote."""
    found = msgspec.msgpack.decode(data)
    limits, *used = found["used"]
    hops, above, conversations, session, task = found["place"]
    waiting = [
        Waiting(**{**one, "call": ToolCall(**one["call"]), "offer": _read_offer(one["offer"])})
        for one in found["waiting"]
    ]
    return Parked(
        run=found["run"],
        about=found["about"],
        turns=[_read_turn(turn) for turn in found["turns"]],
        reply=_read_reply(found["reply"]),
        held=Held([_read_outcome(one) for one in found["outcomes"]], waiting),
        expires_at=found["expires_at"],
        used=Used(RequestLimits(*limits), *used),
        place=Place(hops, above, conversations, session, None if task is None else Paused(*task)),
        is_fleeting=found["is_fleeting"],
    )


def _members(value: Any) -> JsonObject:
    return {one.name: getattr(value, one.name) for one in fields(value)}


def _turn(turn: Turn) -> JsonObject:
    return {"reply": _reply(turn.reply), "outcomes": [_outcome(one) for one in turn.outcomes]}


def _read_turn(value: JsonObject) -> Turn:
    return Turn(_read_reply(value["reply"]), [_read_outcome(one) for one in value["outcomes"]])


def _reply(reply: Reply) -> JsonObject:
    pieces = [[type(piece).__name__, _members(piece)] for piece in reply.pieces]
    return {**_members(reply), "pieces": pieces, "calls": [_members(call) for call in reply.calls]}


def _read_reply(value: JsonObject) -> Reply:
    pieces = [_PIECES[name](**members) for name, members in value["pieces"]]
    calls = [ToolCall(**call) for call in value["calls"]]
    return Reply(**{**value, "pieces": pieces, "calls": calls, "used": Usage(*value["used"])})


def _outcome(outcome: ToolOutcome) -> JsonObject:
    offer = None if outcome.offer is None else _offer(outcome.offer)
    return {**_members(outcome), "call": _members(outcome.call), "offer": offer}


def _read_outcome(value: JsonObject) -> ToolOutcome:
    offer = None if value["offer"] is None else _read_offer(value["offer"])
    return ToolOutcome(**{**value, "call": ToolCall(**value["call"]), "offer": offer})


def _offer(offer: Offer) -> JsonObject:
    tool = offer.tool
    kept = {"server": tool.server, "name": tool.name, "exposed": tool.exposed}
    return {**_members(offer), "tool": kept, "guest": None}


def _read_offer(value: JsonObject) -> Offer:
    return Offer(**{**value, "tool": KeptTool(**value["tool"])})
