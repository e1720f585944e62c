"""`python -m tests.known_prices`: writes llm/known_prices.json from the genai-prices that is installed. A test fails when it is stale."""

from __future__ import annotations

import dataclasses
from datetime import date, time
from decimal import Decimal
from typing import Any

from genai_prices.data import providers
from genai_prices.types import ModelPrice

from llm.known_prices import SHIPPED
from llm.price_table import compact


def raw(value: Any) -> Any:
    """The library's objects as its data file writes them."""
    if isinstance(value, ModelPrice):
        return {name: raw(price) for name, price in vars(value).items()}
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return {name.rstrip("_"): raw(getattr(value, name)) for name in names}
    if isinstance(value, list):
        return [raw(item) for item in value]
    if isinstance(value, date | time):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def table() -> bytes:
    return compact(raw(provider) for provider in providers)


if __name__ == "__main__":
    SHIPPED.write_bytes(table())
