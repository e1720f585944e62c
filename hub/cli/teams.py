"""`hubbub teams`: works on the database, whether the hub runs or not; a running hub follows within a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click

from hub.cli.common import allow_option, config_option, database_of, day, declared_by, table, told
from registry.callers.keys import Keys
from registry.callers.levels import allow_of, written
from registry.callers.teams import Teams
from registry.identity import ROLES, Role
from registry.members import check_team_alias

T = TypeVar("T")


@click.group("teams")
def teams_command() -> None:
    """Make, list, rename and delete teams, and say who is in them."""


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
@allow_option("its keys")
@config_option
def _create(alias: str, allow: tuple[str, ...] | None, config: Path | None) -> None:
    """Make the team ALIAS and print its id."""
    click.echo(_do(config, lambda teams: teams.create(alias, allow=allow)).id)


@teams_command.command("allow")
@click.argument("team")
@allow_option("its keys")
@config_option
def _bound(team: str, allow: tuple[str, ...] | None, config: Path | None) -> None:
    """Have TEAM (alias or id) allow its keys what --allow says; without any, it bounds nothing."""
    _do(config, lambda teams: teams.change(team, allow=written(allow)))
    click.echo(f"{team} allows {' '.join(allow)} now." if allow else f"{team} bounds nothing now.")


@teams_command.command("list")
@config_option
def _list(config: Path | None) -> None:
    """List teams."""
    rows = [
        (team.alias, team.id, " ".join(allow_of(team) or ("-",)), day(team.created_at))
        for team in _do(config, Teams.page)
    ]
    click.echo(table(("ALIAS", "ID", "ALLOWS", "MADE AT"), rows) if rows else "No teams.")


@teams_command.command("rename")
@click.argument("team")
@click.argument("alias", callback=_alias)
@config_option
def _rename(team: str, alias: str, config: Path | None) -> None:
    """Give TEAM (alias or id) another ALIAS; nothing else changes."""
    _do(config, lambda teams: teams.change(team, alias=alias))
    click.echo(f"{team} is {alias} now.")


@teams_command.command("delete")
@click.argument("team")
@config_option
def _delete(team: str, config: Path | None) -> None:
    """Delete TEAM (alias or id) and revoke its keys."""
    _do(config, lambda teams: teams.delete(team))
    click.echo(f"{team} is deleted.")


@teams_command.command("members")
@click.argument("team")
@config_option
def _members(team: str, config: Path | None) -> None:
    """List who is in TEAM (alias or id)."""
    rows = [(one.user.name, one.role) for one in _do(config, lambda teams: teams.members(team))]
    click.echo(table(("USER", "ROLE"), rows) if rows else "Nobody.")


@teams_command.command("add")
@click.argument("team")
@click.argument("user")
@click.option(
    "--role", type=click.Choice(ROLES), default="member", show_default=True, help="What the user may do in it."
)
@config_option
def _add(team: str, user: str, role: Role, config: Path | None) -> None:
    """Put USER (name or id) into TEAM, or give them another role there."""
    _do(config, lambda teams: teams.put_member(team, user, role))
    click.echo(f"{user} is {role} of {team} now.")


@teams_command.command("remove")
@click.argument("team")
@click.argument("user")
@config_option
def _remove(team: str, user: str, config: Path | None) -> None:
    """Take USER (name or id) out of TEAM: the keys that they have in it are refused."""
    _do(config, lambda teams: teams.remove_member(team, user))
    click.echo(f"{user} is not in {team} any more.")
