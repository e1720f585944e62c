"""The database's schema: brought to head by Alembic. A schema that is at head already costs one query and no Alembic."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

import registry.store.tables  # noqa: F401  # registers them

HEAD = "0028"
"""The newest revision in `migrations/versions`; a test compares the two."""

MIGRATIONS = Path(__file__).with_name("migrations")


class SchemaNewer(Exception):
    """The database was written by a newer version of the hub."""

    def __init__(self, revision: str) -> None:
        super().__init__(f"The database has schema {revision}, which this version does not know; run the newer hub.")


class DatabaseUnavailable(Exception):
    """The database cannot be opened or written."""

    def __init__(self, engine: Engine, reason: str) -> None:
        super().__init__(f"The database {engine.url.render_as_string(hide_password=True)} cannot be used: {reason}.")


def revision_of(connection: Connection) -> str | None:
    """The revision of the database's schema; None: it has none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found


def migrate(engine: Engine) -> None:
    """Bring the schema to head, in one transaction; several processes may try at once. Blocks: call it in a thread.

    Raises:
        SchemaNewer: the schema is of a revision that this version does not have.
        DatabaseUnavailable: it cannot be opened, written, or is not a database.
    """
    try:
        _migrate(engine)
    except DBAPIError as error:
        raise DatabaseUnavailable(engine, str(error.orig)) from error


def _migrate(engine: Engine) -> None:
    with engine.connect().execution_options(reading=True) as connection:
        if revision_of(connection) == HEAD:
            return
    with engine.begin() as connection:  # holds the write lock, so a second process waits and then finds head
        revision = revision_of(connection)
        if revision is None:
            _create(connection)
        elif revision != HEAD:
            _upgrade(connection, revision)


def _create(connection: Connection) -> None:
    """Make all tables of an empty database at once; a test shows that the revisions lead to the same ones."""
    SQLModel.metadata.create_all(connection)
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (HEAD,))


def _upgrade(connection: Connection, revision: str | None) -> None:
    # imported here: Alembic costs 0.6 s and is needed once for each version of the hub
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        if revision is None:
            raise
        raise SchemaNewer(revision) from error
