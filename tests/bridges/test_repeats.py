"""What a platform says once more at the end of its answer is not in memory; anything else comes as it was."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from agents.bridges.repeats import LEFT_OUT, LONG_BYTES, Repeats, Said

ODD = 'ä "quoted" \\ back 😀 \n'
SAID = "".join(f"{number} {ODD}" for number in range(LONG_BYTES // 3))


def said(text: str = SAID) -> Said:
    found = Said()
    for begin in range(0, len(text), 100):
        found.add("m", text[begin : begin + 100])
    return found


def read(stream: bytes, cuts: Random, known: Said) -> tuple[bytes, int]:
    """What comes through of a stream that is cut anywhere, and the most that was held of it."""
    repeats, given, at, most = Repeats(known), bytearray(), 0, 0
    while at < len(stream):
        size = cuts.choice((1, 2, 7, 1000, 16384, 16384))
        given += repeats.feed(stream[at : at + size])
        at = min(at + size, len(stream))
        held = repeats._text
        most = max(most, len(held) if held is not None else 0)
    return bytes(given), most


def test_a_long_text_that_was_said_is_left_out_and_never_held() -> None:
    event: dict[str, Any] = {"type": "completed", "output": [{"text": SAID, "n": 1}], "id": 'r"1'}
    for ascii_only in (True, False):
        stream = b"event: done\ndata: " + json.dumps(event, ensure_ascii=ascii_only).encode() + b"\n\n"
        given, most = read(stream, Random(1), said())
        data = json.loads(given.partition(b"data: ")[2])
        assert data == {**event, "output": [{"text": LEFT_OUT, "n": 1}]}
        assert most <= LONG_BYTES + 16384 < len(stream) / 4


def test_what_was_not_said_comes_byte_for_byte() -> None:
    other = {"text": "z" + SAID, "short": SAID[:1000], "deep": [{"text": ODD}], ODD: None}
    for data in (json.dumps(other).encode(), b'no JSON: "half\ndata: more "of\r\n it\\', b'"', b'\\"\\', b""):
        for seed in range(4):
            given, _ = read(data + b"\n", Random(seed), said())
            assert given == data + b"\n"


def test_a_long_text_that_was_not_said_is_not_held_either() -> None:
    data = json.dumps("z" * 10 * LONG_BYTES).encode()
    given, most = read(data, Random(3), said())
    assert given == data
    assert most <= LONG_BYTES + 16384


def test_nothing_is_left_out_before_something_was_said() -> None:
    data = json.dumps(SAID).encode()
    assert read(data, Random(2), Said())[0] == data
