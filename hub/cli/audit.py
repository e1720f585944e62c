"""`hubbub audit`: reads and checks the audit log, whether the hub runs or not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from hub.cli.common import config_option, on_database, table
from registry.auditing.audit import Audit


@click.group("audit")
def audit_command() -> None:
    """What was done through the admin API and the command line, and what was refused."""


@audit_command.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@config_option
def _list(limit: int, config: Path | None) -> None:
    """Show the newest entries."""
    rows = [
        (
            datetime.fromtimestamp(row.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
            row.principal_name or "-",
            row.act,
            row.object,
            row.outcome,
            row.detail,
        )
        for row in on_database(config, lambda database: Audit(database).page(None, limit))
    ]
    click.echo(table(("AT", "WHO", "ACT", "OBJECT", "OUTCOME", "DETAIL"), rows) if rows else "Nothing yet.")


@audit_command.command("verify")
@click.option("--head", help="The digest that was noted after some row: it must still be there.")
@config_option
def _verify(head: str | None, config: Path | None) -> None:
    """Check that no entry was changed or taken out; prints the head, to be noted elsewhere."""
    found = on_database(config, lambda database: Audit(database).verify())
    if found.broken_at is not None:
        raise click.ClickException(f"entry {found.broken_at} is not as it was written; the {found.rows} before it are.")
    if head is not None and not on_database(config, lambda database: Audit(database).has(head)):
        raise click.ClickException(
            f"no entry has the digest {head[:64]}: entries were cut off, or it is another log's."
        )
    click.echo(f"{found.rows} entries are as they were written. Head: {found.head}")
