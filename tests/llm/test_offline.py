"""The offline model picks tools and fills arguments by words alone: names, schemas and prompts come from a printed seed."""

from __future__ import annotations

import json
import os
import random
import zoneinfo
from dataclasses import dataclass
from typing import Any

import pytest

from llm.providers.offline import FINGERPRINT, LABEL, respond
from tests.peers.openai_upstream import Turn

SYLLABLES = "ba co di fu ga ho ji ku la mo ni po qua ru so ti vu wa xo zi bren clor drim flap gront spel trin".split()  # noqa: SIM905
SEED = int(os.environ.get("OFFLINE_SEED") or random.randrange(10**9))  # noqa: TID251  # a printed seed can be given back


@pytest.fixture(params=range(25))
def dice(request: Any) -> random.Random:
    seed = SEED + request.param
    print(f"OFFLINE_SEED={seed}")
    return random.Random(seed)


def word(dice: random.Random, used: set[str]) -> str:
    """A word that no language has and that was not made before."""
    while True:
        made = "".join(dice.choices(SYLLABLES, k=3)) + "k"
        if not any(made.startswith(other[:5]) for other in used):
            used.add(made)
            return made


def value(dice: random.Random, used: set[str]) -> tuple[dict[str, Any], str, Any]:
    """A parameter's schema, how a person says its value, and the value."""
    text = f"{word(dice, used)} {word(dice, used)}"
    number, real = dice.randrange(2, 900), round(dice.uniform(1, 99), 2) + 0.001
    date = f"20{dice.randrange(10, 40)}-{dice.randrange(1, 13):02}-{dice.randrange(1, 29):02}"
    places = [zone for zone in sorted(zoneinfo.available_timezones()) if zone.startswith(("Europe/", "Asia/"))]
    zone = dice.choice(places)
    options = [word(dice, used) for _ in range(3)]
    chosen = dice.choice(options)
    nullable = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    kinds: list[tuple[dict[str, Any], str, Any]] = [
        ({"type": "string"}, f'"{text}"', text),
        ({"type": "integer"}, str(number), number),
        (nullable, str(number), number),
        ({"type": "number"}, f"{real:.3f}", float(f"{real:.3f}")),
        ({"enum": options}, chosen, chosen),
        ({"type": "string", "format": "date"}, date, date),
        ({"type": "string", "description": "IANA time zone"}, zone, zone),
        ({"type": "string", "format": "email"}, f"{chosen}@{options[0]}.org", f"{chosen}@{options[0]}.org"),
        ({"type": "array", "items": {"type": "string"}}, f'"{text}" "{chosen}"', [text, chosen]),
    ]
    return dice.choice(kinds)


@dataclass
class Made:
    """A tool made up, and a wish that fits it."""

    tool: dict[str, Any]
    wish: str
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.tool["function"]["name"])


def make(dice: random.Random, used: set[str], server: str) -> Made:
    verb, noun, parameter = (word(dice, used) for _ in range(3))
    schema, said, wanted = value(dice, used)
    name = dice.choice([f"{server}__{verb}_{noun}", f"{server}__{verb}{noun.capitalize()}", f"{server}__{verb}-{noun}"])
    function = {
        "name": name,
        "description": f"Will {verb} the {word(dice, used)} of a {noun}",
        "parameters": {"type": "object", "properties": {parameter: schema}, "required": [parameter]},
    }
    wish = dice.choice(
        [f"please {verb} the {noun} with {said}", f"{verb} {said} for my {noun}", f"I want to {verb} a {noun}: {said}"]
    )
    return Made({"type": "function", "function": function}, wish, {parameter: wanted})


def ask(text: str, tools: list[Any], **members: Any) -> tuple[str, list[tuple[str, Any]]]:
    said, calls = respond({"tools": tools, **members}, [{"role": "user", "content": text}])
    return said, [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


def test_tool_is_picked_by_its_words_and_its_argument_filled(dice: random.Random) -> None:
    used: set[str] = set()
    server = word(dice, used)
    made = [make(dice, used, server) for _ in range(dice.randrange(1, 30))]
    chosen = dice.choice(made)
    assert ask(chosen.wish, [one.tool for one in made])[1] == [(chosen.name, chosen.arguments)]


def test_each_part_that_fits_another_tool_is_one_call(dice: random.Random) -> None:
    used: set[str] = set()
    made = [make(dice, used, word(dice, used)) for _ in range(8)]
    chosen = dice.sample(made, 3)
    text = dice.choice(["{}, and {}; then {}.", "{}. {}. {}?", "{} and {} and {}"]).format(
        *(one.wish for one in chosen)
    )
    calls = ask(text, [one.tool for one in made])[1]
    assert calls == [(one.name, one.arguments) for one in chosen]
    assert len(ask(text, [one.tool for one in made], parallel_tool_calls=False)[1]) == 1


def test_request_that_fits_no_tool_is_answered_without_one(dice: random.Random) -> None:
    used: set[str] = set()
    tools = [make(dice, used, word(dice, used)).tool for _ in range(5)]
    said, calls = ask(f"tell me of {word(dice, used)}", tools)
    assert not calls
    assert said.startswith(LABEL)


def test_forced_choice_is_obeyed(dice: random.Random) -> None:
    used: set[str] = set()
    first, second = (make(dice, used, word(dice, used)) for _ in range(2))
    tools = [first.tool, second.tool]
    forced = {"type": "function", "function": {"name": second.name}}
    assert [name for name, _ in ask(first.wish, tools, tool_choice=forced)[1]] == [second.name]
    assert ask(first.wish, tools, tool_choice="none")[1] == []
    assert len(ask("?", tools, tool_choice="required")[1]) == 1


def test_results_are_said_in_a_sentence(dice: random.Random) -> None:
    used: set[str] = set()
    results = [" ".join(word(dice, used) for _ in range(4)) for _ in range(2)]
    names = [word(dice, used) for _ in results]
    calls = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for n, name in enumerate(names)
    ]
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "do it"}]},
        {"role": "assistant", "content": None, "tool_calls": calls},
        *({"role": "tool", "tool_call_id": f"c{n}", "content": result} for n, result in enumerate(results)),
    ]
    said, more = respond({"tools": []}, messages)
    assert not more
    assert said == f"{LABEL} {names[0]} says: {results[0]}. {names[1]} says: {results[1]}."


@pytest.mark.parametrize(
    "schema",
    [
        True,
        None,
        [],
        {"properties": []},
        {"$ref": "#/$defs/none"},
        {"properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    ],
)
def test_schema_of_any_shape_does_no_harm(schema: Any) -> None:
    tool = {"type": "function", "function": {"name": "wobble", "parameters": schema}}
    assert [name for name, _ in ask("wobble 3", [tool])[1]] == ["wobble"]


async def test_every_answer_is_labelled_and_streamed_word_by_word(desk: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": "good morning"}]
    async with desk(Turn("no")) as d:
        whole = await d.client.chat.completions.create(model="offline", messages=messages)
        assert whole.choices[0].message.content.startswith(LABEL)
        assert whole.system_fingerprint == FINGERPRINT
        stream = await d.client.chat.completions.create(
            model="offline", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        words = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
        assert "".join(words) == whole.choices[0].message.content
        assert len(words) == len(whole.choices[0].message.content.split())
        assert chunks[-1].usage == whole.usage
        assert not d.upstream.received
        assert [settled.usage.output_tokens for settled in d.gate.settled] == [whole.usage.completion_tokens] * 2


async def test_hub_tools_are_run_for_it(desk: Any) -> None:
    async with desk(Turn("no")) as d:
        d.workshop.add(
            "s",
            "wobble_gizmo",
            lambda size: f"{size} wobbled",
            input_schema={"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]},
        )
        answer = await d.client.chat.completions.create(
            model="offline",
            messages=[{"role": "user", "content": "wobble the gizmo at size 7"}],
            tools=[{"type": "mcp", "server_url": "hub"}],
        )
        assert answer.choices[0].message.content == f"{LABEL} s__wobble_gizmo says: 7 wobbled."
        assert answer.system_fingerprint == FINGERPRINT


@pytest.mark.parametrize(
    ("text", "properties"),
    [
        ("“" * 4000, {"city": {"type": "string"}}),
        ("1 " * 2000, {f"n{at}": {"type": "integer"} for at in range(300)}),
        ("a." * 2000, {f"email{at}": {"type": "string"} for at in range(300)}),
        ("a" * 4000, {f"url{at}": {"type": "string"} for at in range(300)}),
        ("x " * 2000, {f"time_zone{at}": {"type": "string"} for at in range(300)}),
        ("x " * 2000, {"word": {"enum": [f"v{at}" for at in range(20_000)]}}),
        ("x", {"n" * 50_000: {"type": "string"}}),
    ],
    ids=["quotes", "numbers", "emails", "urls", "zones", "enum", "name"],
)
def test_no_request_keeps_the_offline_model_busy(text: str, properties: dict[str, Any]) -> None:
    """Each of these took minutes, in which the hub served nobody."""
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    tools = [
        {"type": "function", "function": {"name": f"weather_{at}", "description": "weather", "parameters": schema}}
        for at in range(4)
    ]
    said, calls = respond({"tools": tools}, [{"role": "user", "content": f"get the weather {text}"}])
    assert calls
    assert not said


def test_a_schema_that_requires_itself_without_end_is_filled() -> None:
    names = [f"p{at}" for at in range(50)]
    inner = {"type": "object", "properties": {name: {"$ref": "#/properties/p0"} for name in names}, "required": names}
    schema = {"type": "object", "properties": {"p0": inner}, "required": ["p0"]}
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    _, calls = respond({"tools": [tool]}, [{"role": "user", "content": "weather"}])
    assert json.loads(calls[0]["function"]["arguments"])
