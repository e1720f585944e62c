"""The line before one server: places, who waits, and how long a failing one is left alone."""

from __future__ import annotations

import asyncio

import pytest

from mcp_bridge import line as line_module
from mcp_bridge.line import FAILURES, MAX_PAUSE_S, MAX_WAITING, PAUSE_S, Line
from registry.errors import Overloaded, UpstreamUnavailable


async def take(line: Line, principal: str) -> None:
    """As a call does it."""
    if not line.entered(principal):
        await line.wait(principal)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_call_waits_until_another_has_ended_and_the_first_in_line_is_next() -> None:
    line, order = Line("s", 2), []
    await take(line, "a")
    await take(line, "b")

    async def call(name: str) -> None:
        await take(line, name)
        order.append(name)

    waiting = [asyncio.create_task(call(name)) for name in ("c", "d")]
    await turns()
    assert order == []
    line.leave("a")
    await turns()
    assert order == ["c"]
    line.leave("b")
    await asyncio.gather(*waiting)
    assert order == ["c", "d"]


async def test_one_principal_has_half_of_the_places_and_nobody_waits_behind_its_calls() -> None:
    line = Line("s", 4)
    for _ in range(2):
        await take(line, "greedy")
    third = asyncio.create_task(take(line, "greedy"))
    await turns()
    assert not third.done()
    await take(line, "other")
    line.leave("other")
    await turns()
    assert not third.done()
    line.leave("greedy")
    await third


async def test_who_leaves_the_line_gives_back_what_was_just_given() -> None:
    line = Line("s", 1)
    await take(line, "a")
    leaving, staying = asyncio.create_task(take(line, "b")), asyncio.create_task(take(line, "c"))
    await turns()
    line.leave("a")  # to b, who leaves in the same moment
    leaving.cancel()
    await staying
    assert leaving.cancelled()


async def test_a_line_is_bounded_in_length_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "WAIT_S", 0.0)
    line = Line("s", 1)
    await take(line, "a")
    with pytest.raises(Overloaded, match="at a time"):
        await take(line, "b")
    monkeypatch.setattr(line_module, "WAIT_S", 30.0)
    waiting = [asyncio.create_task(take(line, "b")) for _ in range(MAX_WAITING)]
    await turns()
    with pytest.raises(Overloaded, match="Too many"):
        await take(line, "c")
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)
    line.leave("a")
    await take(line, "c")  # nothing was lost


async def test_a_server_that_only_fails_is_left_alone_and_one_call_sees_whether_it_is_back() -> None:
    clock = Clock()
    line = Line("s", 9, clock=clock)
    for number in range(FAILURES + 1):
        if number == FAILURES:
            with pytest.raises(UpstreamUnavailable, match="in a row"):
                await take(line, "a")
            clock.now += PAUSE_S
        await take(line, "a")
        line.failed()
        line.leave("a")
    clock.now += PAUSE_S  # it failed again, so it is left alone for longer
    with pytest.raises(UpstreamUnavailable):
        await take(line, "a")
    clock.now += MAX_PAUSE_S
    await take(line, "a")
    with pytest.raises(UpstreamUnavailable):  # while the one is under way
        await take(line, "b")
    line.answered()
    await take(line, "b")


async def test_an_answer_between_failures_begins_the_count_anew() -> None:
    line = Line("s", 9)
    for number in range(3 * FAILURES):
        await take(line, "a")
        if number % FAILURES:
            line.failed()
        else:
            line.answered()
        line.leave("a")


async def test_those_in_line_are_told_at_once_when_the_server_is_left_alone() -> None:
    line = Line("s", 1)
    await take(line, "a")
    waiting = [asyncio.create_task(take(line, "b")) for _ in range(3)]
    await turns()
    waiting[0].cancel()
    for _ in range(FAILURES):
        line.failed()
    waiting[1].cancel()  # in the same moment
    with pytest.raises(UpstreamUnavailable, match="in a row"):
        await waiting[2]
    assert waiting[1].cancelled()
    line.answered()
    line.leave("a")
    await take(line, "c")  # nobody took the place along


async def test_a_call_that_ends_without_seeing_anything_lets_the_next_one_see() -> None:
    clock = Clock()
    line = Line("s", 1, clock=clock)
    for _ in range(FAILURES):
        line.failed()
    clock.now += PAUSE_S
    await take(line, "a")
    with pytest.raises(UpstreamUnavailable):
        await take(line, "b")
    line.undecided()
    line.leave("a")
    await take(line, "b")
    line.failed()
    line.undecided()  # another call's end: the pause that has begun goes on
    with pytest.raises(UpstreamUnavailable):
        await take(line, "c")


async def test_who_was_to_see_and_leaves_the_line_lets_another_see() -> None:
    clock = Clock()
    line = Line("s", 1, clock=clock)
    await take(line, "hanging")
    for _ in range(FAILURES):
        line.failed()
    clock.now += PAUSE_S
    leaving = asyncio.create_task(take(line, "a"))
    await turns()
    leaving.cancel()
    await turns()
    line.leave("hanging")
    await take(line, "b")
