"""Platforms in processes of their own last as long as the run of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.foreign.environments import GROUPS, WANTED
from tests.peers.platforms.elsewhere import end_all

BOTOCORE = "test_botocore_"
"""Tests that need botocore, which an environment of the group `llm` has."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out whose turn it is not: what is skipped fails a gate in which nothing may be."""
    if WANTED in GROUPS and WANTED != "llm":
        items[:] = [one for one in items if not one.name.startswith(BOTOCORE)]


@pytest.fixture(scope="session", autouse=True)
def platforms() -> Iterator[None]:
    """End them."""
    yield
    end_all()
