"""Cards written to harm the hub or its readers. A card that froze the hub would freeze these tests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agents import cards
from agents.cards import Offer
from agents.speech import SPEECHES
from tests.conftest import OpenHub
from tests.peers.a2a_agent import Seen, reply, rough_agent, simple_card

ADDRESS = "https://hub.example/a2a/x/"
CONFIGURED = "http://10.1.2.3:9000/"


def published(**members: Any) -> dict[str, Any]:
    card = cards.card_of({"name": "x", "url": CONFIGURED, "skills": [], **members})
    assert card is not None
    return cards.build(card, configured=CONFIGURED, offer=Offer(agent="x", address=ADDRESS))


@pytest.mark.parametrize(
    "piece", ["a", "a:", "//", "a@", "[", "10.1.2.", "10.1.2.3.", "10.1.2.3x", "agent,", "http:", "%2f", ".", "é"]
)
@pytest.mark.attack("2.1/29", "2.2/17")
def test_no_text_of_a_card_takes_more_than_linear_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    card = published(description=f"{text} http://10.1.2.3:9000/", additionalInterfaces=[{"url": "http://agent/"}])
    assert "10.1.2.3:9000" not in json.dumps(card)


def test_a_card_that_names_hundreds_of_addresses_is_none() -> None:
    interfaces = [{"url": f"http://h{number}.example/", "transport": "JSONRPC"} for number in range(500)]
    assert cards.card_of({"name": "x", "url": CONFIGURED, "additionalInterfaces": interfaces}) is None


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", " javascript:alert(1)", "vbscript:x"])
@pytest.mark.attack("2.1/35", "2.2/21")
def test_no_link_of_a_card_runs_in_its_readers_browser(url: str) -> None:
    card = published(documentationUrl=url, iconUrl=url, provider={"organization": "o", "url": url})
    assert url.strip() not in json.dumps(card)


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "/@evil.example", "/../../admin", "/;/evil"])
@pytest.mark.attack("2.2/31", "2.2/32")
def test_no_path_of_a_card_leaves_the_configured_origin(path: str) -> None:
    interface = cards.Interface(f"http://other.example{path}")
    for speech in SPEECHES:
        url = cards.endpoint(CONFIGURED, interface, speech)
        assert url is None or url.startswith("http://10.1.2.3:9000/")


@pytest.mark.attack("2.1/30")
async def test_an_extended_card_of_any_size_is_no_card_beyond_the_bound(hub: OpenHub) -> None:
    async def answer(seen: Seen, send: Any) -> None:
        result = {**simple_card("1.0")("http://x.example"), "description": "x" * (2 << 20)}
        await reply(send, {"jsonrpc": "2.0", "id": seen.json["id"], "result": result})

    async with (
        rough_agent(answer, simple_card("1.0")) as agent,
        hub(f"agents:\n  rough: {{url: '{agent.url}'}}\n") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        asked = {"jsonrpc": "2.0", "id": 1, "method": "GetExtendedAgentCard", "params": {}}
        refused = await http.post("/a2a/rough", json=asked)
    assert refused.json()["error"]["code"] == -32006
