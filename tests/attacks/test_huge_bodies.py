"""Bodies within the size limit that would keep the hub's one event loop busy, or fill its memory, by what they hold."""

from __future__ import annotations

import json

import pytest

from agents import wire
from agents.members import MAX_REFERENCES
from registry import judged
from registry.errors import InvalidParams, ParseFailed, TooLarge
from tests.conftest import OpenHub

DECIDING = frozenset({"model"})
MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("begin", "piece", "end"),
    [
        (b'{"a":[', b"{},", b"{}]}"),
        (b'{"b":"\\u0061","a":[', b"{},", b"{}]}"),
        (b'{"a":[', b'"",', b'""]}'),
        (b'{"a":[', b"[[[[[[[[0]]]]]]]],", b"0]}"),
        (b'{"a":[', b'"\\\\\\"",', b"0]}"),
        (b"{", b'"":0,', b'"model":"m"}'),
        (b'{"a":[', b"1,", b"1]}"),
    ],
)
@pytest.mark.attack("2.1/27", "2.2/32")
def test_a_body_of_millions_of_values_is_refused_unread(begin: bytes, piece: bytes, end: bytes) -> None:
    body = begin + piece * (16 * MIB // len(piece)) + end
    with pytest.raises(ParseFailed, match="values"):
        judged.body(body, DECIDING)


@pytest.mark.parametrize("text", [",", "[", "{}", '"', "\\", '\\"', '\\\\",[{', "é,", "\n,"])
def test_a_long_text_is_one_value_whatever_it_says(text: str) -> None:
    body = json.dumps({"model": "m", "messages": [{"content": text * (4 * MIB // len(text))}]}).encode()
    assert judged.read_string(judged.body(body, DECIDING), "model") == "m"


@pytest.mark.parametrize("depth", [judged.MAX_DEPTH - 1, judged.MAX_DEPTH])
@pytest.mark.parametrize("text", ["", "[[[", '"', "\\", '\\"[', '\\\\"]'])
def test_the_depth_is_measured_outside_of_texts(depth: int, text: str) -> None:
    body = b'{"t":%b,"a":%b%b}' % (json.dumps(text).encode(), b"[" * depth, b"]" * depth)
    if depth < judged.MAX_DEPTH:
        judged.body(body, DECIDING)
    else:
        with pytest.raises(ParseFailed, match="deeper"):
            judged.body(body, DECIDING)


@pytest.mark.attack("2.2/32")
def test_a_message_refers_to_some_tasks_and_not_to_thousands() -> None:
    def read(count: int) -> wire.Request:
        message = {"messageId": "m", "parts": [], "referenceTaskIds": ["t"] * count}
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
        return wire.read_request(wire.read_envelope(json.dumps(body).encode()))

    assert len(read(MAX_REFERENCES).reference_task_ids) == MAX_REFERENCES
    with pytest.raises(InvalidParams):
        read(MAX_REFERENCES + 1)


async def test_a_body_for_the_admin_api_is_small(hub: OpenHub) -> None:
    async with hub() as running, running.http(await running.key("model:*")) as http:
        body = json.dumps({"name": "x" * 2 * MIB}).encode()
        refused = await http.post("/api/agents", content=body, headers={"content-type": "application/json"})
        assert refused.status_code == 413
        assert refused.json()["detail"] == TooLarge(MIB).text
