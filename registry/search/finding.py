"""Many things that are searched by words, and by meaning where there is a model for it. Knows no tools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from registry.search.lexical import Lexicon
from registry.search.meaning import Asker, Key, Meanings, key_of, text_of

DEPTH = 50
"""How many of each ranking count where there are two."""

FLAT = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009): how little the first places count more than those behind them."""


class Findable(NamedTuple):
    """What is searched of a thing."""

    name: str
    about: str
    """What else it is called, and whose it is."""
    description: str
    rest: str

    @property
    def text(self) -> str:
        """What says what it means."""
        return text_of(self.name, self.description)


class Seeker(NamedTuple):
    """Who searches by meaning, too."""

    meanings: Meanings
    asker: Asker


class Index:
    """Made at the first search, in a thread, and only read then."""

    def __init__(self, things: Callable[[], Iterable[Findable]], *, learns: bool = False) -> None:
        """`learns`: what is not known yet of what they mean is learnt for further searches."""
        self._things = things
        self._learns = learns
        self._made: tuple[Lexicon, Sequence[Key]] | None = None
        self._making = asyncio.Lock()

    async def search(self, query: str, limit: int, seeker: Seeker | None = None) -> list[int]:
        """Return at most `limit` positions of things, best first; `limit` is at most `DEPTH`."""
        lexicon, keys = self._made or await self._ready(seeker)
        if seeker is None:
            return lexicon.search(query, limit)
        found = lexicon.search(query, DEPTH)
        near = await seeker.meanings.nearest(query, keys, limit=DEPTH, asker=seeker.asker)
        return fused(found, near)[:limit]

    async def _ready(self, seeker: Seeker | None) -> tuple[Lexicon, Sequence[Key]]:
        async with self._making:
            if self._made is not None:  # by another search, meanwhile
                return self._made
            self._made, texts = made = await asyncio.to_thread(self._make)
            if self._learns and seeker is not None:
                seeker.meanings.learn(texts)
        return made[0]

    def _make(self) -> tuple[tuple[Lexicon, Sequence[Key]], dict[Key, str]]:
        things = list(self._things())
        lexicon = Lexicon((f"{one.name} {one.about}", one.description, one.rest) for one in things)
        texts = [one.text for one in things]
        keys = [key_of(text) for text in texts]
        return (lexicon, keys), dict(zip(keys, texts, strict=True))


def fused(*rankings: Sequence[int]) -> list[int]:
    """One ranking of several: what several rank high is first."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for place, number in enumerate(ranking, 1):
            scores[number] = scores.get(number, 0.0) + 1 / (FLAT + place)
    return sorted(scores, key=lambda number: -scores[number])
