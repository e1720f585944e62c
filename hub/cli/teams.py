"""`hubbub teams`: works on the database, whether the hub runs or not; a running hub follows within a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from hub.cli.common import config_option, database_of, declared_by, table, told
from registry.keys import Keys
from registry.members import check_team_alias
from registry.teams import Teams

T = TypeVar("T")


@click.group("teams")
def teams_command() -> None:
    """Make, list, rename and delete teams of keys."""


def _alias(_context: click.Context, _option: click.Parameter, alias: str) -> str:
    try:
        return check_team_alias(alias)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _do(config: Path | None, work: Callable[[Teams], Awaitable[T]]) -> T:
    async def run() -> T:
        async with database_of(declared_by(config)) as database:
            return await work(Teams(database, Keys(database)))

    with told():
        return asyncio.run(run())


@teams_command.command("create")
@click.argument("alias", callback=_alias)
@config_option
def _create(alias: str, config: Path | None) -> None:
    """Make the team ALIAS and print its id."""
    click.echo(_do(config, lambda teams: teams.create(alias)).id)


@teams_command.command("list")
@config_option
def _list(config: Path | None) -> None:
    """List teams."""
    rows = [
        (team.alias, team.id, datetime.fromtimestamp(team.created_at, UTC).strftime("%Y-%m-%d %H:%MZ"))
        for team in _do(config, Teams.all)
    ]
    click.echo(table(("ALIAS", "ID", "MADE AT"), rows) if rows else "No teams.")


@teams_command.command("rename")
@click.argument("team")
@click.argument("alias", callback=_alias)
@config_option
def _rename(team: str, alias: str, config: Path | None) -> None:
    """Give TEAM (alias or id) another ALIAS; nothing else changes."""
    _do(config, lambda teams: teams.rename(team, alias))
    click.echo(f"{team} is {alias} now.")


@teams_command.command("delete")
@click.argument("team")
@config_option
def _delete(team: str, config: Path | None) -> None:
    """Delete TEAM (alias or id): its keys stay, each with what it made itself."""
    _do(config, lambda teams: teams.delete(team))
    click.echo(f"{team} is deleted.")
