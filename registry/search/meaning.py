"""What texts mean, as vectors that a model makes of them: which of many texts are near a query. Knows no tools and no providers.

Vectors are made in the background, a batch at a time, and kept in memory by their text. A query whose vector cannot be had
finds nothing here; whoever asks has words to search by.
"""

from __future__ import annotations

import asyncio
import logging
import math
from array import array
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from heapq import nlargest
from operator import mul
from typing import NamedTuple

from registry.errors import ApprovalRequired, HubError, LimitError, PolicyRefused
from registry.gate import Permit
from registry.identity import HUB, Principal

logger = logging.getLogger(__name__)

BATCH = 64
"""Texts of one request."""

MAX_CHARACTERS = 2000
"""Of a text that are looked at; models read some 8,000 tokens, some only 512."""

MAX_KEPT = 10_000
"""Texts whose vectors are kept: 60 MB, if they have 1,536 dimensions."""

COMPARED = 100
"""Texts whose vectors are multiplied with the query's, after the signs of all have been compared."""

QUERY_S = 5.0
"""How long a search waits for the vector of its query."""

BATCH_S = 60.0
RETRY_S = 60.0
"""How long one batch may take, and how long the model is left alone after it failed, unless the catalog changes."""

Key = bytes
"""What a text's vector is kept by."""


class Asker(NamedTuple):
    """Who wants vectors, and as whose use they count."""

    principal: Principal
    request_id: str = ""
    within: Permit | None = None
    """The permit of the request that this is part of."""


Embed = Callable[[Sequence[str], Asker], Awaitable[Sequence[Sequence[float]]]]
"""Makes a vector of each text, all of one length; raises `HubError`."""


@dataclass(frozen=True, slots=True)
class _Vector:
    """Of length 1."""

    numbers: array[float]
    signs: int
    """A bit for each number: near vectors differ in few."""


class Meanings:
    """The vectors of texts. One for a process."""

    def __init__(self, embed: Embed, texts: Callable[[], Iterable[str]]) -> None:
        """`texts` are those of the catalog as it is, read in a thread after each `refresh`."""
        self._embed = embed
        self._texts = texts
        self._kept: dict[Key, _Vector] = {}
        self._wanted: dict[Key, str] = {}
        self._is_stale = False
        self._news = asyncio.Event()
        self._fault: str | None = None

    def refresh(self) -> None:
        """Have the vectors of the catalog's new texts made."""
        self._is_stale = True
        self._news.set()

    def forget(self) -> None:
        """Drop all vectors, for the model became another; those under way, too."""
        self._kept, self._wanted = {}, {}
        self.refresh()

    def learn(self, texts: Mapping[Key, str]) -> None:
        """Have vectors made of these texts, too, as far as there is room."""
        room = MAX_KEPT - len(self._kept) - len(self._wanted)
        for key, text in texts.items():
            if room > 0 and key not in self._kept and key not in self._wanted:
                self._wanted[key] = text
                room -= 1
        if self._wanted:
            self._news.set()

    async def run(self) -> None:
        """Make what vectors are wanted until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._is_stale:
                self._is_stale = False
                await self._read_catalog()
            while self._wanted and not self._is_stale:
                if not await self._make():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(RETRY_S):
                            await self._news.wait()
                    self._news.set()
                    break

    async def nearest(self, query: str, keys: Sequence[Key], *, limit: int, asker: Asker) -> list[int]:
        """Positions of at most `limit` texts whose vectors are nearest the query's, nearest first; none, if it cannot be told."""
        kept = self._kept
        if not query.strip() or not any(key in kept for key in keys):
            return []
        try:
            async with asyncio.timeout(QUERY_S):
                (vector,) = await self._embed([query[:MAX_CHARACTERS]], asker)
        except TimeoutError:
            self._note(f"no vector of a query within {QUERY_S:.0f} s")
            return []
        except (LimitError, PolicyRefused, ApprovalRequired):  # says nothing of the model
            return []
        except HubError as error:
            self._note(error.text)
            return []
        self._note(None)
        return await asyncio.to_thread(_nearest, _vector(vector), [kept.get(key) for key in keys], limit)

    async def _read_catalog(self) -> None:
        texts = await asyncio.to_thread(lambda: {key_of(text): text for text in self._texts()})
        if len(self._kept) + len(self._wanted) > MAX_KEPT // 2:
            self._kept = {key: vector for key, vector in self._kept.items() if key in texts}
            self._wanted = {key: text for key, text in self._wanted.items() if key in texts}
        self.learn(texts)

    async def _make(self) -> bool:
        """Make the vectors of one batch; whether that went well. One that did not is the last to be tried again."""
        kept, wanted = self._kept, self._wanted
        batch = dict(list(wanted.items())[:BATCH])
        try:
            async with asyncio.timeout(BATCH_S):
                vectors = await self._embed(list(batch.values()), Asker(HUB))
        except (HubError, TimeoutError) as error:
            self._note(error.text if isinstance(error, HubError) else f"no vectors within {BATCH_S:.0f} s")
            for key in batch:
                if key in wanted:
                    wanted[key] = wanted.pop(key)
            return False
        self._note(None)
        made = await asyncio.to_thread(lambda: list(map(_vector, vectors)))
        for key, vector in zip(batch, made, strict=True):
            kept[key] = vector
            wanted.pop(key, None)
        if not wanted:
            logger.info("search knows what all tools mean", extra={"vectors": len(kept)})
        return True

    def _note(self, fault: str | None) -> None:
        """Say in the log when the model begins to fail, and when it no longer does."""
        if fault is not None and self._fault is None:
            logger.warning("the model of search fails: tools are searched by words alone", extra={"reason": fault})
        elif fault is None and self._fault is not None:
            logger.info("the model of search answers again")
        self._fault = fault


def text_of(name: str, description: str) -> str:
    """What a vector is made of for a thing."""
    return f"{name}: {description}"[:MAX_CHARACTERS].encode(errors="replace").decode()


def key_of(text: str) -> Key:
    """What the vector of a text is kept by."""
    return blake2b(text.encode(), digest_size=16).digest()


def _vector(numbers: Sequence[float]) -> _Vector:
    length = math.sqrt(sum(map(mul, numbers, numbers))) or 1.0
    signs = int("".join("1" if number > 0 else "0" for number in numbers), 2)
    return _Vector(array("f", (number / length for number in numbers)), signs)


def _nearest(query: _Vector, vectors: Sequence[_Vector | None], limit: int) -> list[int]:
    """Compare the signs of all and the numbers of the nearest: of 5,000 vectors, a twentieth of the work of comparing all numbers."""
    size, signs = len(query.numbers), query.signs
    known = [(number, one) for number, one in enumerate(vectors) if one is not None and len(one.numbers) == size]
    near = nlargest(COMPARED, known, key=lambda one: -(signs ^ one[1].signs).bit_count())
    scored = [(sum(map(mul, query.numbers, one.numbers)), -number) for number, one in near]
    return [-number for _, number in nlargest(limit, scored)]
