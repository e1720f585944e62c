"""`hubbub keys`: works on the database, whether the hub runs or not; a running hub follows within a second."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from hub.cli.common import config_option, database_of, declared_by, table, told
from registry.access import GrantInvalid, Grants
from registry.config import Declared
from registry.floors import WORDS, Floor, read_floor
from registry.identity import KeySpec
from registry.keys import Keys, grants_of
from registry.members import check_key_name
from registry.models import ApiKey, Team
from registry.teams import Teams


@click.group("keys")
def keys_command() -> None:
    """Make, list and revoke API keys."""


def _name(_context: click.Context, _option: click.Parameter, name: str) -> str:
    try:
        return check_key_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _time(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter("write it like 2030-01-31T00:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _floor(_context: click.Context, _option: click.Parameter, rules: tuple[str, ...]) -> Floor | None:
    if len(rules) > 1 and any(rule in WORDS for rule in rules):
        raise click.BadParameter("always and destructive stand alone")
    try:
        return read_floor(rules[0] if rules[:1] and rules[0] in WORDS else rules) if rules else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@keys_command.command("create")
@click.argument("name", callback=_name)
@click.argument("grants", nargs=-1, metavar="")
@click.option(
    "--allow", multiple=True, metavar="GRANT ...", help="What the key may call, such as tool:github__* or model:*."
)
@click.option("--team", metavar="TEAM", help="The team that the key belongs to, by alias or id; default: none.")
@click.option("--requests-per-minute", type=click.IntRange(1), help="The key's pace; default: unlimited.")
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
    "--expires-at", metavar="TIME", callback=_time, help="When it ends, such as 2030-01-31T00:00:00Z; default: never."
)
@config_option
def _create(allow: tuple[str, ...], grants: tuple[str, ...], config: Path | None, **members: Any) -> None:
    """Make the key NAME and print its secret, this once."""
    spec = KeySpec(allow=_grants((*allow, *grants)), **members)
    with told():
        secret = asyncio.run(_made(declared_by(config), spec))
    click.echo("The key's secret, shown this once:", err=True)
    click.echo(secret)


def _grants(texts: tuple[str, ...]) -> tuple[str, ...]:
    if not texts:
        raise click.UsageError("A key needs at least one grant: --allow 'model:*'")
    try:
        Grants.parse(texts)
    except GrantInvalid as error:
        raise click.BadParameter(str(error), param_hint="--allow") from None
    return texts


async def _made(declared: Declared, spec: KeySpec) -> str:
    async with database_of(declared) as database:
        _, secret = await Keys(database).create(spec)
    return secret


@keys_command.command("list")
@config_option
def _list(config: Path | None) -> None:
    """List live keys, without their secrets."""
    with told():
        keys, teams = asyncio.run(_all(declared_by(config)))
    aliases = {team.id: team.alias for team in teams}
    rows = [
        (
            key.name,
            aliases.get(key.team_id or "", "-"),
            " ".join(grants_of(key)),
            _pace(key),
            _day(key.expires_at),
            key.owner,
        )
        for key in keys
    ]
    click.echo(table(("NAME", "TEAM", "ALLOW", "LIMIT", "EXPIRES", "MADE IN"), rows) if rows else "No keys.")


async def _all(declared: Declared) -> tuple[list[ApiKey], list[Team]]:
    async with database_of(declared) as database:
        keys = Keys(database)
        return await keys.all_live(), await Teams(database, keys).all()


def _pace(key: ApiKey) -> str:
    return f"{key.requests_per_minute}/min" if key.requests_per_minute else "-"


def _day(moment: float | None) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%MZ") if moment else "-"


@keys_command.command("revoke")
@click.argument("name")
@config_option
def _revoke(name: str, config: Path | None) -> None:
    """Revoke the key NAME: a running hub refuses it within a second."""
    with told():
        asyncio.run(_revoked(declared_by(config), name))
    click.echo(f"{name} is revoked.")


async def _revoked(declared: Declared, name: str) -> None:
    async with database_of(declared) as database:
        await Keys(database).revoke(name)
