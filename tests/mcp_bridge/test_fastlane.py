"""Headers of 2026-07-28 that no well-behaved client library would send."""

from __future__ import annotations

import base64
import json

import pytest

from mcp_bridge.fastlane import Message, Posted, read_body, read_message
from registry.errors import HeaderMismatch
from tests.peers.mcp_hub import headers, message


def raw(given: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in given.items()]


def read(posted: Posted, given: list[tuple[bytes, bytes]]) -> Message:
    return read_message(posted, dict(given), given)


CALL = read_body(json.dumps(message("tools/call", {"name": "größe"})).encode())
NAME = f"=?base64?{base64.b64encode('größe'.encode()).decode()}?="


def test_optional_whitespace_around_a_header_is_not_part_of_it() -> None:
    given = {**headers("tools/list"), "mcp-method": " tools/list\t"}
    assert read(read_body(json.dumps(message("tools/list")).encode()), raw(given)).method == "tools/list"


def test_a_name_that_is_not_ascii_travels_in_base64() -> None:
    assert read(CALL, raw(headers("tools/call", NAME))).method == "tools/call"


@pytest.mark.parametrize(
    "name", ["größe".encode().decode("latin-1"), "=?base64?!!!?=", "=?base64?Z3LDtsOfZR==?=", "grosse"]
)
@pytest.mark.attack("2.1/23", defence="mcp_bridge.fastlane:_mirror")
def test_a_name_that_does_not_decode_to_the_bodys_is_a_mismatch(name: str) -> None:
    with pytest.raises(HeaderMismatch):
        read(CALL, raw(headers("tools/call", name)))


@pytest.mark.parametrize("header", ["mcp-method", "mcp-name", "mcp-protocol-version"])
@pytest.mark.attack("2.1/23", defence="mcp_bridge.fastlane:_once")
def test_a_routing_header_that_stands_twice_is_a_mismatch(header: str) -> None:
    given = raw(headers("tools/call", NAME))
    with pytest.raises(HeaderMismatch):
        read(CALL, [*given, *(pair for pair in given if pair[0] == header.encode())])
