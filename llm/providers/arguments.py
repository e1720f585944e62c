"""How the offline model fills a tool's arguments: from the text, guided by JSON Schema. Pure but for the time zones' names."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

from llm.providers.words import STOP_WORDS, Tool, words
from registry.judged import JsonObject

MAX_NESTING = 4
"""Objects in objects deeper than this are left empty; it also ends schemas that refer to themselves."""

MAX_VALUES = 50
"""Values that one tool's schema can ask for; a schema whose objects require themselves would ask without end."""

MAX_NAME = 100
MAX_CHOICES = 1000
MAX_MATCHES = 50
"""Places of the text that are looked at for one value."""

BESIDE = 40
"""Characters on either side of a value in which its name is looked for."""

_QUOTED = re.compile(r"\"([^\"\n]*)\"|(?<!\w)'([^'\n]*)'(?!\w)|`([^`\n]*)`|“([^“”\n]*)”")
_NUMBER = re.compile(r"(?<![\w.:/-])[-+]?\d+(?:\.\d+)?(?![\w:/]|-\d|\.\d)")
_INTEGER = re.compile(r"(?<![\w.:/-])[-+]?\d+(?![\w:/]|-\d|\.\d)")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_DATE_TIME = re.compile(r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?")
_TIME = re.compile(r"(?<![\d:])\d{1,2}:\d{2}(?::\d{2})?(?![\d:])")
_URL = re.compile(r"\b[a-z][a-z0-9+.-]{0,30}://[^\s\"'<>]+", re.IGNORECASE)
_EMAIL = re.compile(r"\b[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+\b")
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_ZONE = re.compile(r"\b[A-Z][A-Za-z_]+(?:/[A-Z][A-Za-z_+-]+\d*){1,2}")
_PROPER = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w'-]*(?:\s+[A-Z][\w'-]*)*")
_AFTER = re.compile(r"\b(?:named|called|about|for|of|in|to|from|with|on|at|saying|says)\s+([^,.;!?]+)", re.IGNORECASE)
_ASKS_ZONE = re.compile(r"time[\s_-]*zone|\biana\b|\btz\b", re.IGNORECASE)


class Missing(Exception):
    """The text does not give this argument."""


@dataclass(slots=True)
class Source:
    """A text from which arguments are taken, each piece of it once."""

    text: str
    taken: list[tuple[int, int]] = field(default_factory=list)
    lowered: str = field(init=False)

    def __post_init__(self) -> None:
        self.lowered = self.text.casefold()

    def find(self, pattern: re.Pattern[str], *, near: str = "") -> str | None:
        """Take the next match, if there is one; one that stands by a word of `near` goes first."""
        free = list(
            islice((match for match in pattern.finditer(self.text) if self._is_free(match.span())), MAX_MATCHES)
        )
        if not free:
            return None
        named = [word for word in words(near) if word not in STOP_WORDS]
        match = next((match for match in free if self._beside(match, named)), free[0]) if named else free[0]
        self.taken.append(match.span())
        return next((group for group in match.groups() if group is not None), match.group())

    def find_word(self, wanted: str) -> bool:
        """Take a word or phrase, in any case, if it stands in the text."""
        if wanted.casefold() not in self.lowered:  # spares making patterns of what is not there
            return False
        return self.find(re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)", re.IGNORECASE)) is not None

    def _is_free(self, span: tuple[int, int]) -> bool:
        return not any(span[0] < last and first < span[1] for first, last in self.taken)

    def _beside(self, match: re.Match[str], wanted: list[str]) -> bool:
        before = words(self.text[max(0, match.start() - BESIDE) : match.start()])[-2:]
        after = words(self.text[match.end() : match.end() + BESIDE])[:1]
        return any(word in before or word in after for word in wanted)


def fill(tool: Tool, text: str) -> JsonObject:
    """Arguments for a tool: what the text gives, and for required ones that it does not give the plainest value."""
    return _Filling(tool, Source(text)).object(tool.schema, depth=0)


def missing(tool: Tool, text: str) -> int:
    """How many required arguments the text does not give."""
    filling = _Filling(tool, Source(text))
    filling.object(tool.schema, depth=0)
    return filling.missing


@dataclass(slots=True)
class _Filling:
    tool: Tool
    source: Source
    missing: int = 0
    asked: int = 0
    """Values looked for so far."""

    def object(self, schema: JsonObject, *, depth: int) -> JsonObject:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or depth > MAX_NESTING:
            return {}
        required = schema.get("required")
        required = required if isinstance(required, list) else []
        found: JsonObject = {}
        # values of a form of their own first, so that free texts take what is left
        for name in sorted(properties, key=lambda name: _freedom(self._resolve(properties[name]), name)):
            described = self._resolve(properties[name])
            try:
                found[name] = self._value(name, described, required=name in required, depth=depth)
            except Missing:
                if name in required:
                    self.missing += 1
                    found[name] = _plainest(described, self.source.text)
        return {name: found[name] for name in properties if name in found}

    def _resolve(self, schema: Any) -> JsonObject:
        """Follow `$ref` into the tool's own definitions and take the first alternative that is not null."""
        for _ in range(MAX_NESTING):
            if not isinstance(schema, dict):
                return {}
            reference = schema.get("$ref")
            alternatives = schema.get("anyOf") or schema.get("oneOf")
            if isinstance(reference, str) and reference.startswith("#/"):
                target: Any = self.tool.schema
                for step in reference[2:].split("/"):
                    target = target.get(step) if isinstance(target, dict) else None
                schema = target
            elif isinstance(alternatives, list):
                kept = [one for one in alternatives if isinstance(one, dict) and one.get("type") != "null"]
                shared = {name: value for name, value in schema.items() if name not in ("anyOf", "oneOf")}
                schema = {**shared, **kept[0]} if kept else {}
            else:
                return schema
        return {}

    def _value(self, name: str, schema: JsonObject, *, required: bool, depth: int) -> Any:
        self.asked += 1
        if self.asked > MAX_VALUES or len(name) > MAX_NAME:
            raise Missing
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list):
            return self._enum(schema["enum"])
        kind = _kind(schema)
        if kind == "object":
            inner = self.object(schema, depth=depth + 1) if required else {}
            if not inner:
                raise Missing
            return inner
        if kind == "array":
            return self._array(name, self._resolve(schema.get("items")), required=required)
        simple: dict[str, Callable[[], Any]] = {
            "boolean": lambda: self._boolean(name),
            "integer": lambda: int(self._take(_INTEGER, name)),
            "number": lambda: _number(self._take(_NUMBER, name)),
        }
        return simple.get(kind, lambda: self._string(name, schema, required=required))()

    def _take(self, pattern: re.Pattern[str], near: str = "") -> str:
        found = self.source.find(pattern, near=near)
        if found is None:
            raise Missing
        return found

    def _enum(self, values: list[Any]) -> Any:
        for value in sorted(values[:MAX_CHOICES], key=lambda value: -len(str(value))):
            spoken = re.sub(r"[_-]+", " ", str(value))
            if self.source.find_word(str(value)) or self.source.find_word(spoken):
                return value
        raise Missing

    def _boolean(self, name: str) -> bool:
        said = words(self.source.text)
        for word in words(name):
            if word in said and word not in STOP_WORDS:
                before = said[max(0, said.index(word) - 2) : said.index(word)]
                after = said[said.index(word) + 1 : said.index(word) + 3]
                return not ({"not", "no", "without", "don"} & set(before) or {"false", "no", "off"} & set(after))
        raise Missing

    def _array(self, name: str, items: JsonObject, *, required: bool) -> list[Any]:
        found: list[Any] = []
        try:
            while len(found) < 100:  # every turn takes a piece of the text; this only bounds it
                found.append(self._value(name, items, required=required and not found, depth=MAX_NESTING))
        except Missing:
            pass
        if not found:
            raise Missing
        return found

    def _string(self, name: str, schema: JsonObject, *, required: bool) -> str:
        form = _form(name, schema)
        if form == "time-zone":
            return self._zone()
        if form is not None:
            return self._take(_FORMS[form], name)
        quoted = self.source.find(_QUOTED, near=name)
        if quoted is not None:
            return quoted
        named = self.source.find(_said_with(name))
        if named is not None:
            return named
        if not required:
            raise Missing
        return self._free()

    def _zone(self) -> str:
        known = _zones()
        places = [
            (match.start(), zone)
            for spoken, zone in known.items()
            if spoken.casefold() in self.source.lowered and (match := _place(spoken).search(self.source.text))
        ]
        full = [(match.start(), match.group()) for match in _ZONE.finditer(self.source.text)]
        for start, zone in sorted([*full, *places], key=lambda found: (found[0], -len(found[1]))):
            spoken = zone if self.source.text.startswith(zone, start) else zone.rpartition("/")[2].replace("_", " ")
            if self.source.find(re.compile(rf"(?<!\w){re.escape(spoken)}(?!\w)", re.IGNORECASE)) is not None:
                return zone
        raise Missing

    def _free(self) -> str:
        """Take what the text is about: names, else what follows a preposition, else what the tool's own words leave."""
        for pattern in (_PROPER, _AFTER):
            found = self.source.find(pattern)
            if found is not None:
                return found.strip()
        left = [
            word
            for word in re.findall(r"[\w'-]+", self.source.text)
            if word.lower() not in STOP_WORDS and not set(words(word)) & self.tool.weights.keys()
        ]
        if not left or self.source.taken:
            raise Missing
        self.source.taken.append((0, len(self.source.text)))
        return " ".join(left)


_FORMS = {
    "date-time": _DATE_TIME,
    "date": _DATE,
    "time": _TIME,
    "uri": _URL,
    "email": _EMAIL,
    "uuid": _UUID,
}

_FREEDOM = {"boolean": 1, "integer": 2, "number": 2, "array": 4, "object": 5}


def _freedom(schema: JsonObject, name: str) -> int:
    """How little the schema says about what a value looks like; the most particular are filled first."""
    if "const" in schema or "enum" in schema:
        return 0
    kind = _kind(schema)
    if kind == "string":
        return 1 if _form(name, schema) is not None else 3
    return _FREEDOM.get(kind, 3)


def _kind(schema: JsonObject) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None)
    return kind if isinstance(kind, str) else "object" if "properties" in schema else "string"


def _form(name: str, schema: JsonObject) -> str | None:
    """The form that a string must have, by its format, its name or its description; None: any."""
    given = str(schema.get("format") or "")
    if given in _FORMS:
        return given
    if _ASKS_ZONE.search(f"{name} {schema.get('description') or ''}"):
        return "time-zone"
    said = words(name)
    for word, form in (
        ("date", "date"),
        ("dat", "date"),
        ("tim", "time"),
        ("url", "uri"),
        ("uri", "uri"),
        ("email", "email"),
    ):
        if word in said:
            return form
    return None


def _number(text: str) -> float | int:
    return float(text) if "." in text else int(text)


@lru_cache(maxsize=256)
def _said_with(name: str) -> re.Pattern[str]:
    """A value said with its parameter's name: `city Paris`, `city: Paris`, `city is Paris`, `city=Paris`."""
    spoken = r"[\s_-]*".join(re.escape(word) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)) or re.escape(
        name
    )
    return re.compile(rf"\b{spoken}\b\s*(?:is\b|=|:)?\s*([\w@#][\w@#./+-]*)", re.IGNORECASE)


@lru_cache(maxsize=1024)
def _place(spoken: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(spoken)}(?!\w)", re.IGNORECASE)


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    """IANA time zones by the name of their place, as people say it."""
    zones: dict[str, str] = {}
    for zone in sorted(zoneinfo.available_timezones()):
        area, slash, place = zone.rpartition("/")
        if (slash and area not in ("Etc", "SystemV", "posix", "right")) or zone in ("UTC", "GMT"):
            zones.setdefault(place.replace("_", " "), zone)
    return zones


def _plainest(schema: JsonObject, text: str) -> Any:
    """The plainest value that the schema allows."""
    if "default" in schema:
        return schema["default"]
    for member in ("examples", "enum"):
        if isinstance(schema.get(member), list) and schema[member]:
            return schema[member][0]
    kind = _kind(schema)
    plain: dict[str, Any] = {"boolean": False, "array": [], "object": {}, "string": text.strip()}
    if kind in plain:
        return plain[kind]
    least = schema.get("minimum")
    return least if isinstance(least, int | float) else 0
