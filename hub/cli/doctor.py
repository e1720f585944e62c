"""`hubbub doctor`: one line for each thing that the hub depends on; exit status 1 if any fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from hub.cli.installation import clashes


@click.command("doctor")
@click.option("--config", type=click.Path(path_type=Path), help="The file to use; default: ./hub.yaml if there is one.")
def doctor_command(config: Path | None) -> None:
    """Probe the installation, the database, agents, MCP servers and models."""
    found = clashes()
    for clash in found:
        click.echo(f"FAIL  installation: {clash}")
    if found:
        raise SystemExit(1)
    click.echo("ok    installation")
    # imported here: until now it was not known whose packages these are
    from hub.cli.common import declared_by, told  # noqa: PLC0415
    from hub.cli.probes import examine  # noqa: PLC0415

    failed = False
    with told():
        for probe, fault, note in asyncio.run(examine(declared_by(config))):
            seen = f" ({note})" if note else ""
            click.echo(f"FAIL  {probe}: {fault}" if fault else f"ok    {probe}{seen}")
            failed = failed or fault is not None
    raise SystemExit(1 if failed else 0)
