"""`hubbub agents|mcp|models|tools|toolsets list`: what the file and the database hold; changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec

from hub.cli.common import config_option, database_of, declared_by, table, told
from hub.mcp_side import supervised_at
from hub.services import sealer
from mcp_bridge.stdio.children import Children
from mcp_bridge.stdio.frames import Shown
from mcp_bridge.views import cost_at
from registry.access import EVERYTHING
from registry.callers.keys import Keys
from registry.declared.config import Declared
from registry.entries import Agent, Model, Server, Toolset
from registry.registry import EntryKind, Registry, StoredKind


@click.group("agents")
def agents_command() -> None:
    """Agents."""


@click.group("mcp")
def mcp_command() -> None:
    """MCP servers."""


@click.group("models")
def models_command() -> None:
    """Models."""


@click.group("tools")
def tools_command() -> None:
    """Tools of MCP servers."""


@click.group("toolsets")
def toolsets_command() -> None:
    """Toolsets."""


async def _registry(declared: Declared) -> Registry:
    async with database_of(declared) as database:
        registry = Registry(database, sealer(declared), Keys(database))
        await registry.show(declared)
        return registry


def _read(config: Path | None) -> Registry:
    with told():
        return asyncio.run(_registry(declared_by(config)))


def _rows(registry: Registry, kind: EntryKind) -> list[tuple[str, ...]]:
    return [
        (name, _where(entry), entry.owner, _state(registry, kind, entry))
        for name, entry in sorted(registry.all_of(kind).items())
    ]


def _where(entry: Agent | Server | Model) -> str:
    if isinstance(entry, Model):
        return f"{entry.provider}: {entry.model}"
    if isinstance(entry, Server) and entry.command is not None:
        return " ".join((entry.command, *entry.args))
    if isinstance(entry, Agent) and entry.urls:
        return " ".join(entry.urls)
    if isinstance(entry, Agent) and entry.own is not None:
        return f"runs here on {entry.own.model}"
    return entry.url or "-"


def _state(registry: Registry, kind: StoredKind, entry: Agent | Server | Model | Toolset) -> str:
    key = (kind, entry.name)
    if key in registry.catalog.switched_off:
        return "switched off"
    if not isinstance(entry, Toolset | Agent) and entry.unavailable is not None:
        return f"unavailable: {entry.unavailable}"
    if key not in registry.catalog.shadowed:
        return "-"
    return "hides a stored one" if entry.owner == "file" else "hidden by one of the file"


def _show(config: Path | None, kind: EntryKind, what: str, head: str) -> None:
    rows = _rows(_read(config), kind)
    click.echo(table(("NAME", head, "MADE IN", "STATE"), rows) if rows else f"No {what}.")


@agents_command.command("list")
@config_option
def _agents(config: Path | None) -> None:
    """List agents."""
    _show(config, "agent", "agents", "ADDRESS")


@mcp_command.command("list")
@config_option
def _servers(config: Path | None) -> None:
    """List MCP servers."""
    registry = _read(config)
    processes = _processes(config)
    costs = {name: cost_at(registry.catalog, EVERYTHING, name) for name in registry.all_of("server")}
    rows = [
        (*row[:3], _running(processes, row), str(costs[row[0]].tools), f"{costs[row[0]].tokens:,}")
        for row in _rows(registry, "server")
    ]
    head = ("NAME", "ADDRESS OR COMMAND", "MADE IN", "STATE", "TOOLS", "TOKENS")
    click.echo(table(head, rows) if rows else "No MCP servers.")


def _processes(config: Path | None) -> dict[str, Shown]:
    """What the supervisor of a hub that runs here knows of its children."""
    with told():
        return asyncio.run(Children(supervised_at(declared_by(config).hub), {}).show())


def _running(processes: dict[str, Shown], row: tuple[str, ...]) -> str:
    """A server's state, with the processes that run for it."""
    pids = [str(one.pid) for one in processes[row[0]].running] if row[0] in processes else []
    return f"runs as {', '.join(pids)}" if pids and row[3] == "-" else row[3]


@mcp_command.command("stderr")
@click.argument("name")
@config_option
def _stderr(name: str, config: Path | None) -> None:
    """Show the last lines that a server's processes wrote to stderr, and how they ended."""
    processes = _processes(config)
    if name not in processes:
        raise click.ClickException(f"No hub that runs here has started {name}.")
    for line in processes[name].lines:
        click.echo(line)


@models_command.command("list")
@config_option
def _models(config: Path | None) -> None:
    """List models."""
    _show(config, "model", "models", "PROVIDER AND MODEL")


@tools_command.command("list")
@config_option
def _tools(config: Path | None) -> None:
    """List tools, as their servers last listed them to a running hub."""
    catalog = _read(config).catalog
    rows = [(tool.exposed, tool.server, _summary(tool.description)) for tool in catalog.tools.values()]
    rows += [
        (found.name, found.server, f"not offered: {found.reason}")
        for found in catalog.quarantined
        if found.kind == "tool"
    ]
    click.echo(
        table(("NAME", "SERVER", "DESCRIPTION"), rows) if rows else "No tools: servers list theirs when the hub runs."
    )
    cost = cost_at(catalog, EVERYTHING)
    if rows:
        click.echo(f"\n{cost.tools} tools, about {cost.tokens:,} tokens for a model that is given them all.")
    if cost.advice is not None:
        click.echo(cost.advice)


@toolsets_command.command("list")
@config_option
def _toolsets(config: Path | None) -> None:
    """List toolsets."""
    registry = _read(config)
    rows = []
    for name, found in sorted(registry.toolsets().items()):
        cost = cost_at(registry.catalog, EVERYTHING, name)
        state = _state(registry, "toolset", found)
        rows.append((name, found.mode or "-", found.owner, state, str(cost.tools), f"{cost.tokens:,}"))
    head = ("NAME", "MODE", "MADE IN", "STATE", "TOOLS", "TOKENS")
    click.echo(table(head, rows) if rows else "No toolsets.")


def _summary(description: bytes) -> str:
    text = msgspec.json.decode(description).get("description")
    lines = text.strip().splitlines() if isinstance(text, str) else []
    return lines[0][:80] if lines else ""
