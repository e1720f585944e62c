"""Modules that take turns in the gate are there, and each has its turn."""

from __future__ import annotations

from tests.conftest import IN_TURN, TESTS
from tests.foreign.environments import GROUPS


def test_every_module_in_turn_exists_and_belongs_to_one_group() -> None:
    paths = [path for group in IN_TURN.values() for path in group]
    assert IN_TURN.keys() == GROUPS.keys()
    assert len(paths) == len(set(paths))
    assert [path for path in paths if not (TESTS / path).is_file()] == []


def test_every_module_of_foreign_parts_has_its_turn() -> None:
    modules = {path.relative_to(TESTS).as_posix() for path in (TESTS / "foreign").glob("test_*.py")}
    assert modules <= {path for group in IN_TURN.values() for path in group}
