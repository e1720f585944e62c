"""Tests of attacks can fail: with the one defence switched off that they are about, they do."""

from __future__ import annotations

import asyncio
import re
import sys

import pytest

from tests.attacks.corpus import TESTS, defended
from tests.attacks.undefended import DEFENCES


def test_every_defence_that_can_be_switched_off_is_that_of_some_test() -> None:
    assert set(defended().values()) == set(DEFENCES)


@pytest.mark.parametrize("defence", DEFENCES)
async def test_without_its_defence_an_attack_succeeds(defence: str) -> None:
    about = {f"tests/{test}" for test, named in defended().items() if named == defence}
    arguments = ["-n", "0", "-q", "-rf", "--tb=no", "-p", "tests.attacks.undefended", "--undefended", defence]
    async with asyncio.timeout(100):
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pytest", *arguments, *about, cwd=TESTS.parent, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await run.communicate()
    failed = set(re.findall(r"^FAILED ([^\s\[]+)", said.decode(), re.MULTILINE))
    assert failed == about, said.decode()[-2000:]
