"""What the answer to a request says of limits and budgets that are nearly used up. Pure.

Each door says it in its own way: HTTP in a header, gRPC in metadata behind the answer, models also in the body's `hub` member.
"""

from __future__ import annotations

from collections.abc import Callable

HEADER = "hubbub-limit-warning"


class Warnings:
    """Of one request; enter it for the length of its answer."""

    __slots__ = ("_request_id", "_say", "_told", "texts")

    def __init__(self, told: Told, request_id: str, say: Callable[[str], None] | None) -> None:
        """`say` hears each text as soon as there is one; None: who answers looks at `texts` in the end."""
        self._told = told
        self._request_id = request_id
        self._say = say
        self.texts: list[str] = []

    def __enter__(self) -> None:
        self._told[self._request_id] = self

    def __exit__(self, *_exception: object) -> None:
        if self._told.get(self._request_id) is self:  # else what goes on without its client has taken over
            del self._told[self._request_id]

    def add(self, text: str) -> None:
        """Something is nearly used up."""
        if text not in self.texts:
            self.texts.append(text)
            if self._say is not None:
                self._say(text)


Told = dict[str, Warnings]
"""By the ids of requests that are under way."""
