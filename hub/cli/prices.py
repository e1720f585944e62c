"""`hubbub prices`: a newer table of prices than the one that ships with the hub. Nothing else ever fetches prices."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from hub.cli.common import config_option, declared_by, told
from llm.known_prices import read_table
from llm.price_table import compact
from registry.declared.config import Declared
from registry.egress.guard import Guard
from registry.egress.http import Deadlines, Egress, Outgoing
from registry.errors import UpstreamInvalid
from registry.gate import Gate
from registry.identity import HUB
from registry.limits import Limit

SOURCE = "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json"
FILE = Path("prices.json")


class _Source(NamedTuple):
    """What the gate sees of the place that prices are fetched from."""

    grant_name: str = "prices"
    kind: str = "server"
    limits: tuple[Limit, ...] = ()
    call_usd: float | None = None


@click.group("prices")
def prices_command() -> None:
    """Fetch what models cost now."""


@prices_command.command("update")
@click.option("--from", "source", default=SOURCE, help="Where genai-prices' data is; default: its repository.")
@click.option(
    "--to", "file", type=click.Path(path_type=Path), help="Default: the file of hub.prices, else prices.json."
)
@config_option
def _update(source: str, file: Path | None, config: Path | None) -> None:
    """Fetch genai-prices' current data, and write the table that `hub.prices` names."""
    with told():
        declared = declared_by(config)
        target = file or (Path(declared.hub.prices) if declared.hub.prices else FILE)
        data = asyncio.run(_fetched(source, declared))
        try:
            table = compact(msgspec.json.decode(data))
            models = sum(len(msgspec.json.decode(provider.models)) for provider in read_table(table))
        except ValueError as error:
            raise UpstreamInvalid("prices", str(error)) from None
    target.write_bytes(table)
    click.echo(f"{target} has the prices of {models} models.")
    if declared.hub.prices is None:
        click.echo(f"To use them, write in hub.yaml:  hub: {{prices: {target}}}")


async def _fetched(source: str, declared: Declared) -> bytes:
    hub = declared.hub
    guard = Guard(tuple(ip_network(network) for network in hub.egress_allow))
    egress = Egress(Deadlines(connect_s=hub.limits.connect_s, first_byte_s=60.0), guard=guard, proxy=hub.egress_proxy)
    try:
        with Gate(lambda _settled: None).admit(HUB, _Source()) as permit:
            async with egress.send(permit, Outgoing(url=source, method="GET")) as incoming:
                if incoming.status != 200:
                    raise UpstreamInvalid("prices", f"they are not there (HTTP {incoming.status})")
                return await incoming.read()
    finally:
        await egress.aclose()
