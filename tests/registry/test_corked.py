"""Writes that wait for company: all there, in their order, and not for long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from registry import company
from registry.company import Company
from registry.corked import MAX_HELD_BYTES, Cork, CorkedTransport


class Wire(asyncio.Transport):
    """A transport that notes each write."""

    def __init__(self, written: list[bytes]) -> None:
        super().__init__()
        self.written = written
        self.closed = False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written.append(data)

    def writelines(self, parts: Sequence[object]) -> None:  # type: ignore[override]  # asyncio takes any iterable
        self.written.append(b"".join(part for part in parts if isinstance(part, bytes)))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        raise NotImplementedError

    def resume_reading(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True

    abort = close


async def turn(*, turns: int = 3) -> None:
    """Let the event loop's turn end, and one more in which nothing comes."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_what_is_written_in_one_turn_goes_out_together_after_it() -> None:
    cork, written = Cork(), list[bytes]()
    first, second = CorkedTransport(cork, Wire(written)), CorkedTransport(cork, Wire(written))
    for _ in range(2):
        first.write(b"a")
        second.write(b"x")
        first.writelines((b"b", b"c"))
        assert (written, first.get_write_buffer_size()) == ([], 3)
        await turn()
        assert (written, first.get_write_buffer_size()) == ([b"abc", b"x"], 0)
        written.clear()


@pytest.mark.parametrize("much", [(bytes(MAX_HELD_BYTES),), (bytes(MAX_HELD_BYTES - 5), bytes(9))])
async def test_much_is_written_at_once_behind_what_was_held(much: tuple[bytes, ...]) -> None:
    written: list[bytes] = []
    transport = CorkedTransport(Cork(), Wire(written))
    transport.write(b"head")
    transport.writelines(much)
    assert written == [b"head" + b"".join(much)]
    transport.write(b"end")
    await turn()
    assert written[1:] == [b"end"]


async def test_a_close_comes_behind_what_was_written_and_an_abort_in_its_place() -> None:
    kept, dropped = Wire([]), Wire([])
    for wire, end in ((kept, CorkedTransport.close), (dropped, CorkedTransport.abort)):
        transport = CorkedTransport(Cork(), wire)
        transport.write(b"last words")
        end(transport)
        assert wire.closed
    await turn()
    assert (kept.written, dropped.written) == ([b"last words"], [])


async def test_who_is_gone_does_not_keep_the_others_waiting() -> None:
    cork, lost, alive = Cork(), Wire([]), Wire([])
    for wire in (lost, alive):
        CorkedTransport(cork, wire).write(b"answer")
    lost.closed = True
    await turn()
    assert (lost.written, alive.written) == ([], [b"answer"])


class Pieces:
    """Counts what waits, and notes how many were done together."""

    def __init__(self) -> None:
        self.waiting = 0
        self.done: list[int] = []
        self.company = Company(lambda: self.waiting, self._do)

    def _do(self) -> None:
        self.done.append(self.waiting)
        self.waiting = 0

    def come(self, count: int = 1) -> None:
        self.waiting += count
        self.company.wait()


async def test_pieces_wait_as_long_as_each_turn_brings_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "HELD_S", 3600.0)
    pieces = Pieces()
    for _ in range(5):
        pieces.come()
        await asyncio.sleep(0)
    assert pieces.done == []
    await turn()
    assert pieces.done == [5]
    pieces.come()
    await turn()
    assert pieces.done == [5, 1]


async def test_many_pieces_wait_no_longer_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "HELD_S", 3600.0)
    pieces = Pieces()
    for _ in range(10):
        pieces.come(company.ENOUGH // 2)
        await asyncio.sleep(0)
    assert max(pieces.done) <= 2 * company.ENOUGH
    assert len(pieces.done) >= 2


async def test_pieces_wait_no_longer_than_their_time_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "HELD_S", -1.0)
    pieces = Pieces()
    pieces.come()
    await turn(turns=1)
    assert pieces.done == [1]


async def test_what_is_cancelled_is_not_done() -> None:
    pieces = Pieces()
    pieces.come()
    pieces.company.cancel()
    await turn()
    assert pieces.done == []
