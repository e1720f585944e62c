"""Framing of event streams: whatever the pieces, the events are those of the whole stream."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.egress.sse import Framer, data_of

LINE_ENDS = (["\n"], ["\r\n"], ["\r"], ["\n", "\r\n"])
EVENTS = st.lists(
    st.lists(st.sampled_from(["data: one", "data:two", "data: ", "event: x", ": comment"]), min_size=1, max_size=3),
    max_size=6,
)


@given(events=EVENTS, ends=st.sampled_from(LINE_ENDS), cuts=st.lists(st.integers(0, 200)))
def test_events_do_not_depend_on_the_pieces_they_come_in(
    events: list[list[str]], ends: list[str], cuts: list[int]
) -> None:
    lines = [line for event in events for line in (*event, "")]
    stream = "".join(line + ends[number % len(ends)] for number, line in enumerate(lines)).encode()
    where = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    framer = Framer()
    found = [event for begin, end in pairwise(where) for event in framer.feed(stream[begin:end])]
    assert b"".join(found) + framer.rest == stream
    said = [data_of(event) for event in (*found, framer.rest)]
    assert [data for data in said if data] == [data for event in events if (data := _data(event))]


def _data(event: list[str]) -> bytes:
    return "\n".join(line[5:].removeprefix(" ") for line in event if line.startswith("data:")).encode()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_that_come_together_are_cut_apart(end: bytes) -> None:
    whole = [b"data: %d" % number + 2 * end for number in range(3)]
    framer = Framer()
    assert framer.feed(b"".join(whole)) == whole
    assert framer.feed(b"data: 3" + end) == []
    assert framer.feed(end + whole[0]) == [b"data: 3" + 2 * end, whole[0]]
    assert framer.rest == b""
