"""Makes the hub's table of prices out of genai-prices' data file, `data.json`. Pure.

What is left out is not charged by tokens or calls (searches, pages, images, hours), or belongs to service tiers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

KEPT = frozenset(
    {
        "input_mtok",
        "output_mtok",
        "cache_read_mtok",
        "cache_write_mtok",
        "output_reasoning_mtok",
        "input_audio_mtok",
        "output_audio_mtok",
        "requests_kcount",
    }
)


def compact(providers: Iterable[Mapping[str, Any]]) -> bytes:
    """The table of `llm.known_prices`; raises `ValueError` for data of another shape."""
    try:
        table = [_provider(provider) for provider in providers]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"this is not genai-prices' data: {error!r}") from None
    return b"[\n" + b",\n".join(msgspec.json.encode(provider) for provider in table) + b"\n]\n"


def _provider(provider: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": provider["id"],
        "address": provider["api_pattern"],
        "fallback": provider.get("fallback_model_providers") or [],
        "models": [[model["match"], _prices(model["prices"])] for model in provider["models"]],
    }


def _prices(found: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(found, Mapping):
        return [{"prices": _kept(found)}]
    return [{"prices": _kept(one["prices"]), **_when(one.get("constraint"))} for one in found]


def _kept(prices: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _number(price) for name, price in prices.items() if name in KEPT and price is not None}


def _number(price: Any) -> Any:
    if not isinstance(price, Mapping):
        return float(price)
    tiers = sorted((tier["start"], float(tier["price"])) for tier in price["tiers"])
    return {"base": float(price["base"]), "tiers": tiers}


def _when(constraint: Mapping[str, Any] | None) -> dict[str, Any]:
    if constraint is None:
        return {}
    if "start_date" in constraint:
        return {"since": constraint["start_date"]}
    return {"daily": [_clock(constraint["start_time"]), _clock(constraint["end_time"])]}


def _clock(text: str) -> str:
    """A time of day of UTC, without its zone."""
    if not text.endswith(("Z", "+00:00")):
        raise ValueError(f"{text} is not UTC")
    return text[:8]
