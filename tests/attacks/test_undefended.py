"""Tests of attacks can fail: with the one defence switched off that they are about, they do."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attacks.corpus import TESTS, proofs
from tests.attacks.defences import DEFENCES

ABOUT: dict[str, set[str]] = {
    name: {f"tests/{one.test}" for one in proofs() if one.defence == name} for name in DEFENCES
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parting() -> AsyncIterator[Process]:
    """A run of pytest that has loaded every test that names a defence, and waits to be told which to go without."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-qq", "-s", "--tb=no", "-p", "tests.attacks.undefended"]
    run = await asyncio.create_subprocess_exec(
        *command, *set().union(*ABOUT.values()), cwd=TESTS.parent, stdin=PIPE, stdout=PIPE
    )
    yield run
    run.stdin.close()
    async with asyncio.timeout(20):
        await run.wait()


@pytest.mark.xdist_group("undefended")
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("defence", DEFENCES)
async def test_without_its_defence_an_attack_succeeds(defence: str, parting: Process) -> None:
    parting.stdin.write(f"{defence}\n".encode())
    async with asyncio.timeout(200):  # the first waits for everything to be loaded
        while not (line := await parting.stdout.readline()).startswith(b"{"):
            assert line, "the run has ended"
    failed = json.loads(line)
    assert set(failed) == ABOUT[defence], failed
    # what fails is what the test claims: not the test itself, and not the hub
    assert all(any(claim for claim, _ in ways) for ways in failed.values()), failed
