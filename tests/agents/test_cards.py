"""Cards: read tolerantly, built anew, accepted by both generations of clients."""

from __future__ import annotations

import json
from typing import Any

import pytest
from a2a.client.card_resolver import parse_agent_card
from a2a.compat.v0_3.types import AgentCard as OldCard
from hypothesis import given
from hypothesis import strategies as st

from agents import cards
from agents.cards import Interface, Offer
from agents.speech import SPEECHES, Speech, Version

ADDRESS = "https://hub.example/a2a/echo/"
UPSTREAM = "http://agent.internal:9000"


def published(members: Any, configured: str = UPSTREAM, **offer: Any) -> dict[str, Any]:
    card = cards.card_of(members)
    assert card is not None
    offered = Offer(agent="echo", address=ADDRESS, **offer)
    return cards.with_old_members(cards.build(card, configured=configured, offer=offered))


def hostile(leak: str) -> dict[str, Any]:
    """A card with an address in every member that the protocol knows, and in some that it does not."""
    return {
        "name": f"Echo {leak}",
        "description": f"See {leak}/docs, or ask ({leak}).",
        "version": leak,
        "url": leak,
        "protocolVersion": "0.3.0",
        "preferredTransport": "JSONRPC",
        "additionalInterfaces": [{"url": f"{leak}/grpc", "transport": "GRPC"}],
        "supportedInterfaces": [
            {"url": f"{leak}/rpc", "protocolBinding": "jsonrpc", "protocolVersion": "1.0", "tenant": leak},
            {"url": f"{leak}/rest", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"},
        ],
        "provider": {"organization": f"Us {leak}", "url": f"{leak}/about", "more": leak},
        "iconUrl": f"{leak}/icon.png",
        "documentationUrl": f"{leak}/docs",
        "capabilities": {
            "streaming": True,
            "pushNotifications": True,
            "extensions": [
                {"uri": f"{leak}/ext", "description": "dropped"},
                {
                    "uri": "urn:kept",
                    "description": f"at {leak}",
                    "required": True,
                    "params": {leak: [{"deep": {"er": leak, "n": 2**60}}], "upper": leak.upper()},
                },
            ],
            "more": leak,
        },
        "securitySchemes": {"oauth": {"type": "oauth2", "flows": {"implicit": {"authorizationUrl": leak}}}},
        "security": [{leak: [leak]}],
        "securityRequirements": [{"schemes": {"oauth": {"list": [leak]}}}],
        "defaultInputModes": ["text/plain", leak],
        "defaultOutputModes": [leak],
        "skills": [
            {
                "id": leak,
                "name": leak,
                "description": leak,
                "tags": [leak],
                "examples": [leak],
                "inputModes": [leak],
                "outputModes": [leak],
                "security": [{"oauth": [leak]}],
                "more": leak,
            }
        ],
        "signatures": [{"protected": leak, "signature": leak}],
        "supportsAuthenticatedExtendedCard": True,
        "unknown": {"deep": [leak]},
    }


@pytest.mark.parametrize(
    ("leak", "host"),
    [
        (UPSTREAM, "agent.internal"),
        ("http://10.1.2.3:9000", "10.1.2.3"),
        ("http://localhost:9000", "localhost:9000"),
        ("http://agent:9000", "agent:9000"),
        ("http://agent", "//agent"),
        ("http://user:pw@agent.internal:9000", "agent.internal"),
        ("http://[fd00::1]:9000", "fd00::1"),
        ("http%3A%2F%2Fagent.internal%3A9000", "agent.internal"),
    ],
)
def test_no_upstream_address_survives_in_any_member(leak: str, host: str) -> None:
    text = json.dumps(published(hostile(leak), configured=leak if "://" in leak else UPSTREAM)).lower()
    assert host not in text
    assert "urn:kept" in text
    assert str(2**60) in text


def test_address_of_an_interface_is_an_upstream_address_too() -> None:
    text = json.dumps(published(hostile("http://elsewhere.internal:1"), configured=UPSTREAM))
    assert "elsewhere.internal" not in text


def test_words_that_look_like_the_host_stay() -> None:
    card = published(
        {"name": "agent", "description": "An agent: it helps.", "url": "http://agent:9000"}, "http://agent:9000"
    )
    assert (card["name"], card["description"]) == ("agent", "An agent: it helps.")


@pytest.mark.parametrize("members", [hostile(UPSTREAM), {"name": "Bare", "url": UPSTREAM}])
def test_clients_of_both_generations_accept_the_card(members: Any) -> None:
    card = published(members)
    old = OldCard.model_validate(card)
    assert (old.url, old.capabilities.push_notifications) == (ADDRESS, True)
    new = parse_agent_card(json.loads(json.dumps(card)))
    assert {one.url for one in new.supported_interfaces} == {ADDRESS}
    assert new.capabilities.push_notifications
    assert new.security_schemes["hubbub"].http_auth_security_scheme.scheme == "bearer"
    assert not new.signatures


JSONRPC, REST, GRPC, OLD_JSONRPC, OLD_REST = SPEECHES


@pytest.mark.parametrize(
    ("members", "spoken"),
    [
        ({"url": "http://a.example/"}, {OLD_JSONRPC: "http://a.example/"}),
        ({"url": "http://a.example/", "preferredTransport": "GRPC"}, {}),
        (
            {
                "url": "http://a.example/g",
                "preferredTransport": "GRPC",
                "additionalInterfaces": [
                    {"url": "http://a.example/j", "transport": "JSONRPC"},
                    {"url": "http://a.example/r", "transport": "HTTP+JSON"},
                    {"url": "http://a.example/second", "transport": "JSONRPC"},
                ],
            },
            {OLD_JSONRPC: "http://a.example/j", OLD_REST: "http://a.example/r"},
        ),
        ({"supportedInterfaces": [{"url": "http://a.example/", "protocolBinding": "jsonrpc"}]}, {JSONRPC: "http://a.example/"}),
        ({"supportedInterfaces": [{"url": "/rpc", "protocolBinding": "json-rpc"}]}, {JSONRPC: "/rpc"}),
        (
            {
                "supportedInterfaces": [
                    {"url": "a.example:81", "protocolBinding": "grpc"},
                    {"url": "http://a.example/", "protocolBinding": "http+json"},
                    {"url": "http://a.example/o", "protocolBinding": "REST", "protocolVersion": "0.3.0"},
                    {"url": "a.example:82", "protocolBinding": "GRPC", "protocolVersion": "0.3"},
                    {"url": "http://a.example/x", "protocolBinding": "https://bindings.example/mine"},
                ]
            },
            {GRPC: "a.example:81", REST: "http://a.example/", OLD_REST: "http://a.example/o"},
        ),
        (
            {"protocolVersion": "0.3.0", "supportedInterfaces": [{"url": "http://a.example/", "protocolBinding": "JSONRPC"}]},
            {OLD_JSONRPC: "http://a.example/"},
        ),
        ({"supportedInterfaces": [{"url": 7, "protocolBinding": "JSONRPC"}, "x", None]}, {}),
        ({"supportedInterfaces": [{"url": "http://[bad", "protocolBinding": "JSONRPC"}]}, {}),
        ({"supportedInterfaces": [{"url": "//evil.example", "protocolBinding": "JSONRPC"}]}, {}),
        ({"capabilities": {}}, {}),
    ],
)  # fmt: skip
def test_interfaces_are_read_tolerantly(members: Any, spoken: dict[Speech, str]) -> None:
    card = cards.card_of({"name": "A", **members})
    assert card is not None
    assert {speech: one.url for speech, one in card.interfaces.items()} == spoken


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"name":1,"url":"x"}', b'{"name":"a"}', b"<html>", b"[" * 100000]
)
def test_what_is_not_a_card_is_none(data: bytes) -> None:
    assert cards.read_card(data) is None


def test_every_agent_is_offered_in_all_that_the_hub_speaks() -> None:
    members = {"name": "A", "supportedInterfaces": [{"url": "h:1", "protocolBinding": "GRPC"}]}
    new = published(members, grpc="hub.example:4001")
    assert [(one["url"], one.get("tenant")) for one in new["supportedInterfaces"]] == [
        (ADDRESS, None), (ADDRESS, None), ("hub.example:4001", "echo"), (ADDRESS, None), (ADDRESS, None)
    ]  # fmt: skip
    assert [(one["protocolBinding"], one["protocolVersion"]) for one in new["supportedInterfaces"]] == list(SPEECHES)
    assert new["capabilities"]["pushNotifications"] is True
    assert (new["url"], new["preferredTransport"]) == (ADDRESS, "JSONRPC")
    assert [one["transport"] for one in new["additionalInterfaces"]] == ["JSONRPC", "HTTP+JSON"]
    assert len(parse_agent_card(json.loads(json.dumps(new))).supported_interfaces) == 5
    assert OldCard.model_validate(new).additional_interfaces[1].url == ADDRESS
    without = published(members)
    assert "GRPC" not in json.dumps(without)


@pytest.mark.parametrize(
    ("configured", "named", "called"),
    [
        ("http://a.example/base", "http://a.example/rpc", "http://a.example/rpc"),
        ("http://a.example/base", "http://a.example/", "http://a.example/"),
        ("http://a.example/base", "/rpc", "http://a.example/rpc"),
        ("http://a.example:81", "http://localhost:9999/rpc?x=1", "http://a.example:81/rpc?x=1"),
        ("https://a.example/base", "http://localhost:9999/", "https://a.example/base"),
        ("https://a.example/base?assistant_id=7", "http://localhost", "https://a.example/base?assistant_id=7"),
        ("https://a.example", "https://evil.example//other.example/x", "https://a.example//other.example/x"),
    ],
)
def test_origin_is_the_operators_and_path_the_cards(configured: str, named: str, called: str) -> None:
    assert cards.endpoint(configured, Interface(named), JSONRPC) == called


@pytest.mark.parametrize(
    ("version", "named", "base"),
    [
        ("1.0", "http://a.example/rest/", "/rest"),
        ("1.0", "http://a.example/rest/message:send", "/rest"),
        ("1.0", "http://a.example/v1", "/v1"),
        ("1.0", "http://a.example/", "/"),
        ("0.3", "http://a.example/rest/v1", "/rest"),
        ("0.3", "http://a.example/rest/v1/message:stream", "/rest"),
        ("0.3", "http://a.example/v1/", "/"),
        ("0.3", "http://a.example/rest", "/rest"),
    ],
)
def test_operations_are_added_to_the_base_of_http_json(version: Version, named: str, base: str) -> None:
    called = cards.endpoint("http://a.example", Interface(named), Speech("HTTP+JSON", version))
    assert called == f"http://a.example{base}"


@pytest.mark.parametrize(
    ("configured", "named", "called"),
    [
        ("http://a.example/", "a.example:50051", "http://a.example:50051"),
        ("http://a.example/", "grpc://a.example:50051/", "http://a.example:50051"),
        ("http://a.example/", "dns:///a.example:50051", "http://a.example:50051"),
        ("http://a.example/", "grpcs://a.example:50051", "https://a.example:50051"),
        ("https://a.example/", "http://a.example:50051", "https://a.example:50051"),
        ("https://a.example/", "a.example", "https://a.example:443"),
        ("http://a.example/", "localhost:50051", "http://a.example:50051"),
        ("http://a.example/", "0.0.0.0:50051", "http://a.example:50051"),
        ("http://[fd00::1]:80/", "[::]:50051", "http://[fd00::1]:50051"),
        ("http://a.example/", "evil.example:50051", None),
        ("http://a.example/", "a.example:x", None),
    ],
)
def test_grpc_is_on_the_configured_host(configured: str, named: str, called: str | None) -> None:
    assert cards.endpoint(configured, Interface(named), GRPC) == called


def test_host_of_grpc_that_the_operator_wrote_counts() -> None:
    assert cards.grpc_endpoint("http://a.example", "b.example:1", is_operators=True) == "http://b.example:1"


def test_parts_of_a_card_change_with_what_they_say_and_not_with_its_order() -> None:
    def of(**members: Any) -> dict[str, str]:
        card = cards.card_of({"name": "a", "url": "http://a", "skills": [{"id": "x"}, {"id": "y"}], **members})
        assert card is not None
        return cards.parts(card)

    assert of() == of(skills=[{"id": "y"}, {"id": "x"}], description="other")
    changed = [("skills", {"skills": []}), ("security", {"security": [{}]}), ("interfaces", {"url": "http://a/b"})]
    for part, members in changed:
        assert {name for name, digest in of(**members).items() if digest != of()[name]} == {part}


def test_card_lies_below_the_configured_url() -> None:
    assert (
        cards.card_url("http://a.example/b/?q=1", "/.well-known/x.json") == "http://a.example/b/.well-known/x.json?q=1"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = sorted(hostile("x"))


@given(odd=st.dictionaries(st.sampled_from(MEMBERS), JSON))
def test_card_with_members_of_any_type_is_published_or_none(odd: Any) -> None:
    members = {**hostile(UPSTREAM), **odd}
    if cards.card_of(members) is not None:
        parse_agent_card(json.loads(json.dumps(published(members))))
