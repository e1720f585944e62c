"""Everything that is sealed is sealed anew under the first key, whatever happens beside it; then the old keys are not needed."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, Float, Integer
from sqlmodel import SQLModel, select

from registry.callers.keys import Keys
from registry.registry import Registry
from registry.sealed import resealing
from registry.sealed.places import OF_ROWS
from registry.sealed.resealing import look, reseal
from registry.sealed.secrets import Sealer, SecretKeyInvalid, key_file, read_keys
from registry.store.db import Database, open_database
from tests.processes import hubbub

OLD, NEW, LOST = read_keys(["o" * 32, "n" * 32, "l" * 32])
TABLES = sorted(OF_ROWS, key=lambda table: table.__name__)
AGENT = {"url": "http://127.0.0.1:9", "headers": {"authorization": "Bearer canary"}}


def row(of: Any, number: int, key: bytes) -> Any:
    """A row with something in every column, sealed under a key."""
    samples: dict[type, Any] = {Integer: number, Float: 1.0, Boolean: True}
    columns = (one for one in of.__table__.columns if one.name != "sealed")
    made = of(**{one.name: samples.get(type(one.type), f"x{number}") for one in columns})
    made.sealed = Sealer([key]).seal(f"secret {number}".encode(), about=OF_ROWS[of](made))
    return made


async def fill(database: Database, of: Any, key: bytes, *numbers: int) -> None:
    rows = [row(of, number, key) for number in numbers]
    await database.write(lambda session: session.add_all(rows))


async def opened(database: Database, of: Any, *keys: bytes) -> list[bytes]:
    rows = await database.read(lambda session: list(session.exec(select(of)).all()))
    return sorted(Sealer(list(keys)).open(one.sealed, about=OF_ROWS[of](one)) for one in rows)


def test_every_column_of_seals_is_known() -> None:
    tables = {table.name for table in SQLModel.metadata.sorted_tables if "sealed" in table.columns}
    assert tables == {str(of.__tablename__) for of in OF_ROWS}


@pytest.mark.parametrize("of", TABLES, ids=lambda of: of.__tablename__)
async def test_what_is_under_an_old_key_is_put_under_the_first(database: Database, of: Any) -> None:
    await fill(database, of, OLD, 1, 2)
    await fill(database, of, NEW, 3)
    ring = Sealer([NEW, OLD])
    assert (await look(database, ring))[of.__tablename__] == {0: 1, 1: 2}
    with pytest.raises(SecretKeyInvalid):
        await opened(database, of, NEW)
    assert await reseal(database, ring) == 2
    assert (await look(database, ring))[of.__tablename__] == {0: 3}
    assert await opened(database, of, NEW) == [b"secret 1", b"secret 2", b"secret 3"]
    assert await reseal(database, ring) == 0


@pytest.mark.parametrize("of", TABLES, ids=lambda of: of.__tablename__)
async def test_what_no_key_opens_stays_as_it_is_and_is_counted(database: Database, of: Any) -> None:
    await fill(database, of, LOST, 1)
    await fill(database, of, OLD, 2)
    ring = Sealer([NEW, OLD])
    assert await reseal(database, ring) == 1
    assert (await look(database, ring))[of.__tablename__] == {None: 1, 0: 1}
    assert await opened(database, of, NEW, LOST) == [b"secret 1", b"secret 2"]


async def test_an_authorization_that_has_ended_is_no_seal(database: Database) -> None:
    (flows,) = [of for of in OF_ROWS if of.__tablename__ == "oauth_flows"]
    ended = row(flows, 1, OLD)
    ended.sealed = None
    await database.write(lambda session: session.add(ended))
    assert await reseal(database, Sealer([NEW, OLD])) == 0


class _Interrupted(Sealer):
    """Seals so many times."""

    left = 3

    def seal(self, value: bytes, *, about: str) -> bytes:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().seal(value, about=about)


async def test_what_was_broken_off_goes_on_where_it_was(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "AT_ONCE", 2)
    (kept,) = [of for of in OF_ROWS if of.__tablename__ == "kept"]
    await fill(database, kept, OLD, *range(7))
    with pytest.raises(KeyboardInterrupt):
        await reseal(database, _Interrupted([NEW, OLD]))
    assert (await look(database, Sealer([NEW, OLD])))["kept"] == {0: 2, 1: 5}
    assert await reseal(database, Sealer([NEW, OLD])) == 5


async def test_several_at_once_make_each_seal_anew_once(
    address: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "AT_ONCE", 5)
    (kept,) = [of for of in OF_ROWS if of.__tablename__ == "kept"]
    await fill(database, kept, OLD, *range(60))
    async with open_database(address) as other:
        made = await asyncio.gather(*(reseal(one, Sealer([NEW, OLD])) for one in (database, other)))
    assert sum(made) == 60
    assert len(await opened(database, kept, NEW)) == 60


async def test_what_a_hub_writes_meanwhile_is_not_undone(address: str, database: Database) -> None:
    (kept,) = [of for of in OF_ROWS if of.__tablename__ == "kept"]
    await fill(database, kept, OLD, 1)
    (found,) = await database.read(lambda session: list(session.exec(select(kept)).all()))
    newer = Sealer([OLD]).seal(b"newer", about=OF_ROWS[kept](found))

    class Beside(Sealer):
        def seal(self, value: bytes, *, about: str) -> bytes:
            with sqlite3.connect(address.removeprefix("sqlite:///")) as connection:
                connection.execute("UPDATE kept SET sealed = ?", (newer,))
            connection.close()
            return super().seal(value, about=about)

    assert await reseal(database, Beside([NEW, OLD])) == 0
    assert await opened(database, kept, OLD) == [b"newer"]
    assert await reseal(database, Sealer([NEW, OLD])) == 1
    assert await opened(database, kept, NEW) == [b"newer"]


async def test_the_command_moves_everything_from_a_key_file_to_the_settings_keys(tmp_path: Path) -> None:
    assert (await hubbub("migrate", directory=tmp_path))[0] == 0
    assert (await hubbub("secrets", "list", directory=tmp_path))[0] == 0  # makes the file
    async with open_database(f"sqlite:///{tmp_path}/hubbub.db") as database:
        await Registry(database, Sealer(key_file(tmp_path / "hubbub.secret")), Keys(database)).put(
            "agent", "echo", AGENT, trusted=True
        )
    (tmp_path / "hub.yaml").write_text(f"hub: {{secret_keys: [{'n' * 32}]}}\n")
    code, said = await hubbub("secrets", "reseal", directory=tmp_path)
    assert (code, "--also hubbub.secret" in said) == (1, True)
    code, said = await hubbub("secrets", "reseal", "--also", "hubbub.secret", directory=tmp_path)
    assert (code, "1 sealed anew." in said, "Nothing that is stored needs" in said) == (0, True, True), said
    async with open_database(f"sqlite:///{tmp_path}/hubbub.db") as database:
        assert await Registry(database, Sealer([NEW]), Keys(database)).body("agent", "echo") == AGENT
