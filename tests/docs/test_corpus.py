"""Every known attack is covered by a test, which fails without a defence; or it is said why not."""

from __future__ import annotations

from tests.attacks.corpus import GROUPS, LACKING, ROWS, covering, proofs
from tests.attacks.defences import DEFENCES
from tests.attacks.undefended import find


def test_every_known_attack_is_covered_or_excused() -> None:
    assert not ROWS.keys() - covering().keys() - LACKING.keys()


def test_marks_and_excuses_are_of_known_attacks() -> None:
    assert not (covering().keys() | LACKING.keys()) - ROWS.keys()
    assert {row.group for row in ROWS.values()} <= GROUPS.keys()


def test_every_attack_is_tried_without_a_defence() -> None:
    assert {one.row for one in proofs()} == set(ROWS)


def test_every_defence_is_that_of_some_test_and_where_its_name_says() -> None:
    """So that who renames one sees it: the runs without them take minutes (tests/attacks/test_undefended.py)."""
    assert {one.defence for one in proofs()} == set(DEFENCES)
    for name in DEFENCES:
        owner, last = find(name)
        assert hasattr(owner, last), name
