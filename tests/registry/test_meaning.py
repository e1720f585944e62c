"""Vectors of texts: made in the background, kept, compared, and fused with words; the maker here is a function of the test."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from registry.access import EVERYTHING
from registry.errors import UpstreamUnavailable
from registry.identity import HUB, Principal
from registry.search import meaning
from registry.search.finding import Findable, Index, Seeker, fused
from registry.search.meaning import BATCH, Asker, Meanings, key_of

ME = Asker(Principal(id="me", name="me", grants=EVERYTHING))
WORDS = ("red", "blue", "fruit", "stone")


class Maker:
    """One dimension for each word."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.is_down = False
        self.was_asked = asyncio.Event()

    async def __call__(self, texts: Sequence[str], asker: Asker) -> list[list[float]]:
        self.asked.append((asker.principal.id, len(texts)))
        self.was_asked.set()
        if self.is_down:
            raise UpstreamUnavailable("m", "it is down")
        return [[float(text.count(word)) for word in WORDS] for text in texts]


@asynccontextmanager
async def learning(maker: Maker, texts: list[str]) -> AsyncIterator[Meanings]:
    meanings = Meanings(maker, lambda: texts)
    async with asyncio.timeout(20):
        running = asyncio.create_task(meanings.run())
        meanings.refresh()
        yield meanings
        running.cancel()


async def known(meanings: Meanings, count: int) -> None:
    while len(meanings._kept) < count:
        await asyncio.sleep(0)


async def test_near_texts_are_found_best_first_and_what_is_unknown_is_not() -> None:
    texts = ["red fruit", "blue stone", "red red stone", "unknown"]
    keys = [key_of(text) for text in texts]
    async with learning(maker := Maker(), texts[:3]) as meanings:
        await known(meanings, 3)
        assert await meanings.nearest("red", keys, limit=2, asker=ME) == [2, 0]
        assert await meanings.nearest("stone", keys, limit=9, asker=ME) == [1, 2, 0]
        assert await meanings.nearest(" ", keys, limit=9, asker=ME) == []
    assert maker.asked == [(HUB.id, 3), ("me", 1), ("me", 1)]


async def test_texts_are_sent_in_batches_and_each_once() -> None:
    texts = [f"red {number}" for number in range(BATCH + 10)]
    async with learning(maker := Maker(), texts) as meanings:
        await known(meanings, len(texts))
        texts.append("blue")
        meanings.refresh()
        await known(meanings, len(texts))
        assert [count for _, count in maker.asked] == [BATCH, 10, 1]


async def test_no_more_vectors_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meaning, "MAX_KEPT", 4)
    texts = ["red", "blue", "fruit"]
    async with learning(maker := Maker(), texts) as meanings:
        await known(meanings, 3)
        meanings.learn({key_of(text): text for text in ("a", "b", "c")})
        await known(meanings, 4)
        texts[:] = ["red", "stone"]  # the catalog changed: what it no longer has makes room
        meanings.refresh()
        maker.was_asked.clear()
        await maker.was_asked.wait()
        await known(meanings, 2)
        assert set(meanings._kept) == {key_of("red"), key_of("stone")}


async def test_a_model_that_fails_is_asked_again_at_the_next_change(caplog: pytest.LogCaptureFixture) -> None:
    maker = Maker()
    maker.is_down = True
    async with learning(maker, ["red"]) as meanings:
        await maker.was_asked.wait()
        assert await meanings.nearest("red", [key_of("red")], limit=1, asker=ME) == []
        maker.is_down = False
        meanings.refresh()
        await known(meanings, 1)
        maker.is_down = True
        assert await meanings.nearest("red", [key_of("red")], limit=1, asker=ME) == []
        assert await meanings.nearest("red", [key_of("red")], limit=1, asker=ME) == []
    failed = [record for record in caplog.records if "words alone" in record.message]
    assert [record.reason for record in failed] == ["m: it is down"] * 2  # type: ignore[attr-defined]  # once each time


async def test_vectors_of_another_model_are_made_anew_and_never_compared_with_old_ones() -> None:
    async with learning(maker := Maker(), ["red"]) as meanings:
        await known(meanings, 1)
        meanings.forget()
        assert await meanings.nearest("red", [key_of("red")], limit=1, asker=ME) == []
        await known(meanings, 1)
        assert maker.asked == [(HUB.id, 1)] * 2


async def test_of_many_texts_the_nearest_is_found() -> None:
    chance = random.Random(7)
    vectors = [[chance.gauss(0, 1) for _ in range(64)] for _ in range(500)]
    texts = [f"text {number}" for number in range(500)]

    async def make(asked: Sequence[str], _asker: Asker) -> list[list[float]]:
        return [
            [x + chance.gauss(0, 0.3) for x in vectors[311]] if text == "like 311" else vectors[texts.index(text)]
            for text in asked
        ]

    meanings = Meanings(make, lambda: texts)
    running = asyncio.create_task(meanings.run())
    async with asyncio.timeout(20):
        meanings.refresh()
        await known(meanings, 500)
        found = await meanings.nearest("like 311", [key_of(text) for text in texts], limit=3, asker=ME)
    running.cancel()
    assert found[0] == 311


def test_what_two_rankings_hold_is_before_what_one_holds() -> None:
    assert fused([1, 2, 3], [4, 3, 5]) == [3, 1, 4, 2, 5]
    assert fused([1, 2], []) == [1, 2]


async def test_words_and_meaning_are_one_ranking() -> None:
    things = [
        Findable("apple", "", "a fruit", ""),
        Findable("pebble", "", "a stone", ""),
        Findable("ruby", "", "a red stone", ""),
    ]
    index = Index(lambda: things, learns=True)
    async with learning(Maker(), []) as meanings:
        seeker = Seeker(meanings, ME)
        assert await index.search("ruby", 9, seeker) == [2]  # nothing is known yet: words alone
        await known(meanings, 3)
        assert await index.search("ruby fruit", 1, seeker) == [0]
        assert await index.search("ruby fruit", 9) == [2, 0]
