"""URIs of resources as `/mcp` shows them (surface.md 6)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_bridge.uris import exposed_result, exposed_uri, split_uri
from registry.judged import RawObject, encode, read_object
from tests.mcp_bridge.test_naming import SERVERS


@given(SERVERS, st.text(max_size=60) | st.text(max_size=20).map("ui://".__add__))
def test_a_uri_comes_back_to_its_server_as_it_was(server: str, uri: str) -> None:
    assert split_uri(exposed_uri(server, uri)) == (server, uri)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("file:///a+b", "a.b+file:///a+b"),
        ("memo:{x}", "a.b+memo:{x}"),
        ("ui://app/x.html", "ui://a.b/app/x.html"),
    ],
)
def test_a_uri_keeps_what_clients_know_it_by(uri: str, shown: str) -> None:
    assert exposed_uri("a_b", uri) == shown


@pytest.mark.parametrize("uri", ["file:///a", "a_b+file:///a", "ui://a_b/x", "ui://a", "a+ui://x"])
@pytest.mark.attack("2.2/17")
def test_what_the_hub_did_not_write_leads_nowhere(uri: str) -> None:
    assert split_uri(uri) is None


def rewritten(result: dict[str, Any]) -> RawObject:
    return exposed_result("s", read_object(encode(result)))


PLAIN: list[dict[str, Any]] = [
    {"content": [{"type": "text", "text": "uri"}], "structuredContent": {"uri": "file:///a"}},
    {"content": "uri", "_meta": {"resourceUris": 1}},
    {"content": {"uri": 1}},
    {"content": [{"uri": 1}, 1, "uri", [{"uri": "a"}]], "contents": {"uri": "a"}},
    {"messages": [{"role": "user", "content": [{"uri": "a"}]}, 1]},
    {"_meta": {"ui": "resourceUri"}},
    {"_meta": {"ui": {"resourceUri": 1}}},
]


@pytest.mark.parametrize("result", PLAIN)
def test_what_holds_no_uri_stays_as_it_is(result: dict[str, Any]) -> None:
    assert json.loads(encode(rewritten(result))) == result


def test_the_rest_of_a_rewritten_result_stays_byte_for_byte() -> None:
    odd = b'{"content":[{"type":"text","n":1.50},{"uri":"a:b","big":123456789012345678901}],"x": [1.0]}'
    found = exposed_result("s", read_object(odd))
    assert bytes(found["content"]) == b'[{"type":"text","n":1.50},{"uri":"s+a:b","big":123456789012345678901}]'
    assert bytes(found["x"]) == b"[1.0]"
