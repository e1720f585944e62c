"""Answers of providers that speak the Responses API, right and odd, through the dialect to a caller of the same format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from openai.types.responses import Response

from llm.dialects import AnswerInvalid, StreamFault
from llm.pieces import CallArguments, CallBegun, Opaque, Piece
from llm.types import CallIds, Reply
from llm.voices.responses import ResponsesVoice
from llm.wire.response_events import Composer
from llm.wire.responses_upstream import ResponsesDialect
from registry.egress.sse import data_of
from registry.judged import JsonObject
from tests.peers.openai_responses import answer, call, response, said, thought

SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}
TURN = answer(thought("Let me look.", "sealed"), SEARCH, said("Looking."), call("weather", '{"city":"Graz"}'))
EVENTS = [json.loads(data_of(event)) for event in TURN.raw or ()]
WHOLE = json.loads(TURN.error or b"")
ODD: list[Any] = [None, True, 2**70, "x", [None], [[]], {}, {"type": []}]
DIALECT = ResponsesDialect()
HEAD: JsonObject = {**response(), "id": "resp_1", "status": "in_progress", "usage": None}


class Kept:
    """Where a response goes (llm.voices.responses.Outlet)."""

    def __init__(self) -> None:
        self.events: list[JsonObject] = []
        self.response: JsonObject = {}

    async def start(self) -> None:
        pass

    async def write(self, events: Sequence[bytes]) -> None:
        self.events += [json.loads(data_of(event)) for event in events]

    async def end(self, response: JsonObject, events: Sequence[bytes]) -> None:
        await self.write(events)
        self.response = response


async def streamed(events: Sequence[Any]) -> tuple[Reply, Kept, Composer]:
    """What comes of a stream of events; raises what the loop understands."""
    kept = Kept()
    composer = Composer(dict(HEAD), token="t" * 32, is_streamed=True)
    voice = ResponsesVoice(composer, kept, listed=(), approved={})
    await voice.begin(())
    fold = DIALECT.fold(CallIds())
    for event in events:
        for piece in fold.feed(json.dumps(event).encode()):
            await voice.say(piece)
    composer.response()
    return fold.reply(), kept, composer


def mutations(value: Any) -> Iterator[Any]:
    """The same value with one odd thing in it, anywhere."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield {one: more for one, more in value.items() if one != name}
            yield from ({**value, name: odd} for odd in ODD)
            yield from ({**value, name: changed} for changed in mutations(member))
    elif isinstance(value, list):
        for at, member in enumerate(value):
            yield from ([*value[:at], changed, *value[at + 1 :]] for changed in mutations(member))


async def test_a_stream_says_what_the_whole_answer_says() -> None:
    reply, kept, composer = await streamed(EVENTS)
    whole = DIALECT.read(json.dumps(WHOLE).encode(), CallIds())
    assert reply == whole
    assert [one.name for one in reply.calls] == ["weather"]
    shown = DIALECT.shown(whole)
    assert "".join(one.text for one in shown if isinstance(one, CallArguments)) == '{"city":"Graz"}'
    assert [one["item"]["type"] for one in kept.events if one["type"] == "response.output_item.added"] == [
        "reasoning",
        "web_search_call",
        "message",
        "function_call",
    ]
    Response.model_validate(composer.response())


async def test_odd_events_are_events_or_faults_and_trip_nothing() -> None:
    for at, event in enumerate(EVENTS):
        for odd in mutations(event):
            try:
                reply, _, _ = await streamed([*EVENTS[:at], odd, *EVENTS[at + 1 :]])
            except (StreamFault, ValueError):
                continue
            assert isinstance(reply, Reply)


def test_odd_answers_are_answers_or_faults_and_trip_nothing() -> None:
    for odd in mutations(WHOLE):
        try:
            reply = DIALECT.read(json.dumps(odd).encode(), CallIds())
        except (AnswerInvalid, StreamFault, ValueError):
            continue
        assert all(isinstance(piece, Opaque | CallBegun | CallArguments) for piece in DIALECT.shown(reply))


@pytest.mark.parametrize("ids", [["call_up", "call_up"], ["", None]], ids=["the same", "none"])
async def test_calls_have_ids_of_their_own(ids: list[Any]) -> None:
    calls = [call("weather", "{}", "x") | {"call_id": one, "id": f"fc_{at}"} for at, one in enumerate(ids)]
    reply, _, _ = await streamed([json.loads(data_of(event)) for event in answer(*calls).raw or ()])
    assert len({one.id for one in reply.calls}) == len(ids)
    assert [item["call_id"] for item in reply.message["output"]] == [one.id for one in reply.calls]


async def test_an_items_id_that_stands_twice_in_an_answer_is_said_anew() -> None:
    """Some services number their items from the beginning in each round."""
    kept = Kept()
    voice = ResponsesVoice(
        composer := Composer(dict(HEAD), token="t" * 32, is_streamed=True), kept, listed=(), approved={}
    )
    await voice.begin(())
    for _ in range(2):
        pieces: Sequence[Piece] = DIALECT.shown(DIALECT.read(json.dumps(response(said("hi"))).encode(), CallIds()))
        for piece in pieces:
            await voice.say(piece)
    names = [item["id"] for item in composer.response()["output"]]
    assert (names[0], len(set(names))) == ("msg_up", 2)
    assert [event["item"]["id"] for event in kept.events if "item" in event] == [names[0], names[0], names[1], names[1]]
