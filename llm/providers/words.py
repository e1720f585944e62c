"""How the offline model chooses: the words of a request against the words of the tools offered. Pure and deterministic."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry.judged import JsonObject

_SAYING_NOTHING = (
    "a an and are as at be by can could do does for from give has have how i if in into is it its make me my now of on or"
    " our please tell that the their them then there these this those to us use using want was we what when where which"
    " who will with would you your also after all any each first next should tool value default optional string number"
    " integer boolean returns return given name"
)
STOP_WORDS = frozenset(_SAYING_NOTHING.split())
"""Words that say nothing about what is wanted."""

IN_NAME, IN_PARAMETER, IN_DESCRIPTION = 3.0, 1.5, 1.0
"""What one matching word weighs, by where in the tool it stands."""

ENOUGH = 2.0
"""A word of the tool's name, or two of its description."""

_WORD = re.compile(r"[A-Za-z]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PART_END = re.compile(r"[.!?;]+(?=\s|$)|\n+|,\s+|\s+(?=(?:and|then)\s)", re.IGNORECASE)
_QUOTED = re.compile(r"\"[^\"\n]*\"|(?<!\w)'[^'\n]*'(?!\w)|`[^`\n]*`|“[^“”\n]*”")


def words(text: str) -> list[str]:
    """The words of a text or of a name, in lower case and without common endings."""
    return [_stem(word.lower()) for word in _WORD.findall(_CAMEL.sub(" ", text))]


def _stem(word: str) -> str:
    for ending, least in (("ies", 5), ("ing", 6), ("ed", 5), ("es", 5), ("s", 4)):
        if word.endswith(ending) and len(word) >= least and not word.endswith("ss"):
            stem = word.removesuffix(ending)
            return stem + "y" if ending == "ies" else stem.removesuffix("e")
    return word.removesuffix("e") if len(word) > 3 else word


@dataclass(frozen=True, slots=True)
class Tool:
    """A function tool, with the weight of each word that speaks for it."""

    name: str
    schema: JsonObject
    weights: Mapping[str, float] = field(default_factory=dict)


def read_tools(tools: Sequence[Any]) -> list[Tool]:
    """The function tools of a request; words that many of them share count less."""
    found = [_read_tool(tool["function"]) for tool in tools if isinstance(tool.get("function"), dict)]
    shared = Counter(word for tool in found for word in tool.weights)
    return [
        Tool(
            tool.name,
            tool.schema,
            {word: weight / (1 + math.log(shared[word]) / 4) for word, weight in tool.weights.items()},
        )
        for tool in found
    ]


def _read_tool(function: JsonObject) -> Tool:
    schema = function.get("parameters")
    schema = schema if isinstance(schema, dict) else {}
    weights: dict[str, float] = {}
    properties = schema.get("properties")
    for text, weight in (
        (function.get("description"), IN_DESCRIPTION),
        (" ".join(properties) if isinstance(properties, dict) else "", IN_PARAMETER),
        (function.get("name"), IN_NAME),
    ):
        weights.update((word, weight) for word in words(str(text or "")) if word not in _STOPPED)
    return Tool(str(function.get("name")), schema, weights)


_STOPPED = STOP_WORDS | {_stem(word) for word in STOP_WORDS}


def heard(text: str) -> frozenset[str]:
    """The words of `text` that may speak for a tool; what is quoted is data and speaks for nothing."""
    return frozenset(words(_QUOTED.sub(" ", text)))


def score(tool: Tool, said: frozenset[str]) -> float:
    """How much the words that were `heard` speak for the tool."""
    return sum(tool.weights.get(word, 0.0) for word in said)


def parts(text: str) -> Iterator[str]:
    """Cut a request where another wish may begin; never within quotes."""
    start = 0
    quotes = [match.span() for match in _QUOTED.finditer(text)]
    for end in _PART_END.finditer(text):
        if not any(first < end.start() < last for first, last in quotes):
            yield text[start : end.start()]
            start = end.end()
    yield text[start:]


@dataclass(slots=True)
class Wish:
    """A part of the request and the tool that fits it."""

    tool: Tool
    text: str


def wishes(text: str, tools: Sequence[Tool], *, penalty: Mapping[str, float] | None = None) -> list[Wish]:
    """Split a request into wishes, one for each tool that a part of it fits.

    A part that fits no tool, or the same as before, belongs to the wish before it; what comes before the first belongs
    to the first. `penalty` is taken off a tool's score where it already fits: for arguments that the text does not give.
    """
    found: list[Wish] = []
    leading = ""
    for part in parts(text):
        best = _best(part, tools, penalty or {})
        same = next((wish for wish in found if best is not None and wish.tool is best), None)
        if best is not None and same is None:
            found.append(Wish(best, f"{leading} {part}".strip()))
            leading = ""
        elif found:
            wish = same or found[-1]
            wish.text = f"{wish.text}, {part}" if part.strip() else wish.text
        else:
            leading = f"{leading} {part}".strip()
    return found


def _best(part: str, tools: Sequence[Tool], penalty: Mapping[str, float]) -> Tool | None:
    said = heard(part)
    scores = [(score(tool, said), tool) for tool in tools]
    fitting = [(found - penalty.get(tool.name, 0.0), tool) for found, tool in scores if found >= ENOUGH]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None
