"""Suites that take turns in the gate are there, and each has its turn."""

from pathlib import Path

from tests.conftest import IN_TURN
from tests.foreign.environments import GROUPS

TESTS = Path(__file__).parents[1]


def test_every_long_suite_exists_and_belongs_to_one_group() -> None:
    names = [name for group in IN_TURN.values() for name in group]
    assert IN_TURN.keys() == GROUPS.keys()
    assert len(names) == len(set(names))
    assert {path.name for path in TESTS.rglob("test_*.py")} >= set(names)
