from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlmodel import SQLModel

from registry import schema
from registry.db import open_engine
from registry.schema import SchemaNewer, migrate, revision_of


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
