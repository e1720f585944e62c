"""`hubbub check`."""

from __future__ import annotations

from pathlib import Path

import click

from hub.cli.common import config_option
from hub.settings import DEFAULT_FILE, find, load
from registry.config import ConfigInvalid


@click.command("check")
@config_option
def check_command(config: Path | None) -> None:
    """Validate hub.yaml: print every fault as file:line, contact nothing, exit 1 if there is one."""
    path = find(config)
    if path is None:
        raise click.ClickException(f"There is no {DEFAULT_FILE} here; name one with --config.")
    try:
        declared = load(path)
    except ConfigInvalid as error:
        click.echo(str(error))
        raise SystemExit(1) from None
    for notice in declared.notices:
        click.echo(f"note: {notice}")
    counts = (
        (len(declared.agents), "agents"),
        (len(declared.servers), "MCP servers"),
        (len(declared.models), "models"),
        (len(declared.toolsets), "toolsets"),
        (len(declared.keys), "keys"),
    )
    click.echo(f"{path} is valid: {', '.join(f'{count} {what}' for count, what in counts)}.")
