"""`hubbub migrate`."""

from __future__ import annotations

from pathlib import Path

import click

from hub.cli.common import config_option, declared_by, migrate_database, told
from registry.store.schema import HEAD


@click.command("migrate")
@config_option
def migrate_command(config: Path | None) -> None:
    """Bring the database's schema to head; `serve` does it itself for SQLite."""
    with told():
        migrate_database(declared_by(config))
    click.echo(f"The database's schema is at {HEAD}.")
