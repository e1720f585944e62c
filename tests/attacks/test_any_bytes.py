"""Any bytes at all for the readers of requests: a value, or the caller's fault, and nothing else."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import CallerError
from tests.attacks.test_seen_and_sent import DOORS, text


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.attack("2.2/13")
def test_any_bytes_are_a_request_or_the_callers_fault(door: str) -> None:
    read, template = DOORS[door]
    whole = text(template).encode()

    @settings(max_examples=150, database=None)
    @given(st.binary(max_size=60), st.integers(0, len(whole)), st.integers(0, 20))
    def check(data: bytes, at: int, instead: int) -> None:
        for body in (data, whole[:at] + data + whole[at + instead :]):
            with suppress(CallerError):
                read(body)

    check()
