"""What providers ask for their models, out of a table that ships with the hub, or one that the operator fetched.

The table is made of genai-prices' data (`price_table`), which would take half a second and 22 MB to import. It is
read when the first call of a model has ended, and of it only what that model's provider has; what it says of a model
is kept as numbers.
"""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from llm.providers.table import TABLE
from registry.entries import Model
from registry.prices import Price

logger = logging.getLogger(__name__)

SHIPPED = Path(__file__).with_name("known_prices.json")

MAX_REMEMBERED = 4096
"""Models whose price is remembered; names come from callers, where a wildcard lets them."""

STEP_S = 900
"""Prices that depend on the date or the time of day are looked up anew after this time."""

_WITHOUT_ADDRESS = {"azure": "azure", "bedrock": "aws", "cohere": "cohere", "vertexai": "google"}
"""Providers that are reached by a library, by the table's names for them."""

_RATES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "cache_write",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
}
"""The table's names of prices for a million tokens."""

_PER_THOUSAND_CALLS = "requests_kcount"


class _Tiers(msgspec.Struct):
    base: float
    tiers: list[tuple[int, float]]


_Prices = dict[str, float | _Tiers]


class _When(msgspec.Struct):
    """One price of a model. Of several the last that holds is meant, else the first."""

    prices: _Prices
    since: str | None = None
    """The day from which on it holds, UTC."""
    daily: tuple[str, str] | None = None
    """The times of day between which it holds, UTC."""

    def holds(self, now: datetime) -> bool:
        if self.since is not None:
            return now.date().isoformat() >= self.since
        if self.daily is None:
            return True
        begin, end = self.daily
        clock = now.time().isoformat("seconds")
        return begin <= clock < end if begin <= end else clock >= begin or clock < end


class _Provider(msgspec.Struct):
    id: str
    address: str
    """What its addresses look like."""
    fallback: list[str]
    """Whose models it offers too."""
    models: msgspec.Raw


_Clause = dict[str, Any]
_table = msgspec.json.Decoder(list[_Provider])
_models = msgspec.json.Decoder(list[tuple[_Clause, list[_When]]])


class KnownPrices:
    """What calls of models cost. One for a process."""

    def __init__(self, file: Path = SHIPPED, *, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._found: OrderedDict[tuple[str, str], tuple[float, Price | None]] = OrderedDict()

    def of(self, model: Model) -> Price | None:
        """What a call of `model` costs now: as its entry says, else as is known; None: it is not."""
        if model.price is not None:
            return model.price
        row = TABLE.get(model.provider)
        where = model.base_url or (row.base_url if row is not None else None) or model.provider
        now = self._clock()
        found = self._found.get((where, model.model))
        if found is None or now - found[0] > STEP_S:
            found = now, self._read(where, model.model)
            self._found[where, model.model] = found
            if len(self._found) > MAX_REMEMBERED:
                self._found.popitem(last=False)
        return found[1]

    def _read(self, where: str, model: str) -> Price | None:
        try:
            providers = {provider.id: provider for provider in read_table(self._file.read_bytes())}
        except (OSError, ValueError) as error:
            logger.warning("prices cannot be read, costs are not known", extra={"reason": str(error)})
            return None
        provider = _provider(providers, where)
        if provider is None:
            return None
        now = datetime.fromtimestamp(self._clock(), UTC)
        for name in _spellings(model.lower()):
            for offering in (provider, *(providers[other] for other in provider.fallback if other in providers)):
                for clause, prices in _models.decode(offering.models):
                    if _matches(clause, name):
                        return _price(_now(prices, now))
        return None


def read_table(data: bytes) -> list[_Provider]:
    """Read a table; raises `ValueError` for anything else."""
    return _table.decode(data)


def _provider(providers: Mapping[str, _Provider], where: str) -> _Provider | None:
    if "://" not in where:
        return providers.get(_WITHOUT_ADDRESS.get(where, ""))
    return next((found for found in providers.values() if re.match(found.address, where)), None)


def _spellings(model: str) -> Iterator[str]:
    """The name, and the same with a date in it written as the table writes dates."""
    yield model
    dashed = re.sub(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)", r"-\1-\2-\3", model)
    if dashed != model:
        yield dashed


def _matches(clause: _Clause, name: str) -> bool:
    ((kind, value),) = clause.items()
    if kind == "or":
        return any(_matches(one, name) for one in value)
    if kind == "and":
        return all(_matches(one, name) for one in value)
    return _MATCH[kind](value, name)


_MATCH: dict[str, Callable[[str, str], bool]] = {
    "equals": lambda text, name: name == text.lower(),
    "starts_with": lambda text, name: name.startswith(text.lower()),
    "ends_with": lambda text, name: name.endswith(text.lower()),
    "contains": lambda text, name: text.lower() in name,
    "regex": lambda text, name: re.search(text, name) is not None,
}


def _now(prices: list[_When], now: datetime) -> _Prices:
    return next((one for one in reversed(prices) if one.holds(now)), prices[0]).prices


def _price(prices: _Prices) -> Price | None:
    """The price in numbers; None for what is not paid by tokens or calls."""
    if not prices.keys() & {"input_mtok", "output_mtok", _PER_THOUSAND_CALLS}:
        return None
    steps = sorted({least for found in prices.values() if isinstance(found, _Tiers) for least, _ in found.tiers})
    return _rates(prices, 0, tuple((least, _rates(prices, least + 1)) for least in steps))


def _rates(prices: _Prices, given: int, above: tuple[tuple[int, Price], ...] = ()) -> Price:
    """The price of a call with `given` tokens of input."""
    rates = {rate: _rate(prices[name], given) for name, rate in _RATES.items() if name in prices}
    call = _rate(prices.get(_PER_THOUSAND_CALLS, 0.0), given) / 1000
    return Price(**rates, call=call, above=above)


def _rate(price: float | _Tiers, given: int) -> float:
    if not isinstance(price, _Tiers):
        return price
    return next((higher for least, higher in reversed(price.tiers) if given > least), price.base)
