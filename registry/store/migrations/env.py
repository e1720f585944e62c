"""Alembic's entry: runs the revisions on the connection that `registry.store.schema` opened, inside its transaction."""

from alembic import context
from sqlmodel import SQLModel

import registry.store.tables  # noqa: F401  # registers them

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
    transaction_per_migration=False,
)
context.run_migrations()
