"""What was said in a context, for platforms that remember nothing: in pieces, bounded, and told as it was said."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from agents.bridges.bridge import Turn
from agents.bridges.history import HELD_BYTES, MAX_BYTES, History, Notes
from registry.errors import UpstreamInvalid
from registry.judged import encode

SLACK = 64 * 1024


@dataclass
class Shelf:
    """One in memory."""

    pieces: dict[str, bytes] = field(default_factory=dict)
    made: int = 0

    async def put(self, piece: bytes) -> str:
        self.made += 1
        self.pieces[f"p{self.made}"] = piece
        return f"p{self.made}"

    async def get(self, name: str) -> bytes | None:
        return self.pieces.get(name)

    async def drop(self, name: str) -> None:
        del self.pieces[name]


class Named:
    """A way as far as a history looks at it."""

    name = "there"


@dataclass
class Context:
    """A context of several turns: what is remembered of it, and its shelf."""

    shelf: Shelf = field(default_factory=Shelf)
    session: dict[str, Any] = field(default_factory=dict)

    def history(self) -> History:
        way: Any = Named()
        return History(
            Turn(
                way=way,
                message={},
                task_id="t",
                context_id="c",
                user="u",
                session=self.session,
                shelf=self.shelf,
                ref={},
                is_answer=False,
            )
        )

    async def turn(self, question: str, answer: list[str]) -> None:
        """One turn, whose answer comes in pieces."""
        history, notes = self.history(), Notes(self.shelf)
        await notes.write("turn", encode({"role": "user", "content": question}))
        await notes.write("turn", b',{"role":"assistant","content":"')
        for piece in answer:
            await notes.say("turn", piece)
        await notes.write("turn", b'"}')
        await history.add(notes, [notes.parts("turn")])
        self.session = json.loads(encode(history.session))
        await history.tidy()

    async def told(self) -> tuple[dict[str, Any], int]:
        """A request's body, and the most of it that was in memory at once."""
        body = self.history().asked({"model": "m"}, [{"role": "system"}], [{"role": "user", "content": "now"}])
        if isinstance(body, dict):
            return json.loads(encode(body)), len(encode(body))
        pieces = [piece async for piece in body()]
        assert b"".join(pieces) == b"".join([piece async for piece in body()])  # it may be sent again
        return json.loads(b"".join(pieces)), max(map(len, pieces))


def contents(body: dict[str, Any]) -> list[str]:
    assert (body["model"], body["messages"][0], body["messages"][-1]["content"]) == ("m", {"role": "system"}, "now")
    return [one["content"] for one in body["messages"][1:-1]]


async def test_all_of_a_context_is_told_as_it_was_said_and_little_of_it_at_once() -> None:
    context, said = Context(), list[str]()
    for number in range(40):
        answer = [f'{number} "ä" \n ' * (20 * number)] * 5
        await context.turn(f"question {number}", answer)
        said += [f"question {number}", "".join(answer)]
    body, most = await context.told()
    assert contents(body) == said
    assert sum(map(len, said)) > 8 * SLACK
    assert most < SLACK
    assert len(encode(context.session)) < 2 * HELD_BYTES


async def test_a_short_conversation_is_in_its_session_alone() -> None:
    context = Context()
    await context.turn("my name is Ada", ["hello ", "Ada"])
    assert contents((await context.told())[0]) == ["my name is Ada", "hello Ada"]
    assert context.shelf.made == 0


async def test_what_was_said_first_is_forgotten_first_and_leaves_the_shelf() -> None:
    context = Context()
    for number in range(6):
        await context.turn(f"q{number}", [f"{number}" * HELD_BYTES] * (MAX_BYTES // 4 // HELD_BYTES))
    told = contents((await context.told())[0])
    assert [one[:1] for one in told[1::2]] == ["3", "4", "5"]
    assert sum(map(len, context.shelf.pieces.values())) <= MAX_BYTES


async def test_with_a_turn_that_is_longer_than_all_may_be_all_is_forgotten() -> None:
    context = Context()
    await context.turn("before", ["x" * HELD_BYTES])
    await context.turn("long", ["x" * HELD_BYTES] * (1 + MAX_BYTES // HELD_BYTES))
    assert contents((await context.told())[0]) == []
    assert context.shelf.pieces == {}
    await context.turn("after", ["y"])
    assert contents((await context.told())[0]) == ["after", "y"]


async def test_of_an_answer_of_many_mebibytes_no_more_is_held_than_a_piece() -> None:
    shelf, most = Shelf(), 0
    notes = Notes(shelf)
    for number in range(8192):
        await notes.say(f"message {number % 7}", "x" * 1024)
        held = sum(len(part) for one in range(7) for part in notes.parts(f"message {one}") if isinstance(part, str))
        most = max(most, held)
    assert HELD_BYTES / 2 < most <= HELD_BYTES
    assert notes.is_full


async def test_what_cannot_be_read_any_more_is_said_and_not_left_out() -> None:
    context = Context()
    await context.turn("q", ["x" * 4 * HELD_BYTES])
    context.shelf.pieces.clear()
    with pytest.raises(UpstreamInvalid, match="begin another"):
        await context.told()
