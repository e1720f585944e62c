"""`hubbub users`: works on the database, whether the hub runs or not; a running hub follows within a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hub.cli.common import act, allow_option, bounded, bounds_options, checked, config_option, day, on_database, table
from hub.cli.levels import add_bounds
from registry.callers.keys import Keys
from registry.callers.levels import allow_of
from registry.callers.users import Users
from registry.declared.entry_shapes import BoundsShape, BudgetShape, bounds
from registry.members import check_email, check_user_name
from registry.store.db import Database


@click.group("users")
def users_command() -> None:
    """Make, list, change and delete users."""


def _users(database: Database) -> Users:
    return Users(database, Keys(database))


@users_command.command("create")
@click.argument("name", callback=checked(check_user_name))
@click.option("--email", callback=checked(check_email), help="To write to; nobody is found by it.")
@allow_option("their keys")
@bounds_options("all their keys together")
@config_option
def _create(limits: BoundsShape, budget: BudgetShape | None, config: Path | None, name: str, **members: Any) -> None:
    """Make the user NAME and print their id."""
    counted = bounds(limits, budget).written()
    click.echo(act(config, lambda database: _users(database).create(name, bounds=counted, **members)).id)


@users_command.command("list")
@config_option
def _list(config: Path | None) -> None:
    """List users."""
    rows = [
        (
            user.name,
            user.id,
            user.email or "-",
            " ".join(allow_of(user) or ("-",)),
            bounded(user.bounds),
            "disabled" if user.disabled else "on",
            day(user.created_at),
        )
        for user in on_database(config, lambda database: _users(database).page())
    ]
    click.echo(table(("NAME", "ID", "EMAIL", "ALLOWS", "LIMITS", "STATE", "MADE AT"), rows) if rows else "No users.")


@users_command.command("rename")
@click.argument("user")
@click.argument("name", callback=checked(check_user_name))
@config_option
def _rename(user: str, name: str, config: Path | None) -> None:
    """Give USER (name or id) another NAME; nothing else changes."""
    act(config, lambda database: _users(database).change(user, name=name))
    click.echo(f"{user} is {name} now.")


add_bounds(users_command, _users, level="user", named="name", keys="their keys")


@users_command.command("disable")
@click.argument("user")
@config_option
def _disable(user: str, config: Path | None) -> None:
    """Have the keys of USER (name or id) refused."""
    act(config, lambda database: _users(database).change(user, disabled=True))
    click.echo(f"{user} is disabled.")


@users_command.command("enable")
@click.argument("user")
@config_option
def _enable(user: str, config: Path | None) -> None:
    """Have the keys of USER (name or id) taken again."""
    act(config, lambda database: _users(database).change(user, disabled=False))
    click.echo(f"{user} is enabled.")


@users_command.command("delete")
@click.argument("user")
@config_option
def _delete(user: str, config: Path | None) -> None:
    """Delete USER (name or id) and revoke their keys."""
    act(config, lambda database: _users(database).delete(user))
    click.echo(f"{user} is deleted.")
