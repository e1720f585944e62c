"""`hubbub secrets`: which key of the ring what is stored is sealed under, and sealing it anew."""

from __future__ import annotations

from pathlib import Path

import click

from hub.cli.common import act, config_option, on_database, table, told
from hub.services import sealing_keys
from hub.settings import find, load
from registry.sealed.resealing import Under, look, reseal
from registry.sealed.secrets import Sealer, key_file
from registry.store.db import Database


@click.group("secrets")
def secrets_command() -> None:
    """Show under which key stored secrets are sealed, and seal them anew."""


@secrets_command.command("list")
@config_option
def _list(config: Path | None) -> None:
    """Count what each key seals."""
    sealer = _sealer(config, None)
    click.echo(_table(on_database(config, lambda database: look(database, sealer))))


@secrets_command.command("reseal")
@click.option(
    "--also",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A key file that what is stored may be sealed under too: to go from that file to hub.secret_keys.",
)
@config_option
def _reseal(also: Path | None, config: Path | None) -> None:
    """Seal everything under the first key. Hubs may run; all should know that key."""
    sealer = _sealer(config, also)

    async def anew(database: Database) -> tuple[int, Under]:
        return await reseal(database, sealer), await look(database, sealer)

    made, found = act(config, anew)
    click.echo(f"{made} sealed anew.")
    click.echo(_table(found))
    if any(counted[None] for counted in found.values()):
        raise click.ClickException(
            "What NO KEY counts was sealed under none of these keys. If it was the file beside the database, stop the hub and run"
            " this with --also hubbub.secret; if its key is gone, it stays closed and counts for nothing."
        )
    if any(set(counted) - {0} for counted in found.values()):
        raise click.ClickException("Not everything is under the first key: keep the others, and run this again.")
    click.echo("Nothing that is stored needs the keys behind the first.")


def _sealer(config: Path | None, also: Path | None) -> Sealer:
    with told():
        return Sealer([*sealing_keys(load(find(config))), *([] if also is None else key_file(also))])


def _table(found: Under) -> str:
    numbers = sorted({number for counted in found.values() for number in counted if number is not None} | {0})
    heads = ("STORED", *(f"KEY {number + 1}" for number in numbers), "NO KEY")
    rows = [(name, *(str(counted[number]) for number in (*numbers, None))) for name, counted in found.items()]
    return table(heads, rows)
