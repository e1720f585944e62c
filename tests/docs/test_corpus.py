"""Every known attack is covered by a test, or it is said why not."""

from __future__ import annotations

from tests.attacks.corpus import GROUPS, LACKING, ROWS, covering


def test_every_known_attack_is_covered_or_excused() -> None:
    assert not ROWS.keys() - covering().keys() - LACKING.keys()


def test_marks_and_excuses_are_of_known_attacks() -> None:
    assert not (covering().keys() | LACKING.keys()) - ROWS.keys()
    assert {row.group for row in ROWS.values()} <= GROUPS.keys()
