"""The official conformance suite: what a server passes alone, it passes behind a hub."""

from __future__ import annotations

import pytest

from tests.foreign.conformance import REVISIONS, direct, kept
from tests.foreign.environments import foreign

pytestmark = foreign


@pytest.mark.parametrize("revision", REVISIONS)
async def test_the_server_alone_passes_every_scored_check(revision: str) -> None:
    report = await direct(revision)
    assert set(report.scored) <= report.passed.keys()
    assert all(report.passed[scenario] for scenario in report.scored)
    assert not {scenario: report.failed[scenario] for scenario in report.scored if scenario in report.failed}
    assert report.passed == kept()["direct"][revision], "run python -m tests.foreign.conformance, then make tables"
    assert report.counts == kept()["counts"][f"{revision} direct"]
