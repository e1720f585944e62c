"""`hubbub teams`: works on the database, whether the hub runs or not; a running hub follows within a second."""

from __future__ import annotations

from pathlib import Path

import click

from hub.cli.common import act, allow_option, bounded, bounds_options, checked, config_option, day, on_database, table
from hub.cli.levels import add_bounds
from registry.callers.keys import Keys
from registry.callers.levels import allow_of
from registry.callers.teams import Teams
from registry.declared.entry_shapes import BoundsShape, BudgetShape, bounds
from registry.identity import ROLES, Role
from registry.members import check_team_alias
from registry.store.db import Database


@click.group("teams")
def teams_command() -> None:
    """Make, list, rename and delete teams, and say who is in them."""


def _teams(database: Database) -> Teams:
    return Teams(database, Keys(database))


@teams_command.command("create")
@click.argument("alias", callback=checked(check_team_alias))
@allow_option("its keys")
@bounds_options("all its keys together")
@config_option
def _create(
    alias: str, allow: tuple[str, ...] | None, limits: BoundsShape, budget: BudgetShape | None, config: Path | None
) -> None:
    """Make the team ALIAS and print its id."""
    counted = bounds(limits, budget).written()
    click.echo(act(config, lambda database: _teams(database).create(alias, allow=allow, bounds=counted)).id)


add_bounds(teams_command, _teams, level="team", named="alias", keys="its keys")


@teams_command.command("list")
@config_option
def _list(config: Path | None) -> None:
    """List teams."""
    rows = [
        (team.alias, team.id, " ".join(allow_of(team) or ("-",)), bounded(team.bounds), day(team.created_at))
        for team in on_database(config, lambda database: _teams(database).page())
    ]
    click.echo(table(("ALIAS", "ID", "ALLOWS", "LIMITS", "MADE AT"), rows) if rows else "No teams.")


@teams_command.command("rename")
@click.argument("team")
@click.argument("alias", callback=checked(check_team_alias))
@config_option
def _rename(team: str, alias: str, config: Path | None) -> None:
    """Give TEAM (alias or id) another ALIAS; nothing else changes."""
    act(config, lambda database: _teams(database).change(team, alias=alias))
    click.echo(f"{team} is {alias} now.")


@teams_command.command("delete")
@click.argument("team")
@config_option
def _delete(team: str, config: Path | None) -> None:
    """Delete TEAM (alias or id) and revoke its keys."""
    act(config, lambda database: _teams(database).delete(team))
    click.echo(f"{team} is deleted.")


@teams_command.command("members")
@click.argument("team")
@config_option
def _members(team: str, config: Path | None) -> None:
    """List who is in TEAM (alias or id)."""
    rows = [(one.user.name, one.role) for one in on_database(config, lambda database: _teams(database).members(team))]
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
    act(config, lambda database: _teams(database).put_member(team, user, role))
    click.echo(f"{user} is {role} of {team} now.")


@teams_command.command("remove")
@click.argument("team")
@click.argument("user")
@config_option
def _remove(team: str, user: str, config: Path | None) -> None:
    """Take USER (name or id) out of TEAM: the keys that they have in it are refused."""
    act(config, lambda database: _teams(database).remove_member(team, user))
    click.echo(f"{user} is not in {team} any more.")
