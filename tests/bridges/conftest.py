"""Platforms in processes of their own last as long as the run of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.platforms.elsewhere import end_all


@pytest.fixture(scope="session", autouse=True)
def _platforms() -> Iterator[None]:
    yield
    end_all()
