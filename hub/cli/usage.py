"""`hubbub usage`: reads the database, whether the hub runs or not; calls of the last half second may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import click

from hub.cli.common import config_option, moment, on_database, table
from registry.judged import encode
from registry.spending.usage import BY, DIMENSIONS, as_csv, dimensions, summary

ALWAYS = ("calls", "errors", "input_tokens", "output_tokens", "cost_usd")
"""Sums that the table shows also where they are nothing."""


@click.command("usage")
@click.option(
    "--by", default=BY, show_default=True, metavar="NAME,…", help=f"How to sum it up: some of {', '.join(DIMENSIONS)}."
)
@click.option("--from", "since", metavar="TIME", callback=moment, help="From when on, such as 2030-01-31; in UTC.")
@click.option("--to", "until", metavar="TIME", callback=moment, help="Until when; that moment is not in it.")
@click.option("--session", metavar="NAME", help="Only what was part of this conversation.")
@click.option("--task", metavar="ID", help="Only what was part of this task.")
@click.option("--json", "shown_as", flag_value="json", help="Print JSON, as /api/usage answers.")
@click.option("--csv", "shown_as", flag_value="csv", help="Print CSV.")
@config_option
def usage_command(
    by: str,
    since: float | None,
    until: float | None,
    shown_as: Literal["json", "csv"] | None,
    config: Path | None,
    **only: str | None,
) -> None:
    """Sum calls, errors, tokens and cost, by any dimension."""
    rows = on_database(
        config,
        lambda database: database.read(lambda session: summary(session, dimensions(by), since, until, only=only)),
    )
    if shown_as == "json":
        click.echo(encode({"items": rows, "next": None}))
    elif shown_as == "csv":
        click.echo(as_csv(rows), nl=False)
    else:
        click.echo(_table(rows) if rows else "Nothing was used.")


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    """Without the sums of which nothing is known in any row."""
    known = [name for name in rows[0] if name in (*DIMENSIONS, *ALWAYS) or any(row[name] is not None for row in rows)]
    heads = tuple(name.upper().replace("_", " ") for name in known)
    return table(heads, [tuple(_cell(row[name]) for name in known) for row in rows])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
