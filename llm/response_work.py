"""A request of OpenAI's Responses API with all that answering it takes. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from llm.types import Ask, Listing
from llm.wire import responses
from llm.wire.response_events import Composer
from llm.wire.responses import ResponsesRequest
from registry.entries import Model
from registry.judged import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One request."""

    request: ResponsesRequest
    body: bytes
    """The same as it came."""
    id: str
    before: Sequence[JsonObject]
    """The items that the new ones continue."""
    items: Sequence[JsonObject]
    """The new ones, with ids."""
    first: str | None
    """The response from which all of its chain go on, perhaps itself; None: nobody can go on from it."""
    model: Model
    ask: Ask | None
    """None: it is passed through."""
    listings: Sequence[Listing] = ()
    listed: frozenset[str] = frozenset()
    """The labels whose tools its caller was told of before."""

    def composer(self) -> Composer:
        """Begin the response."""
        token = self.id.partition("_")[2]
        return Composer(self.head(), token=token, is_streamed=self.request.stream)

    def head(self) -> JsonObject:
        """The members of the response that are known when it begins."""
        return responses.head(self.request, self.id, created_at=int(time.time()))
