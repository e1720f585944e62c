"""`hubbub serve`."""

from __future__ import annotations

from pathlib import Path

import click

from hub.cli.common import config_option, declared_by, migrate_database, told
from hub.settings import find


@click.command("serve")
@config_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=4000, show_default=True, type=click.IntRange(0, 65535), help="The port to listen on.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes; this version runs one."
)
def serve_command(config: Path | None, host: str, port: int, workers: int) -> None:
    """Run the hub until SIGTERM or SIGINT."""
    if workers > 1:
        raise click.ClickException("--workers above 1 is not in this version: one process serves.")
    with told():
        declared = declared_by(config)
        migrate_database(declared)  # a database that cannot be used is told here, in one line, before anything starts
        # imported here: a file with faults is told without the server's import time
        from hub.serve import serve  # noqa: PLC0415

        serve(declared, find(config), host=host, port=port)
