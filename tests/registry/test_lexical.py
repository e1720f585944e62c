"""The lexical index: what is found, in which order, and at what bound."""

from __future__ import annotations

import pytest

from registry.search.lexical import MAX_MATCHES, Lexicon

TEXTS = [
    ("github__list_issues", "List the issues of a repository", "state labels"),
    ("github__createPullRequest", "Open a pull request", "title body"),
    ("mail__send", "Send a message; say which issue it is about", "to subject"),
    ("time__now", "What time it is", "timezone"),
    ("time__größe", "Misst etwas", ""),
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("issue", [0, 2]),
        ("listing issues", [0, 2]),
        ("pull", [1]),
        ("createPullRequest", [1]),
        ("TIMEZONE", [3]),
        ("Größe", [4]),
        ("", []),
        ("? ! *", []),
        ("nothing like that", []),
        ('" OR * NEAR(pull', [1]),
    ],
)
def test_words_find_texts_best_first(query: str, found: list[int]) -> None:
    assert Lexicon(TEXTS).search(query, 10) == found


def test_no_more_is_found_than_asked_for() -> None:
    assert len(Lexicon([("same", "same", "same")] * 50).search("same", 7)) == 7


def test_a_word_in_every_text_does_not_hide_a_rare_one() -> None:
    texts = [("tool", f"does thing {number}", "") for number in range(MAX_MATCHES + 500)]
    assert Lexicon(texts).search("a tool that does thing 2222", 1) == [2222]


def steps(count: int) -> int:
    """What SQLite does for one query of words that are everywhere."""
    lexicon = Lexicon((f"tool {number}", "does the thing", "") for number in range(count))
    found = 0

    def count_step() -> None:
        nonlocal found
        found += 1

    lexicon._connection.set_progress_handler(count_step, 10)
    assert len(lexicon.search("tool does the thing", 10)) == 10
    return found


def test_a_query_costs_no_more_among_more_texts_than_are_ranked() -> None:
    assert steps(3 * MAX_MATCHES) == pytest.approx(steps(2 * MAX_MATCHES), rel=0.01)
