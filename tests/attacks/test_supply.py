"""What is installed and what is released: nothing that nobody asked for."""

from __future__ import annotations

import re

import pytest

from tests.attacks.sources import PACKAGES, ROOT, lock, released


@pytest.mark.attack("2.1/42", "2.2/12", defence="tests.attacks.sources:lock")
def test_every_dependency_is_locked_by_hash_and_installed_so() -> None:
    lines = [
        line for line in re.sub(r"\\\n", " ", lock()).splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    assert len(lines) > 20
    assert not [
        line
        for line in lines
        if not re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==\S+( ;.*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", line)
    ]
    assert "--require-hashes -r requirements.lock" in (ROOT / "Makefile").read_text()


@pytest.mark.attack("2.1/42", "2.2/12", defence="tests.attacks.sources:released")
def test_the_wheel_holds_its_packages_and_nothing_that_runs_by_itself() -> None:
    names = released()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert not [name for name in names if name.endswith((".pth", ".so", ".pyc")) or "customize" in name]
