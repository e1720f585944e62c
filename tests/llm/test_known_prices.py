"""What the hub's table says of every model is what genai-prices says, from whose data it is made."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices.data import providers
from genai_prices.types import ModelInfo, Provider

from llm.known_prices import SHIPPED, STEP_S, KnownPrices
from llm.price_table import compact
from llm.providers.table import TABLE
from registry.entries import Model
from registry.gate import Usage
from registry.prices import Price, priced
from tests.known_prices import table

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NIGHT = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)
ADDRESSES = {"azure": "https://mine.openai.azure.com/openai/v1", "google": "https://aiplatform.googleapis.com/v1"}
USED = (
    Usage(input_tokens=1200, output_tokens=345),
    Usage(input_tokens=300_000, output_tokens=7, cached_tokens=1000),
    Usage(input_tokens=9000, output_tokens=800, cached_tokens=1000, cache_written_tokens=400),
    Usage(input_tokens=900, output_tokens=800, audio_input_tokens=90, audio_output_tokens=80),
)


def known(now: datetime, provider: str, model: str) -> Price | None:
    entry = Model(name="m", provider="openai_compatible", model=model, base_url=provider)
    return KnownPrices(clock=now.timestamp).of(entry)


def theirs(model: ModelInfo, provider: Provider, used: Usage, now: datetime) -> float:
    counts = {
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "cache_read_tokens": used.cached_tokens,
        "cache_write_tokens": used.cache_written_tokens,
        "input_audio_tokens": used.audio_input_tokens,
        "output_audio_tokens": used.audio_output_tokens,
    }
    found = model.calc_price(TheirUsage(**counts), provider, genai_request_timestamp=now)
    return float(found.total_price)


def test_the_table_is_that_of_the_installed_genai_prices() -> None:
    assert SHIPPED.read_bytes() == table(), "run `make prices`"


@pytest.mark.parametrize(
    ("address", "provider"),
    [(row.base_url, name) for name, row in TABLE.items() if row.base_url and not row.base_url.startswith("http://")]
    + [(address, name) for name, address in ADDRESSES.items()],
)
def test_models_cost_what_genai_prices_says(address: str, provider: str) -> None:
    found = next((one for one in providers if re.match(one.api_pattern, address)), None)
    if found is None:
        assert known(NOON, address, "gpt-4o") is None
        return
    for model in found.models[:: 1 + len(found.models) // 100]:
        first = found.find_model(model.id, all_providers=providers)
        assert first is None or first in found.models
        for now in (NOON, NIGHT) if isinstance(model.prices, list) else (NOON,):
            price = known(now, address, model.id)
            if first is None or price is None:
                continue
            for used in USED:
                assert price.cost(used) == pytest.approx(theirs(first, found, used, now)), (model.id, used)


def test_a_model_of_another_provider_is_found_where_it_is_offered_too() -> None:
    price = known(NOON, ADDRESSES["azure"], "gpt-4o")
    assert price is not None
    assert price == known(NOON, "https://api.openai.com/v1", "gpt-4o")


def test_a_date_in_a_name_may_be_written_without_dashes() -> None:
    assert known(NOON, "https://api.openai.com/v1", "gpt-4o-20240806") == known(
        NOON, "https://api.openai.com/v1", "gpt-4o-2024-08-06"
    )


def test_a_service_of_unknown_prices_has_none_whatever_its_models_are_called() -> None:
    assert known(NOON, "http://127.0.0.1:8000/v1", "gpt-4o") is None
    assert known(NOON, "https://api.openai.com/v1", "no-such-model") is None
    assert priced(None, Usage(input_tokens=1)).cost_usd is None


def test_the_operators_price_wins_and_needs_no_table(tmp_path: Path) -> None:
    own = Price(input=2.5, output=10.0, cached=1.0)
    entry = Model(name="m", provider="openai", model="gpt-4o", price=own)
    assert KnownPrices(tmp_path / "absent.json").of(entry) is own
    assert own.cost(Usage(input_tokens=1000, output_tokens=100, cached_tokens=400)) == pytest.approx(0.0029)
    assert own.cost(Usage()) is None


def test_reasoning_and_calls_can_have_a_price_of_their_own() -> None:
    price = Price(input=1.0, output=2.0, reasoning=4.0, call=0.5)
    assert price.cost(Usage(input_tokens=0, output_tokens=1_000_000, reasoning_tokens=250_000)) == pytest.approx(3.0)


def test_what_depends_on_the_time_of_day_is_looked_up_again(tmp_path: Path) -> None:
    daily = {"start_time": "08:00:00Z", "end_time": "20:00:00Z"}
    prices = [
        {"constraint": None, "prices": {"input_mtok": 1, "output_mtok": 1}},
        {"constraint": daily, "prices": {"input_mtok": 2, "output_mtok": 2}},
        {"constraint": {"start_date": "2026-12-01"}, "prices": {"input_mtok": 3, "output_mtok": 3}},
    ]
    model = {"id": "m", "match": {"equals": "m"}, "prices": prices}
    file = tmp_path / "prices.json"
    file.write_bytes(compact([{"id": "one", "api_pattern": "https://api\\.one", "models": [model]}]))
    now = [datetime(2026, 11, 20, 7, 55, tzinfo=UTC).timestamp()]
    asked = KnownPrices(file, clock=lambda: now[0])
    entry = Model(name="m", provider="openai_compatible", model="M", base_url="https://api.one/v1")
    seen = []
    for wait in (0, STEP_S / 2, STEP_S, 12 * 3600, 11 * 86400):
        now[0] += wait
        price = asked.of(entry)
        assert price is not None
        seen.append(price.input)
    assert seen == [1, 1, 2, 1, 3]


def test_data_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="not genai-prices' data"):
        compact([{"name": "one"}])
