"""The tables of the docs say what was measured and what the code says."""

from __future__ import annotations

import pytest

from tests.tables import DOCS, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_tables_is_as_make_tables_writes_it(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "stale: run make tables"
