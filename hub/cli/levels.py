"""What `hubbub users` and `hubbub teams` have in common: what a level allows its keys, and how much of it may be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hub.cli.common import act, allow_option, bounds_options, config_option
from registry.callers.level_table import LevelTable
from registry.callers.levels import written
from registry.declared.entry_shapes import BoundsShape, BudgetShape, bounds
from registry.store.db import Database

Table = Callable[[Database], LevelTable[Any]]


def add_bounds(group: click.Group, table: Table, *, level: str, named: str, keys: str) -> None:
    """Add the commands `allow` and `limit`: `level` is what help calls one, `named` how it is found, `keys` what is bounded."""
    one = f"{level.upper()} ({named} or id)"

    @group.command("allow", help=f"Have {one} allow {keys} what --allow says; without any, it bounds nothing.")
    @click.argument(level)
    @allow_option(keys)
    @config_option
    def _allow(allow: tuple[str, ...] | None, config: Path | None, **found: str) -> None:
        name = found[level]
        act(config, lambda database: table(database).change(name, allow=written(allow)))
        click.echo(f"{name} allows {' '.join(allow)} now." if allow else f"{name} bounds nothing now.")

    text = f"""Have {one} use what --limit and --budget say, and no more; without any, as much as there is.
    It is in place of what was said before."""

    @group.command("limit", help=text)
    @click.argument(level)
    @bounds_options(f"all {keys} together")
    @config_option
    def _limit(limits: BoundsShape, budget: BudgetShape | None, config: Path | None, **found: str) -> None:
        name, counted = found[level], bounds(limits, budget).written()
        act(config, lambda database: table(database).change(name, bounds=counted))
        click.echo(f"{name} is limited now." if counted else f"{name} is unlimited now.")
