"""`hubbub check`."""

from __future__ import annotations

from pathlib import Path

import click

from hub.cli.common import config_option
from hub.settings import DEFAULT_FILE, find, load
from registry.declared.config import ConfigInvalid, Declared, Fault
from registry.members import is_http_url


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
    faults, notes = _documents(declared)
    if faults:
        click.echo("\n".join(map(str, faults)))
        raise SystemExit(1)
    for notice in (*declared.notices, *notes):
        click.echo(f"note: {notice}")
    counts = (
        (len(declared.agents), "agents"),
        (len(declared.servers), "MCP servers"),
        (len(declared.models), "models"),
        (len(declared.toolsets), "toolsets"),
        (len(declared.keys), "keys"),
    )
    click.echo(f"{path} is valid: {', '.join(f'{count} {what}' for count, what in counts)}.")


def _documents(declared: Declared) -> tuple[list[Fault], list[Fault]]:
    """What is wrong with the OpenAPI documents that are files; and their operations that cannot be offered."""
    from mcp_bridge.openapi.document import DocumentInvalid, read_document  # noqa: PLC0415 - seldom needed
    from mcp_bridge.openapi.operations import Configured  # noqa: PLC0415 - the same
    from mcp_bridge.openapi.upstream import read_file  # noqa: PLC0415 - the same

    faults, notes = [], []
    for server in declared.servers.values():
        if server.openapi is None or is_http_url(server.openapi):
            continue
        try:
            text, _ = read_file(server.openapi)
            document = read_document(text or "", server.openapi, Configured(url=server.url))
        except DocumentInvalid as invalid:
            faults.append(invalid.fault)
        else:
            notes += [
                Fault(bad.fault.file, bad.fault.line, f"{bad.name} is not offered: {bad.fault.text}")
                for bad in document.quarantined
            ]
    return faults, notes
