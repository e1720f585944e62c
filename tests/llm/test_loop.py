"""The tool loop as a play: what it asks for, and what it makes of the answers."""

from __future__ import annotations

from typing import Any

import pytest

from llm.loop import CallModel, CallTools, Finished, conversation
from llm.results import told
from llm.types import Reply, ToolCall, ToolOutcome
from llm.wire.chat import add_usage
from registry.errors import TooManyRounds


def asks(*calls: tuple[str | None, str]) -> Reply:
    made = [{"id": id_, "type": "function", "function": {"name": name, "arguments": "{}"}} for id_, name in calls]
    return Reply({"role": "assistant", "content": None, "tool_calls": made}, "tool_calls", {"total_tokens": 5})


def done(call: ToolCall) -> ToolOutcome:
    return ToolOutcome(
        call=call, server="s", tool=call.name, arguments={}, text=f"{call.name} ok", failed=False, duration_ms=1
    )


def finish(play: Any, sent: Any) -> Finished:
    with pytest.raises(StopIteration) as stop:
        play.send(sent)
    return stop.value.value


def test_answer_without_calls_ends_it() -> None:
    play = conversation(frozenset(), max_rounds=8)
    assert play.send(None) == CallModel((), first=True)
    finished = finish(play, Reply({"role": "assistant", "content": "hi"}, "length", {"total_tokens": 2}))
    assert (finished.message["content"], finished.finish_reason, finished.usage) == (
        "hi",
        "length",
        {"total_tokens": 2},
    )


def test_calls_without_or_with_the_same_id_get_their_own() -> None:
    play = conversation(frozenset(), max_rounds=8)
    play.send(None)
    step = play.send(asks((None, "a"), ("", "b"), ("x", "c"), ("x", "d")))
    assert isinstance(step, CallTools)
    ids = [call.id for call in step.calls]
    assert len(set(ids)) == 4
    assert "x" in ids
    step = play.send([done(call) for call in step.calls])
    assert isinstance(step, CallModel)
    assert [message["tool_call_id"] for message in step.messages[1:]] == ids
    assert [call["id"] for call in step.messages[0]["tool_calls"]] == ids


def test_bound_counts_rounds_of_tools() -> None:
    play = conversation(frozenset(), max_rounds=1)
    play.send(None)
    step = play.send(asks(("1", "a")))
    assert isinstance(step, CallTools)
    play.send([done(call) for call in step.calls])
    with pytest.raises(TooManyRounds):
        play.send(asks(("2", "a")))


def test_own_calls_may_be_asked_for_after_the_last_round_of_tools() -> None:
    play = conversation(frozenset({"own"}), max_rounds=1)
    play.send(None)
    step = play.send(asks(("1", "a")))
    assert isinstance(step, CallTools)
    play.send([done(call) for call in step.calls])
    finished = finish(play, asks(("2", "own")))
    assert [call["id"] for call in finished.message["tool_calls"]] == ["2"]
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
