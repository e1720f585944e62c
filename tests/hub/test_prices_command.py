"""`hubbub prices update`: from genai-prices' data, as it is published, to a table that the hub uses."""

from __future__ import annotations

import json
from pathlib import Path

from genai_prices.data import providers

from llm.known_prices import SHIPPED, KnownPrices
from registry.entries import Model
from registry.gate import Usage
from tests.known_prices import raw
from tests.peers.http_peer import always, listening
from tests.processes import hubbub


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def test_fetched_prices_are_those_that_ship_when_the_data_is_the_same(tmp_path: Path) -> None:
    published = json.dumps([raw(provider) for provider in providers], default=list).encode()
    async with listening(always(answer(published))) as peer:
        code, printed = await hubbub("prices", "update", "--from", peer.url, directory=tmp_path)
    assert code == 0, printed
    assert "hub: {prices: prices.json}" in printed
    assert (tmp_path / "prices.json").read_bytes() == SHIPPED.read_bytes()


async def test_the_file_of_the_setting_is_written_and_used(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text("hub: {prices: ./mine.json}\n")
    model = {"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": 3, "output_mtok": 4}}
    data = [{"id": "one", "api_pattern": "https://api\\.one", "models": [model]}]
    code, printed = await hubbub("check", directory=tmp_path)
    assert code == 1
    assert "hub.prices: cannot be read" in printed
    (tmp_path / "mine.json").write_text("[]")
    async with listening(always(answer(json.dumps(data).encode()))) as peer:
        code, printed = await hubbub("prices", "update", "--from", peer.url, directory=tmp_path)
    assert (code, printed.strip()) == (0, "mine.json has the prices of 1 models.")
    entry = Model(name="m", provider="openai_compatible", model="m", base_url="https://api.one/v1")
    price = KnownPrices(tmp_path / "mine.json").of(entry)
    assert price is not None
    assert price.cost(Usage(1_000_000, 1_000_000)) == 7


async def test_what_is_no_data_of_prices_changes_nothing(tmp_path: Path) -> None:
    for body, status in ((b"[{}]", "200 OK"), (b"<html>", "200 OK"), (b"no", "404 Not Found")):
        async with listening(always(answer(body, status))) as peer:
            code, printed = await hubbub("prices", "update", "--from", peer.url, directory=tmp_path)
        assert code == 1, printed
        assert "Traceback" not in printed
        assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_gone_or_garbled_leaves_costs_unknown(tmp_path: Path) -> None:
    entry = Model(name="m", provider="openai", model="gpt-4o")
    assert KnownPrices(tmp_path / "gone.json").of(entry) is None
    (tmp_path / "garbled.json").write_text('[{"id": 1}]')
    assert KnownPrices(tmp_path / "garbled.json").of(entry) is None
