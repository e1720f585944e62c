"""A lexical index: texts in, the numbers of those that match some words out, best first (BM25).

SQLite's FTS5 in memory: it comes with Python, is written in C, and stems English words. Knows no tools.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable

MAX_WORDS = 16
"""Words of a query that are looked at."""

MAX_COUNTED = 10_000
"""Words whose count is remembered."""

MAX_MATCHES = 2000
"""Texts that are ranked for one query: some 3 ms. Of many words the rarest count, those that nearly all texts hold do not."""

WEIGHTS = (8.0, 3.0, 1.0)
"""What a word counts in each field: what a thing is called says more than what is said of it."""

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_RANKED = """
SELECT number FROM (
  SELECT rowid AS number, bm25(texts, ?, ?, ?) AS score FROM texts WHERE texts MATCH ? LIMIT ?
) ORDER BY score, number LIMIT ?"""


class Lexicon:
    """An index that is made once and only read then. It may be made in another thread than it is read in."""

    def __init__(self, texts: Iterable[tuple[str, str, str]]) -> None:
        """Index `texts`, each in three fields, by their position; some 20 ms and 0.5 MB for a thousand."""
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.execute(
            "CREATE VIRTUAL TABLE texts USING fts5(name, description, rest, content='', tokenize='porter unicode61')"
        )
        rows = ((number, _spaced(name), said, rest) for number, (name, said, rest) in enumerate(texts))
        self._connection.executemany("INSERT INTO texts (rowid, name, description, rest) VALUES (?, ?, ?, ?)", rows)
        self._connection.commit()
        self._counts: dict[str, int] = {}

    def search(self, query: str, limit: int) -> list[int]:
        """Return at most `limit` positions of texts that hold any word of `query`, best first."""
        words = self._rarest(list(dict.fromkeys(_WORD.findall(_spaced(query).lower())))[:MAX_WORDS])
        if not words:
            return []
        found = self._connection.execute(_RANKED, (*WEIGHTS, " OR ".join(words), MAX_MATCHES, limit))
        return [number for (number,) in found]

    def _rarest(self, words: list[str]) -> list[str]:
        """The words, quoted, that together match no more texts than are ranked; always one if any matches."""
        counted = sorted((self._count(f'"{word}"'), f'"{word}"') for word in words)
        chosen: list[str] = []
        total = 0
        for count, word in counted:
            total += count
            if count and (not chosen or total <= MAX_MATCHES):
                chosen.append(word)
        return chosen

    def _count(self, word: str) -> int:
        """How many texts hold it; no more than can be ranked are counted."""
        found = self._counts.get(word)
        if found is None:
            counting = "SELECT count(*) FROM (SELECT 1 FROM texts WHERE texts MATCH ? LIMIT ?)"
            found = int(self._connection.execute(counting, (word, MAX_MATCHES + 1)).fetchone()[0])
            if len(self._counts) < MAX_COUNTED:
                self._counts[word] = found
        return found


def _spaced(text: str) -> str:
    """Write `listOpenIssues` as three words too, beside the one that it is."""
    humps = _HUMP.split(text)
    return f"{text} {' '.join(humps)}" if len(humps) > 1 else text
