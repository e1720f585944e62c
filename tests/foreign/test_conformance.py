"""The official conformance suite: what a server passes alone, it passes behind a hub."""

from __future__ import annotations

import pytest
from mcp import Client, MCPError

from tests.foreign.conformance import EXCUSED, REVISIONS, SETUPS, Excuse, Setup, direct, kept, lost, through
from tests.foreign.environments import foreign
from tests.peers.mcp_everything import everything

pytestmark = foreign


@pytest.mark.parametrize("revision", REVISIONS)
async def test_the_server_alone_passes_every_scored_check(revision: str) -> None:
    report = await direct(revision)
    assert set(report.scored) <= report.passed.keys()
    assert all(report.passed[scenario] for scenario in report.scored)
    assert not {scenario: report.failed[scenario] for scenario in report.scored if scenario in report.failed}
    assert report.passed == kept()["direct"][revision], "run python -m tests.foreign.conformance, then make tables"
    assert report.counts == kept()["counts"][f"{revision} direct"]


@pytest.mark.parametrize("setup", SETUPS, ids=str)
async def test_what_the_server_passes_alone_it_passes_behind_a_hub(setup: Setup) -> None:
    report = await through(setup)
    wanted = kept()["direct"][setup.revision]
    missed = lost(wanted, report)
    failing = EXCUSED.get(setup, {}).keys() | set(kept()["awaited"][str(setup)])
    assert not {scenario: (missed[scenario], report.failed.get(scenario)) for scenario in missed.keys() - failing}
    assert failing <= missed.keys(), (
        "an entry that passes: take it from EXCUSED, or run python -m tests.foreign.conformance"
    )
    assert report.counts == kept()["counts"][str(setup)], "run python -m tests.foreign.conformance, then make tables"


EXCUSES = sorted({(setup, excuse) for setup, excuses in EXCUSED.items() for excuse in excuses.values()})


@pytest.mark.parametrize(("setup", "excuse"), EXCUSES, ids=lambda value: getattr(value, "tool", str(value)))
async def test_what_is_excused_fails_at_such_a_server_without_a_hub(setup: Setup, excuse: Excuse) -> None:
    assert setup.only is not None
    mode = "legacy" if setup.only == "legacy" else "2026-07-28"
    async with everything(only=setup.only) as url, Client(url, mode=mode, cache=None) as client:
        with pytest.raises(MCPError, match="no way to ask this"):
            await client.call_tool(excuse.tool, {})
