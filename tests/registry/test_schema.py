from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlmodel import SQLModel

from registry.store import schema
from registry.store.db import open_engine
from registry.store.schema import SchemaNewer, migrate, revision_of


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path}/hub.db")
    yield engine
    engine.dispose()


def differences(connection: Connection) -> list[object]:
    return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), SQLModel.metadata)


def test_all_revisions_from_nothing_lead_to_the_models(engine: Engine) -> None:
    with engine.begin() as connection:
        schema._upgrade(connection, None)
        assert revision_of(connection) == schema.HEAD
        assert differences(connection) == []


def test_a_new_database_gets_the_models_tables_and_the_newest_revision(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        assert revision_of(connection) == schema.HEAD
        assert differences(connection) == []


def test_the_head_that_is_checked_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_tasks_and_their_events_survive_the_revision_that_numbers_them(engine: Engine) -> None:
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(schema.MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0009")
        connection.exec_driver_sql(
            "INSERT INTO tasks (agent, task_id, owner, context_id, state, created_at, updated_at)"
            " VALUES ('a', 't1', 'me', 'c', 's', 2, 2), ('a', 't2', 'you', 'c', 's', 1, 1)"
        )
        connection.exec_driver_sql("INSERT INTO task_events VALUES ('a', 't1', 1, 0, x'31'), ('a', 't2', 1, 0, x'32')")
    migrate(engine)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT task_id, owner, data FROM tasks JOIN task_events ON task = id")
        assert sorted(map(tuple, rows)) == [("t1", "me", b"1"), ("t2", "you", b"2")]


def test_migrating_twice_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    migrate(engine)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar() == 1


def test_a_schema_of_a_newer_hub_is_refused_and_left_alone(engine: Engine) -> None:
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaNewer, match="9999"):
        migrate(engine)
    with engine.connect() as connection:
        assert revision_of(connection) == "9999"
