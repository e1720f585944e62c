from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.store.db import Database, open_database, open_engine
from registry.store.schema import migrate


@pytest.fixture
def address(tmp_path: Path) -> str:
    """A migrated database of its own."""
    address = f"sqlite:///{tmp_path}/hub.db"
    engine = open_engine(address)
    migrate(engine)
    engine.dispose()
    return address


@pytest.fixture
async def database(address: str) -> AsyncIterator[Database]:
    """The database, open."""
    async with open_database(address) as opened:
        yield opened
