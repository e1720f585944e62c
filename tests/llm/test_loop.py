"""The tool loop as a play: what it asks for, and what it makes of the answers."""

from __future__ import annotations

from typing import Any

import pytest

from llm.loop import CallModel, CallTools, conversation
from llm.pieces import Text
from llm.results import told
from llm.types import CallIds, Finished, Reply, ToolCall, ToolOutcome, Turn, add_usage
from registry.errors import TooManyRounds


def asks(*calls: tuple[str, str]) -> Reply:
    made = [ToolCall(id_, name, "{}") for id_, name in calls]
    return Reply("chat", {"role": "assistant", "content": None}, (), made, "tool_calls", {"total_tokens": 5})


def done(call: ToolCall) -> ToolOutcome:
    return ToolOutcome(call=call, offer=None, arguments={}, text=f"{call.name} ok", failed=False, duration_ms=1)


def finish(play: Any, sent: Any) -> Finished:
    with pytest.raises(StopIteration) as stop:
        play.send(sent)
    return stop.value.value


def nothing(_name: str) -> bool:
    return False


def test_answer_without_calls_ends_it() -> None:
    play = conversation(nothing, max_rounds=8)
    assert play.send(None) == CallModel(())
    reply = Reply("chat", {"role": "assistant", "content": "hi"}, [Text("hi")], (), "length", {"total_tokens": 2})
    finished = finish(play, reply)
    assert (finished.reply, finished.own, finished.finish_reason) == (reply, [], "length")
    assert finished.usage == {"total_tokens": 2}


def test_calls_without_or_with_the_same_id_get_their_own() -> None:
    ids = CallIds()
    given = [ids.unique(name) for name in (None, "", "x", "x", 7)]
    assert len(set(given)) == 5
    assert "x" in given


def test_next_round_knows_those_before() -> None:
    play = conversation(nothing, max_rounds=8)
    play.send(None)
    reply = asks(("1", "a"), ("2", "b"))
    step = play.send(reply)
    assert isinstance(step, CallTools)
    outcomes = [done(call) for call in step.calls]
    assert play.send(outcomes) == CallModel((Turn(reply, outcomes),))


def test_bound_counts_rounds_of_tools() -> None:
    play = conversation(nothing, max_rounds=1)
    play.send(None)
    step = play.send(asks(("1", "a")))
    assert isinstance(step, CallTools)
    play.send([done(call) for call in step.calls])
    with pytest.raises(TooManyRounds):
        play.send(asks(("2", "a")))


def test_own_calls_may_be_asked_for_after_the_last_round_of_tools() -> None:
    play = conversation("own".__eq__, max_rounds=1)
    play.send(None)
    step = play.send(asks(("1", "a")))
    assert isinstance(step, CallTools)
    play.send([done(call) for call in step.calls])
    finished = finish(play, asks(("2", "own")))
    assert [call.id for call in finished.own] == ["2"]
    assert finished.finish_reason == "tool_calls"
    assert finished.usage == {"total_tokens": 10}


def test_usage_is_added_up_with_its_details() -> None:
    first = {"total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": None}}
    second = {"total_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}, "cost": 0.5}
    assert add_usage(first, second) == {
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": None},
        "cost": 0.5,
    }


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "structuredContent": {"x": 1}},
            "a\nb",
        ),
        ({"content": [], "structuredContent": {"x": 1}}, '{"x":1}'),
        (
            {"content": [{"type": "image", "mimeType": "image/png", "data": "AAAA"}]},
            "[image image/png: not shown to the model]",
        ),
        ({"content": [{"type": "resource", "resource": {"uri": "u:1", "text": "inside"}}]}, "inside"),
        ({"content": [{"type": "resource_link", "name": "n", "uri": "u:1"}]}, "[resource n: u:1]"),
        ({"content": []}, "(the tool gave no output)"),
        ({"content": ["odd", None]}, "(the tool gave no output)"),
        ({}, "(the tool gave no output)"),
    ],
)
def test_result_is_told_as_text(result: dict[str, Any], text: str) -> None:
    assert told(result) == text
