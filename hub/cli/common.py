"""What commands share: the --config option, errors as one line for the person who can act, and the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
from click.core import ParameterSource

from hub.settings import find, load
from registry.access import GrantInvalid, Grants
from registry.auditing.audit import MAX_TEXT, Audit
from registry.declared.config import ConfigInvalid, Declared
from registry.declared.entry_shapes import BoundsShape, BudgetShape
from registry.errors import HubError
from registry.identity import OPERATOR
from registry.limits import MOST, Bounds
from registry.members import MAX_AMOUNT
from registry.sealed.secrets import SecretKeyInvalid
from registry.store.db import Database, DatabaseUnsupported, open_database, open_engine
from registry.store.schema import DatabaseUnavailable, SchemaNewer, migrate

Command = TypeVar("Command", bound=Callable[..., object])
T = TypeVar("T")

_NO_LIMITS = {"pace", "usd", "per", "warn_at", "limits_warn_at"}
"""Members of `Bounds` that `bounded` says otherwise, or not: when there are warnings."""


def config_option(command: Command) -> Command:
    """Add `--config`."""
    return click.option(
        "--config", type=click.Path(path_type=Path), help="The file to use; default: ./hub.yaml if there is one."
    )(command)


def allow_option(whose: str) -> Callable[[Command], Command]:
    """Add `--allow`, which may be repeated, of a level above keys; without one it is None."""

    def read(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...] | None:
        try:
            Grants.parse(texts)
        except GrantInvalid as error:
            raise click.BadParameter(str(error)) from None
        return texts or None

    text = f"What {whose} may call at most, such as tool:github__* or model:*; repeatable. Default: it bounds nothing."
    return click.option("--allow", multiple=True, metavar="GRANT", callback=read, help=text)


def bounds_options(who: str) -> Callable[[Command], Command]:
    """Add `--limit`, which may be repeated, and `--budget`: what `registry.declared.entry_shapes.bounds` takes."""

    def add(command: Command) -> Command:
        text = f"How much {who} may use, such as calls_per_day=50; repeatable; default: unlimited."
        limit = click.option("--limit", "limits", multiple=True, metavar="NAME=MOST", callback=_limits, help=text)
        text = f"What {who} may cost, such as 10/month; default: unlimited."
        return limit(click.option("--budget", metavar="USD/SPAN", callback=_budget, help=text)(command))

    return add


def _limits(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> BoundsShape:
    said = dict(text.partition("=")[::2] for text in texts)
    try:
        return BoundsShape.model_validate(
            {name: float(most) if name == "warn_at" else int(most) for name, most in said.items()}
        )
    except ValueError:
        names = ", ".join(BoundsShape.model_fields)
        raise click.BadParameter(f"write it like calls_per_day=50, at most {MOST}; there are {names}") from None


def _budget(_context: click.Context, _option: click.Parameter, text: str | None) -> BudgetShape | None:
    if text is None:
        return None
    usd, _, per = text.partition("/")
    try:
        return BudgetShape.model_validate({"usd": float(usd), "per": per or "month"})
    except ValueError:
        raise click.BadParameter(
            f"write it like 10/month, at most {MAX_AMOUNT}; minute, day, week and year do too"
        ) from None


def checked(check: Callable[[str], str]) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """The callback of a text that `check` judges: what it raises `ValueError` for was typed wrong."""

    def read(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
        try:
            return None if text is None else check(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return read


def moment(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    """The callback of an option that is a moment: seconds since 1970. Without a time zone it is in UTC."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter("write it like 2030-01-31T00:00:00Z") from None


def day(at: float | None) -> str:
    """A moment for people, `-` for none."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%MZ") if at else "-"


@contextmanager
def told() -> Iterator[None]:
    """Turn failures that the user can mend into their text and exit status 1. Bugs keep their trace."""
    try:
        yield
    except ConfigInvalid as error:
        click.echo(str(error), err=True)
        raise click.ClickException(f"{_faults(len(error.faults))}; nothing was done.") from None
    except (DatabaseUnavailable, DatabaseUnsupported, SchemaNewer, SecretKeyInvalid, HubError) as error:
        raise click.ClickException(str(error)) from None


def _faults(count: int) -> str:
    return "1 fault" if count == 1 else f"{count} faults"


def declared_by(config: Path | None) -> Declared:
    """What the file declares; its notices go to stderr."""
    declared = load(find(config))
    for notice in declared.notices:
        click.echo(f"note: {notice}", err=True)
    return declared


def migrate_database(declared: Declared) -> None:
    """Bring the database to head, on a connection of its own."""
    engine = open_engine(declared.hub.database)
    try:
        migrate(engine)
    finally:
        engine.dispose()


@asynccontextmanager
async def database_of(declared: Declared) -> AsyncIterator[Database]:
    """Open the database that the file names, at head."""
    migrate_database(declared)
    async with open_database(declared.hub.database) as database:
        yield database


def on_database(config: Path | None, work: Callable[[Database], Awaitable[T]]) -> T:
    """Have `work` read something from the database that the file names."""

    async def run() -> T:
        async with database_of(declared_by(config)) as database:
            return await work(database)

    with told():
        return asyncio.run(run())


def act(config: Path | None, work: Callable[[Database], Awaitable[T]]) -> T:
    """Have `work` change something there, and the audit log say that this command did: what it was about, and which options it had."""
    context = click.get_current_context()
    command = f"hubbub {context.parent.info_name} {context.info_name}" if context.parent else "hubbub"
    thing = " ".join(_arguments(context))[:MAX_TEXT]
    options = ", ".join(sorted(_options(context) - {"config"}))

    async def run(database: Database) -> T:
        outcome = "failed"
        try:
            found = await work(database)
            outcome = "done"
        finally:
            await Audit(database).act(OPERATOR, command, thing, outcome=outcome, detail=options)
        return found

    return on_database(config, run)


def _arguments(context: click.Context) -> Iterator[str]:
    for parameter in context.command.params:
        if isinstance(parameter, click.Argument):
            said = context.params[str(parameter.name)]
            yield from said if isinstance(said, tuple) else (str(said),)


def _options(context: click.Context) -> set[str]:
    return {
        str(one.name)
        for one in context.command.params
        if isinstance(one, click.Option) and context.get_parameter_source(str(one.name)) is ParameterSource.COMMANDLINE
    }


def bounded(stored: str | None, **more: float | None) -> str:
    """What bounds say, as `--limit` and `--budget` write it; `more` are limits that are stored elsewhere, None: no such."""
    found = Bounds.stored(stored)
    counted = {name: most for name, most in found._asdict().items() if name not in _NO_LIMITS}
    limits = {"requests_per_minute": found.pace, **more, **counted}
    said = [f"{name}={most:.15g}" for name, most in limits.items() if most is not None]
    return " ".join(said if found.usd is None else [*said, f"{found.usd:.15g}/{found.per}"]) or "-"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Lay out rows in columns."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
    return "\n".join(line.rstrip() for line in lines)
