"""`hubbub keys`: works on the database, whether the hub runs or not; a running hub follows within a second."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from hub.cli.common import act, bounded, bounds_options, checked, config_option, day, moment, on_database, table
from registry.access import GrantInvalid, Grants
from registry.callers.keys import MAX_OVERLAP_S, Keys, NamedKey
from registry.callers.levels import doors_of, grants_of, networks_of, request_limits_of
from registry.declared.entry_shapes import bounds
from registry.floors import WORDS, Floor, read_floor
from registry.identity import DOORS, KeySpec
from registry.limits import MOST
from registry.members import check_key_name, check_network


@click.group("keys")
def keys_command() -> None:
    """Make, list, rotate and revoke API keys."""


def _networks(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...] | None:
    try:
        return tuple(map(check_network, texts)) or None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _ending(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    found = moment(context, option, text)
    if found is not None and found <= time.time():
        raise click.BadParameter("that is over already: the key would never be taken")
    return found


def _floor(_context: click.Context, _option: click.Parameter, rules: tuple[str, ...]) -> Floor | None:
    if len(rules) > 1 and any(rule in WORDS for rule in rules):
        raise click.BadParameter("always and destructive stand alone")
    try:
        return read_floor(rules[0] if rules[:1] and rules[0] in WORDS else rules) if rules else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@keys_command.command("create")
@click.argument("name", callback=checked(check_key_name))
@click.argument("grants", nargs=-1, metavar="")
@click.option(
    "--allow", multiple=True, metavar="GRANT ...", help="What the key may call, such as tool:github__* or model:*."
)
@click.option("--user", metavar="USER", help="Whose key it is, by name or id; default: nobody's.")
@click.option("--team", metavar="TEAM", help="The team that the key belongs to, by alias or id; default: none.")
@click.option(
    "--door",
    "doors",
    multiple=True,
    type=click.Choice(DOORS),
    help="Where it may be used; repeatable; default: everywhere.",
)
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NETWORK",
    callback=_networks,
    help="From where it may be used, such as 10.0.0.0/8; repeatable; default: from anywhere.",
)
@click.option("--requests-per-minute", type=click.IntRange(1, MOST), help="The key's pace; default: unlimited.")
@bounds_options("it")
@click.option(
    "--mcp-mode",
    type=click.Choice(["search", "full"]),
    help="How MCP tools are listed to it: three that search, or all; default: as a toolset says, else all.",
)
@click.option(
    "--require-approval",
    multiple=True,
    metavar="RULE",
    callback=_floor,
    help="Which tools models call for it only when that was approved: always, destructive, or names; repeatable.",
)
@click.option(
    "--expires-at", metavar="TIME", callback=_ending, help="When it ends, such as 2030-01-31T00:00:00Z; default: never."
)
@config_option
def _create(allow: tuple[str, ...], grants: tuple[str, ...], config: Path | None, **members: Any) -> None:
    """Make the key NAME and print its secret, this once. Without --allow it may do what its user and team allow."""
    members["doors"] = members["doors"] or None
    is_bounded = members["user"] is not None or members["team"] is not None
    counted = bounds(members.pop("limits"), members.pop("budget"))
    spec = KeySpec(allow=_grants((*allow, *grants), is_bounded=is_bounded), bounds=counted, **members)
    _, secret = act(config, lambda database: Keys(database).create(spec))
    click.echo("The key's secret, shown this once:", err=True)
    click.echo(secret)


def _grants(texts: tuple[str, ...], *, is_bounded: bool) -> tuple[str, ...] | None:
    if not texts and is_bounded:
        return None
    if not texts:
        raise click.UsageError("A key needs at least one grant: --allow 'model:*'")
    try:
        Grants.parse(texts)
    except GrantInvalid as error:
        raise click.BadParameter(str(error), param_hint="--allow") from None
    return texts


@keys_command.command("list")
@config_option
def _list(config: Path | None) -> None:
    """List live keys, without their secrets."""
    found: list[NamedKey] = on_database(config, lambda database: Keys(database).page(limit=None))
    rows = [
        (
            key.name,
            key.id,
            team or "-",
            user or "-",
            " ".join(grants_of(key) or ("-",)),
            bounded(key.bounds, requests_per_minute=key.requests_per_minute, **request_limits_of(key)._asdict()),
            " ".join((*(doors_of(key) or ()), *(networks_of(key) or ()))) or "-",
            f"{day(key.expires_at)}{', over' if key.expires_at and key.expires_at <= time.time() else ''}",
            day(key.last_used_at),
            key.owner,
        )
        for key, team, user in found
    ]
    heads = ("NAME", "ID", "TEAM", "USER", "ALLOW", "LIMITS", "WHERE", "EXPIRES", "LAST USED", "MADE IN")
    click.echo(table(heads, rows) if rows else "No keys.")


@keys_command.command("rotate")
@click.argument("name")
@click.option(
    "--overlap-s",
    type=click.FloatRange(0, MAX_OVERLAP_S),
    default=0,
    help="How many seconds the old secret is taken too; default: it ends at once.",
)
@config_option
def _rotate(name: str, overlap_s: float, config: Path | None) -> None:
    """Give the key NAME another secret, and print it, this once."""
    _, secret = act(config, lambda database: Keys(database).rotate(name, overlap_s))
    click.echo("The key's new secret, shown this once:", err=True)
    click.echo(secret)


@keys_command.command("revoke")
@click.argument("name")
@config_option
def _revoke(name: str, config: Path | None) -> None:
    """Revoke the key NAME: a running hub refuses it within a second."""
    act(config, lambda database: Keys(database).revoke(name))
    click.echo(f"{name} is revoked.")
