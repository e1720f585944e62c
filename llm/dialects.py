"""How the loop speaks to models: one dialect for each format of a provider. Pure: bytes and values, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from llm.pieces import Piece
from llm.types import CallIds, Format, Offer, Prompt, Reply, Turn
from registry.entries import Model
from registry.judged import JsonObject


class StreamFault(Exception):
    """The provider ended its answer with an error; `error` is its own error object, in OpenAI's or Anthropic's form."""

    def __init__(self, error: object) -> None:
        super().__init__()
        self.error = error


class AnswerInvalid(ValueError):
    """A provider's answer is not what its format says; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What is asked of a model in one round."""

    prompt: Prompt
    """In the dialect's format."""
    turns: Sequence[Turn]
    """The rounds before."""
    offers: Sequence[Offer]
    model: Model
    """Where it runs: its `model` is the upstream's name."""
    stream: bool
    asks_usage: bool = True
    """The provider understands `stream_options.include_usage`."""

    @property
    def is_first(self) -> bool:
        """A forced `tool_choice` holds in the first round only: kept, it would force a call for ever."""
        return not self.turns


class Fold(Protocol):
    """One round's streamed answer as it comes."""

    usage: JsonObject
    """What was said of it so far, as `Reply.usage`."""

    @property
    def ended(self) -> bool:
        """Whether it was said that the answer is complete."""

    def feed(self, data: bytes) -> Sequence[Piece]:
        """Take the data of one server-sent event.

        Raises:
            StreamFault: the provider reports an error.
            ValueError: it is not a JSON object.
        """

    def rest(self) -> Sequence[Piece]:
        """What can only be said when the round has ended."""

    def reply(self) -> Reply:
        """The whole answer."""


class Dialect(Protocol):
    """One format of providers."""

    format: Format

    def body(self, asked: Round) -> bytes:
        """The request of a round; raises `InvalidRequest` for what this format cannot say."""

    def fold(self, ids: CallIds) -> Fold:
        """Begin to read a streamed answer."""

    def read(self, data: bytes, ids: CallIds) -> Reply:
        """Read an answer that is not streamed.

        Raises:
            AnswerInvalid: it is not of this format.
            StreamFault: the provider reports an error in it.
            ParseFailed, ValueError: it is not a JSON object.
        """

    def shown(self, reply: Reply) -> Sequence[Piece]:
        """What a voice says of an answer that was not streamed."""


Translate = Callable[[Prompt], Prompt]


@dataclass(frozen=True, slots=True)
class Dialects:
    """All that there are, and how to get from one format to another."""

    by_format: Mapping[Format, Dialect]
    translations: Mapping[tuple[Format, Format], Translate]

    def prompt(self, prompt: Prompt, into: Format) -> Prompt:
        """The same prompt in another format; raises `InvalidRequest` for what cannot be said there."""
        return prompt if prompt.format == into else self.translations[prompt.format, into](prompt)
