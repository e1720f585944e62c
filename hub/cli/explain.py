"""`hubbub explain`: why a key may call something or not, whether the hub runs or not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from hub.cli.common import config_option, database_of, declared_by, told
from hub.services import sealer
from hub.standing import meant, standing
from mcp_bridge.views import build
from registry.access import EVERYTHING, KINDS, Grants
from registry.callers.keys import Keys
from registry.declared.config import Declared
from registry.errors import CallerError
from registry.identity import Principal, Tree
from registry.judged import JsonObject
from registry.registry import Registry
from registry.rules.explaining import Explanation, explain, said_object, tree_of


def _arguments(_context: click.Context, option: click.Parameter, text: str | None) -> JsonObject | None:
    try:
        return None if text is None else said_object(str(option.name), text)
    except CallerError as error:
        raise click.BadParameter(error.text) from None


def _tree(context: click.Context, option: click.Parameter, text: str | None) -> Tree:
    try:
        return tree_of(_arguments(context, option, text) or {})
    except CallerError as error:
        raise click.BadParameter(error.text) from None


async def _explained(
    declared: Declared, key: str, kind: str, name: str, arguments: JsonObject | None, *, tree: Tree
) -> Explanation:
    async with database_of(declared) as database:
        keys = Keys(database)
        registry = Registry(database, sealer(declared), keys)
        await registry.show(declared)
        catalog = registry.catalog
        of_file = next((spec for spec in declared.keys if spec.name == key), None)
        if (
            of_file is None or of_file.allow is None or of_file.user or of_file.team
        ):  # others have a say, who are stored
            principal = await keys.named(key)
        else:  # of what no hub has read yet no id is known
            stored = await keys.page(name=key, limit=None)
            key_id = next((one.key.id for one in stored if one.key.owner == "file"), key)
            principal = keys.under(Principal(id=key_id, name=key, grants=Grants.parse(of_file.allow)))
        kind, name = meant(catalog, kind, name, EVERYTHING)
        known = standing(catalog, kind, name, lambda path: build(catalog, principal.grants, path))
        said = explain(principal, kind, name, arguments, catalog.guards, tree=tree)
        return said.standing(known, is_operator=True)


@click.command("explain")
@click.argument("key")
@click.argument("kind", type=click.Choice(sorted(KINDS)))
@click.argument("name")
@click.option("--arguments", callback=_arguments, help="A JSON object: those of a call, which rules may look at.")
@click.option("--tree", callback=_tree, help='Where the call stands, such as {"hops": 1, "callers": ["agent:a"]}.')
@config_option
def explain_command(
    key: str, kind: str, name: str, arguments: JsonObject | None, tree: Tree, config: Path | None
) -> None:
    """Say which grant or rule decides whether KEY (name or id) may call NAME, such as `tool github__list_issues`."""
    with told():
        said = asyncio.run(_explained(declared_by(config), key, kind, name, arguments, tree=tree))
    click.echo(f"{said.answer.replace('_', ' ')}: {said.reason}.")
    click.echo("It is listed." if said.is_listed else "It is not listed.")
    for guard in said.guards:
        condition = f", when {guard.when}" if guard.when else ""
        click.echo(f"The guard {guard.name} looks at {' and '.join(guard.of)}: {guard.action}{condition}.")
