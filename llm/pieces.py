"""A model's answer as it comes, in no format: what folds make of a provider's stream and voices say to a caller. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from registry.judged import JsonObject


@dataclass(frozen=True, slots=True)
class Text:
    """Some of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """Some of the reasoning that a model shows."""

    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Some of the text in which a model says that it will not answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A call of a tool; its name is whole."""

    index: int
    """Its place among the calls of the round, from 0."""
    id: str
    """Unique among all rounds of the request."""
    name: str
    kind: str = "function"
    """`function`, or `custom` for a tool of the caller's that takes free text (OpenAI)."""
    extra: JsonObject = field(default_factory=dict)
    """Further members of the call that only its format knows."""


@dataclass(frozen=True, slots=True)
class CallArguments:
    """Some of a call's arguments: JSON text, or the free text of a `custom` call."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """Something that only one format knows: said by a voice of that format, and by no other."""

    format: str
    value: JsonObject
    """`chat`: members of a delta. `messages`: an event of the stream."""


Piece = Text | Thought | Refusal | CallBegun | CallArguments | Opaque

SAID = Text | Thought | Refusal | CallArguments
"""What a model is paid for by its length."""
