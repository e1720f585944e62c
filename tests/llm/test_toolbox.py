"""What the loop adds to the tools of a request: search over many, reading on in what was cut, an end to repetition, media."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import openai
import pytest

from llm.providers.inputs import inputs_of
from llm.results import MAX_CHARACTERS
from llm.toolbox import MANY_TOOLS, REPEATS
from registry.entries import Model
from tests.llm.test_rounds import HUB, ask
from tests.peers.openai_upstream import Turn

PIXEL = base64.b64encode(b"\x89PNG not really").decode()


def names(received: Any) -> list[str]:
    return [tool["function"]["name"] for tool in received.body["tools"]]


def told(received: Any) -> list[str]:
    """What the model was told of calls, in order."""
    return [message["content"] for message in received.body["messages"] if message["role"] == "tool"]


def call(name: str, /, **arguments: Any) -> Turn:
    return Turn(calls=((name, json.dumps(arguments)),))


async def test_a_large_source_is_searched_instead_of_shown(desk: Any) -> None:
    turns = [
        call("hub__search_tools", query="weather forecast of a city"),
        call("hub__describe_tool", name="big__forecast"),
        call("hub__call_tool", name="big__forecast", arguments={"city": "Bern"}),
        call("big__t3"),
        Turn("Sunny."),
    ]
    async with desk(*turns) as d:
        for number in range(MANY_TOOLS):
            d.workshop.add("big", f"t{number}", lambda: "ran", description=f"Does thing {number}")
        schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        d.workshop.add(
            "big",
            "forecast",
            lambda city: f"sun in {city}",
            description="Weather of a city, tomorrow",
            input_schema=schema,
        )
        d.workshop.add("small", "tool", lambda: "")
        sources = [{**HUB, "server_url": f"hub/mcp/{name}"} for name in ("big", "small")]
        answer = await ask(d, tools=sources)
        three = ["hub__search_tools", "hub__describe_tool", "hub__call_tool"]
        assert [names(received) for received in d.upstream.received] == [["small__tool", *three]] * 5
        found, described, *_ = told(d.upstream.received[-1])
        assert json.loads(found)["found"][0]["name"] == "big__forecast"
        assert json.loads(described)["inputSchema"] == schema
        assert d.workshop.called == [("big__forecast", {"city": "Bern"}), ("big__t3", {})]
        reported = [(one["server"], one["tool"]) for one in answer.hub["tool_calls"]]
        assert reported == [("hub", "search_tools"), ("hub", "describe_tool"), ("big", "forecast"), ("big", "t3")]


async def test_search_finds_only_what_the_source_allows(desk: Any) -> None:
    turns = [
        call("hub__search_tools", query="secret thing"),
        call("hub__call_tool", name="big__secret"),
        call("hub__describe_tool", name="big__secret"),
        Turn("no"),
    ]
    async with desk(*turns) as d:
        for number in range(MANY_TOOLS + 1):
            d.workshop.add("big", f"t{number}", lambda: "")
        d.workshop.add("big", "secret", lambda: "leaked", description="The secret thing")
        await ask(d, tools=[{**HUB, "allowed_tools": ["t*"]}])
        search, called, described = told(d.upstream.received[-1])
        assert "secret" not in search
        assert called == "There is no tool named 'big__secret'."
        assert described.startswith("There is no tool named 'big__secret'")
        assert d.workshop.called == []


async def test_a_cut_result_can_be_read_on(desk: Any) -> None:
    whole = "".join(f"line {number}\n" for number in range(20_000))
    turns = [
        Turn(calls=(("s__long", "{}"),)),
        call("hub__read_result", id="c0", offset=MAX_CHARACTERS),
        call("hub__read_result", id="c0", offset=len(whole)),
        call("hub__read_result", id="other", offset=0),
        Turn("ok"),
    ]
    async with desk(*turns) as d:
        d.workshop.add("s", "long", lambda: whole)
        await ask_with_ids(d)
        assert names(d.upstream.received[0]) == ["s__long"]
        assert names(d.upstream.received[1]) == ["s__long", "hub__read_result"]
        cut, rest, beyond, unknown = told(d.upstream.received[-1])
        [call_id] = {
            message["tool_calls"][0]["id"]
            for message in d.upstream.received[1].body["messages"]
            if message["role"] == "assistant"
        }
        assert f'hub__read_result(id="{call_id}", offset={MAX_CHARACTERS})' in cut
        assert cut.partition("\n[cut here")[0] + rest.partition("\n[")[0] == whole[: 2 * MAX_CHARACTERS]
        assert beyond.startswith("offset must be")
        assert "was cut" in unknown


async def ask_with_ids(desk: Any) -> None:
    """Have the later turns name the id that the hub gave the first call."""
    original = desk.upstream._answer

    async def answer(turn: Turn, request: Any, send: Any) -> None:
        ids = [c["id"] for m in request["messages"] if m["role"] == "assistant" for c in m["tool_calls"]]
        if ids and turn.calls:
            turn = replace(turn, calls=tuple((name, text.replace('"c0"', f'"{ids[0]}"')) for name, text in turn.calls))
        await original(turn, request, send)

    desk.upstream._answer = answer
    await ask(desk)


async def test_a_call_without_effect_is_not_made_again(desk: Any) -> None:
    async with desk(*[call("s__poll", job=1)] * (REPEATS + 1), call("s__poll", job=2), Turn("done")) as d:
        d.workshop.add("s", "poll", lambda job: f"pending {job}")
        await ask(d)
        assert [arguments for _, arguments in d.workshop.called] == [{"job": 1}] * REPEATS + [{"job": 2}]
        assert told(d.upstream.received[-1])[REPEATS].startswith("Not called again")


async def test_a_call_whose_result_changes_is_made_as_often_as_it_is_asked_for(desk: Any) -> None:
    answers = iter(range(9))
    async with desk(*[call("s__poll")] * (REPEATS + 2), Turn("done")) as d:
        d.workshop.add("s", "poll", lambda: f"{next(answers)} %")
        await ask(d)
        assert len(d.workshop.called) == REPEATS + 2


@pytest.mark.parametrize(("name", "shown"), [("gpt-4o", True), ("up-1", False)])
async def test_images_reach_models_that_take_them(desk: Any, name: str, shown: bool) -> None:
    image = {"type": "image", "mimeType": "image/png", "data": PIXEL}
    async with desk(call("s__draw"), Turn("nice")) as d:
        d.models["m"] = replace(d.models["m"], model=name)
        d.workshop.add("s", "draw", lambda: {"content": [{"type": "text", "text": "drawn"}, image]})
        await ask(d)
        messages = d.upstream.received[-1].body["messages"]
        if shown:
            assert messages[-2]["content"] == "drawn\n[image image/png: given with this]"
            assert messages[-1]["role"] == "user"
            assert messages[-1]["content"][1] == {
                "type": "image_url",
                "image_url": {"url": f"data:image/png;base64,{PIXEL}"},
            }
        else:
            assert messages[-1]["content"] == "drawn\n[image image/png: not shown to the model]"


async def test_audio_reaches_a_model_whose_entry_says_so(desk: Any) -> None:
    sound = {"type": "audio", "mimeType": "audio/wav", "data": PIXEL}
    async with desk(call("s__say"), Turn("heard")) as d:
        d.models["m"] = replace(d.models["m"], inputs=("audio",))
        d.workshop.add("s", "say", lambda: {"content": [sound]})
        await ask(d)
        part = d.upstream.received[-1].body["messages"][-1]["content"][1]
        assert part == {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}}


def test_what_an_entry_says_of_its_inputs_wins_over_its_name() -> None:
    model = Model(name="m", provider="openai", model="openai/gpt-4o-mini")
    assert list(inputs_of(model)) == ["image"]
    assert list(inputs_of(replace(model, inputs=()))) == []


@pytest.mark.attack("2.1/10")
async def test_own_tools_cannot_be_called_like_the_loops(desk: Any) -> None:
    own = {"type": "function", "function": {"name": "hub__read_result", "parameters": {"type": "object"}}}
    async with desk(Turn("no")) as d:
        d.workshop.add("s", "a", lambda: "")
        with pytest.raises(openai.BadRequestError, match="rename yours"):
            await ask(d, tools=[HUB, own])
