"""Cards: found, kept, renewed, with a clock of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jwt
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec

from agents import signing
from agents.bridges.accounts import Accounts
from agents.discovery import PLACES, Discovery
from agents.publishing import Publisher
from agents.speech import SPEECHES, Speech
from registry.egress.http import Egress
from registry.entries import Agent
from registry.errors import CardRefused, UpstreamError, UpstreamUnavailable
from registry.gate import Settled
from registry.ledger.approvals import Approvals
from registry.store.db import open_database
from registry.store.schema import migrate
from tests.conftest import served
from tests.peers.a2a_agent import reply, simple_card
from tests.recording import RecordingGate


@dataclass
class Cards:
    """A server of one card that does what the test says."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    path: str = "/.well-known/agent-card.json"
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        given = dict(scope["headers"]).get(b"if-none-match")
        self.asked.append((scope["path"], given and given.decode()))
        await self.open.wait()
        if scope["path"] != self.path:
            await reply(send, {}, status=404)
        elif given is not None and given.decode() == self.headers.get("etag"):
            await reply(send, b"", status=304, headers=self.headers)
        else:
            await reply(send, self.body or simple_card()(self.url), status=self.status, headers=self.headers)


@dataclass
class Bench:
    discovery: Discovery
    cards: Cards
    entry: Agent
    gate: RecordingGate
    now: float = 0.0


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with opened() as bench:
        yield bench


@asynccontextmanager
async def opened(approvals: Approvals | None = None) -> AsyncIterator[Bench]:
    settled: list[Settled] = []
    gate = RecordingGate(settled.append)
    cards = Cards()
    cards.open.set()
    egress = Egress()
    async with served(cards) as cards.url:
        bench: Bench
        discovery = Discovery(
            egress,
            accounts=Accounts(egress),
            gate=gate,
            publisher=Publisher(public_url="http://hub/"),
            approvals=approvals,
            clock=lambda: bench.now,
        )
        bench = Bench(discovery, cards, Agent(name="a", url=cards.url), gate)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(discovery.run())
            await asyncio.sleep(0)
            yield bench
            running.cancel()
    await egress.aclose()
    gate.check()
    assert not settled, "the hub's own calls leave no usage"


async def renewed(bench: Bench) -> None:
    """Ask, and wait until what that started has ended."""
    await bench.discovery.find(bench.entry)
    for _, task in list(bench.discovery._fetching.values()):
        await task


async def test_many_who_wait_cause_one_fetch(bench: Bench) -> None:
    bench.cards.open.clear()
    waiting = [asyncio.create_task(bench.discovery.find(bench.entry)) for _ in range(20)]
    waiting[0].cancel()
    bench.cards.open.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert len({id(one) for one in found[1:]}) == 1
    assert len(bench.cards.asked) == 1


async def test_card_is_renewed_by_its_etag_when_its_age_is_over(bench: Bench) -> None:
    bench.cards.headers = {"etag": '"v1"', "cache-control": "public, max-age=60"}
    await renewed(bench)
    bench.now = 59.0
    await renewed(bench)
    assert len(bench.cards.asked) == 1
    bench.now = 61.0
    await renewed(bench)
    assert bench.cards.asked[1] == ("/.well-known/agent-card.json", '"v1"')
    bench.now = 120.0
    await renewed(bench)
    assert len(bench.cards.asked) == 2


@pytest.mark.parametrize(
    ("stated", "fresh", "over"), [("max-age=1", 29, 31), ("max-age=999999", 3599, 3601), ("", 299, 301)]
)
async def test_age_of_a_card_stays_within_bounds(bench: Bench, stated: str, fresh: int, over: int) -> None:
    bench.cards.headers = {"cache-control": stated}
    await renewed(bench)
    bench.now = fresh
    await renewed(bench)
    assert len(bench.cards.asked) == 1
    bench.now = over
    await renewed(bench)
    assert len(bench.cards.asked) == 2


async def test_old_card_serves_while_renewing_fails(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    first = await bench.discovery.find(bench.entry)
    for status, body in ((500, {}), (200, b"<html>"), (404, {}), (401, {})):
        bench.cards.status, bench.cards.body = status, body
        bench.now += 3601
        await renewed(bench)
        again = await bench.discovery.find(bench.entry)
        assert again.published == first.published
    assert "could not be renewed" in caplog.text


async def test_new_card_replaces_the_old_one(bench: Bench) -> None:
    first = await bench.discovery.find(bench.entry)
    bench.cards.body = {**simple_card()(bench.cards.url), "name": "Other"}
    bench.now = 3601
    await renewed(bench)
    again = await bench.discovery.find(bench.entry)
    assert again.published is not None
    assert first.published is not None
    assert again.published.etag != first.published.etag
    assert b'"Other"' in again.published.body


async def test_changed_entry_is_asked_anew(bench: Bench) -> None:
    await bench.discovery.find(bench.entry)
    other = Agent(name="a", url=bench.cards.url, headers=(("x-new", "1"),))
    found = await bench.discovery.find(other)
    assert ("x-new", "1") in found.choose(SPEECHES[0]).headers
    assert len(bench.cards.asked) == 2


@pytest.mark.parametrize("place", PLACES)
async def test_card_is_found_wherever_platforms_put_it(bench: Bench, place: str) -> None:
    bench.cards.path = place
    found = await bench.discovery.find(bench.entry)
    assert found.published is not None
    assert [path for path, _ in bench.cards.asked] == list(PLACES[: PLACES.index(place) + 1])
    bench.now = 3601
    await renewed(bench)
    assert bench.cards.asked[-1][0] == place
    assert len(bench.cards.asked) == PLACES.index(place) + 2


async def test_address_of_a_card_may_be_given_for_the_agents(bench: Bench) -> None:
    bench.cards.path = "/x/.well-known/agent-card.json"
    bench.cards.body = {"name": "a", "url": "http://localhost/"}
    entry = Agent(name="a", url=f"{bench.cards.url}/x/.well-known/agent-card.json")
    found = await bench.discovery.find(entry)
    assert found.choose(Speech("JSONRPC", "0.3")).url == f"{bench.cards.url}/x"


async def test_agent_is_called_as_wished_or_in_what_the_hub_likes_best(bench: Bench) -> None:
    bench.cards.body = {
        "name": "a",
        "supportedInterfaces": [
            {"url": "/rest", "protocolBinding": "HTTP+JSON", "protocolVersion": "0.3", "tenant": "t"},
            {"url": "/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
        ],
    }
    found = await bench.discovery.find(bench.entry)
    rest, jsonrpc = Speech("HTTP+JSON", "0.3"), Speech("JSONRPC", "0.3")
    assert found.choose(rest) == found.routes[rest]
    assert (found.choose(rest).tenant, found.choose(rest).url) == ("t", f"{bench.cards.url}/rest")
    for speech in SPEECHES:
        if speech != rest:
            assert found.choose(speech).speech == jsonrpc


async def test_agent_that_speaks_nothing_known_is_not_called(bench: Bench) -> None:
    bench.cards.body = {"name": "a", "supportedInterfaces": [{"url": "/x", "protocolBinding": "urn:mine"}]}
    found = await bench.discovery.find(bench.entry)
    with pytest.raises(UpstreamError, match="lists no interface"):
        found.choose(SPEECHES[0])


@pytest.mark.parametrize("card", [None, {"name": "a", "skills": []}])
async def test_agent_whose_card_says_nothing_is_called_over_json_rpc_of_both_versions(bench: Bench, card: Any) -> None:
    bench.cards.path = "/nowhere" if card is None else bench.cards.path
    bench.cards.body = card
    found = await bench.discovery.find(bench.entry)
    assert set(found.routes) == {Speech("JSONRPC", "1.0"), Speech("JSONRPC", "0.3")}
    assert found.choose(SPEECHES[1]).url == f"{bench.entry.url}/"


async def test_card_that_is_too_large_is_refused(bench: Bench) -> None:
    bench.cards.body = {**simple_card()(bench.cards.url), "description": "x" * (1024 * 1024)}
    with pytest.raises(UpstreamError):
        await bench.discovery.find(bench.entry)


async def test_agent_that_is_down_is_asked_again_at_once(bench: Bench) -> None:
    down = Agent(name="a", url="http://127.0.0.1:9")
    with pytest.raises(UpstreamUnavailable):
        await bench.discovery.find(down)
    assert (await bench.discovery.find(bench.entry)).published is not None


@pytest.fixture
async def approvals(tmp_path: Path) -> AsyncIterator[Approvals]:
    async with open_database(f"sqlite:///{tmp_path}/hub.db") as database:
        migrate(database.engine)
        yield Approvals(database)


async def settled_fetches(bench: Bench) -> None:
    """Wait for the fetches that nobody waits for."""
    for _, task in list(bench.discovery._fetching.values()):
        await task


def changed_card(bench: Bench) -> Any:
    return {**simple_card()(bench.cards.url), "skills": [{"id": "new", "name": "n", "description": "d", "tags": []}]}


async def test_a_card_that_changed_since_it_was_first_seen_is_shown_as_changed(
    approvals: Approvals, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(approvals) as bench:
        assert (await bench.discovery.find(bench.entry)).changed == ()
        bench.cards.body = changed_card(bench)
        bench.now = 3601
        await renewed(bench)
        found = await bench.discovery.find(bench.entry)
        assert found.changed == ("skills",)
        assert found.choose(SPEECHES[0]).url == f"{bench.cards.url}/rpc", "it is shown, and no more"
        assert "changed" in caplog.text
        bench.cards.body = None
        bench.now = 7300
        await renewed(bench)
        assert (await bench.discovery.find(bench.entry)).changed == ()


@pytest.mark.attack("2.1/9", "2.2/31")
async def test_a_changed_agent_in_quarantine_is_not_called_until_it_is_approved(approvals: Approvals) -> None:
    async with opened(approvals) as bench:
        await bench.discovery.find(bench.entry)
        bench.cards.body = changed_card(bench)
        guarded = replace(bench.entry, quarantine_drift=True)
        found = await bench.discovery.find(guarded)
        for refused in (lambda: found.choose(SPEECHES[0]), lambda: found.published):
            with pytest.raises(CardRefused, match=r"changed \(skills\)"):
                refused()
        await bench.discovery.approve(guarded)
        again = await bench.discovery.find(guarded)
        assert again.choose(SPEECHES[0]).url == f"{bench.cards.url}/rpc"
        assert again.published is not None
        bench.now = 3601
        await bench.discovery.find(guarded)
        await settled_fetches(bench)
        assert (await bench.discovery.find(guarded)).changed == ()


async def test_approval_outlives_the_process_and_a_moved_agent_is_seen_anew(approvals: Approvals) -> None:
    async with opened(approvals) as bench:
        parts = (await bench.discovery.find(bench.entry)).parts
        assert parts is not None
        assert await approvals.changed("a", bench.entry.url, {**parts, "skills": "x"}) == ("skills",)
        assert await approvals.changed("a", "http://elsewhere", {**parts, "skills": "x"}) == ()


def signed(key: ec.EllipticCurvePrivateKey, members: dict[str, Any]) -> dict[str, Any]:
    protected, _, signature = jwt.api_jws.encode(rfc8785.dumps(members), key, "ES256").split(".")
    return {**members, "signatures": [{"protected": protected, "signature": signature}]}


@pytest.mark.attack("2.1/40", "2.2/34", defence="agents.signing:verified")
async def test_a_card_without_a_pinned_keys_signature_is_refused_and_the_old_one_serves_on(bench: Bench) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pinned = replace(bench.entry, card_keys=(json.dumps(signing._public_jwk(key)),))
    with pytest.raises(CardRefused, match="not signed by a key that the operator pinned"):
        await bench.discovery.find(pinned)
    bench.cards.body = signed(key, simple_card()(bench.cards.url))
    first = await bench.discovery.find(pinned)
    assert first.is_verified
    bench.cards.body = {**bench.cards.body, "name": "Evil"}
    bench.now = 3601
    await bench.discovery.find(pinned)
    await settled_fetches(bench)
    assert (await bench.discovery.find(pinned)).published == first.published


async def test_an_agent_with_pinned_keys_and_no_card_is_not_called(bench: Bench) -> None:
    bench.cards.path = "/nowhere"
    with pytest.raises(CardRefused):
        await bench.discovery.find(replace(bench.entry, card_keys=("{}",)))


async def test_card_and_grpc_may_be_where_the_operator_says(bench: Bench) -> None:
    bench.cards.path = "/cards/echo"
    entry = replace(bench.entry, card_url=f"{bench.cards.url}/cards/echo", grpc_url="grpc.example:443")
    found = await bench.discovery.find(entry)
    assert [path for path, _ in bench.cards.asked] == ["/cards/echo"]
    assert found.choose(Speech("GRPC", "1.0")).url == "http://grpc.example:443"


async def test_who_looks_without_waiting_finds_it_later(bench: Bench) -> None:
    assert bench.discovery.known(bench.entry) is None
    await settled_fetches(bench)
    assert bench.discovery.known(bench.entry) is not None


async def test_an_agent_that_fails_is_not_asked_by_each_who_looks(bench: Bench) -> None:
    bench.cards.body = {**simple_card()(bench.cards.url), "description": "x" * (1024 * 1024)}
    for _ in range(3):
        assert bench.discovery.known(bench.entry) is None
        await settled_fetches(bench)
    assert len(bench.cards.asked) == 1
    bench.now = 31
    bench.discovery.known(bench.entry)
    await settled_fetches(bench)
    assert len(bench.cards.asked) == 2
