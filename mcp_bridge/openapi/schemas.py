"""Schema Objects of OpenAPI 3.0 and 3.1 as JSON Schema 2020-12 that stands by itself. Pure.

What is referred to becomes a member of `$defs`, once, so that neither circles nor repetition make a schema grow. The
schema of an answer is relaxed: it describes what may come, and an answer that was shortened for its reader, or has a
member that the document does not know, still matches it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mcp_bridge.openapi.pointers import Bad, References
from registry.declared.source import Path
from registry.judged import JsonObject

MAX_PARTS = 20_000
"""Schemas within the schema of one operation."""

MAX_DEPTH = 64

_TYPES = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
_ONE = frozenset(
    {
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_SEVERAL = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED = frozenset({"dependentSchemas", "patternProperties", "properties"})
_RELAXED = frozenset(
    {
        "contains",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "examples",
        "if",
        "maxContains",
        "minContains",
        "minItems",
        "minLength",
        "minProperties",
        "not",
        "pattern",
        "propertyNames",
        "required",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
"""Keywords that the schema of an answer does without."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_type(value: Any) -> bool:
    return value in _TYPES if isinstance(value, str) else _are_names(value) and bool(value) and _TYPES.issuperset(value)


_PLAIN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "const": (lambda _: True, ""),
    "contentEncoding": (_is_text, "a text"),
    "contentMediaType": (_is_text, "a text"),
    "default": (lambda _: True, ""),
    "dependentRequired": (lambda value: isinstance(value, dict) and all(map(_are_names, value.values())), "a map"),
    "deprecated": (_is_switch, "true or false"),
    "description": (_is_text, "a text"),
    "enum": (_is_list, "a list"),
    "exclusiveMaximum": (_is_number, "a number"),
    "exclusiveMinimum": (_is_number, "a number"),
    "format": (_is_text, "a text"),
    "maxContains": (_is_count, "a whole number"),
    "maxItems": (_is_count, "a whole number"),
    "maxLength": (_is_count, "a whole number"),
    "maxProperties": (_is_count, "a whole number"),
    "maximum": (_is_number, "a number"),
    "minContains": (_is_count, "a whole number"),
    "minItems": (_is_count, "a whole number"),
    "minLength": (_is_count, "a whole number"),
    "minProperties": (_is_count, "a whole number"),
    "minimum": (_is_number, "a number"),
    "multipleOf": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "pattern": (_is_text, "a text"),
    "required": (_are_names, "a list of names"),
    "title": (_is_text, "a text"),
    "type": (_is_type, "a type of JSON Schema"),
    "uniqueItems": (_is_switch, "true or false"),
}
"""Keywords without schemas in them, and what they must be."""


class Schemas:
    """Turns the schemas of one operation into JSON Schema; `defs` is what they refer to, once `finish` was called."""

    def __init__(self, references: References, *, is_30: bool, for_answer: bool = False) -> None:
        self.defs: JsonObject = {}
        self._references = references
        self._is_30 = is_30
        self._for_answer = for_answer
        self._names: dict[Path, str] = {}
        self._waiting: list[tuple[str, Path, Path]] = []
        self._parts = 0

    def convert(self, schema: Any, path: Path, depth: int = 0) -> Any:
        """Turn the schema at `path` into JSON Schema; raises `Bad`."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Bad(path, f"the schemas of one operation have more than {MAX_PARTS} parts")
        if depth > MAX_DEPTH:
            raise Bad(path, f"nested deeper than {MAX_DEPTH}")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise Bad(path, "must be a schema")
        if "$ref" not in schema:
            return self._object(schema, path, depth)
        name = self._name(schema["$ref"], path)
        beside = (
            {} if self._is_30 else {k: v for k, v in schema.items() if k != "$ref"}
        )  # 3.0: nothing counts beside it
        return {**self._object(beside, path, depth), "$ref": f"#/$defs/{name}"}

    def convert_root(self, schema: Any, path: Path) -> Any:
        """As `convert`, with a reference replaced by what it leads to: clients look at the top of a tool's schemas."""
        followed, at = self._references.follow(schema, path)
        return self.convert(followed, at)

    def finish(self) -> None:
        """Convert what is referred to."""
        while self._waiting:
            name, target, path = self._waiting.pop()
            self.defs[name] = self.convert(self._references.at(target, path), target)

    def _name(self, reference: Any, path: Path) -> str:
        target = self._references.target(reference, path)
        name = self._names.get(target)
        if name is None:
            plain = re.sub(r"[^A-Za-z0-9_-]", "_", str(target[-1]))[:64] or "schema"
            name, count = plain, 1
            while name in self.defs:
                count += 1
                name = f"{plain}_{count}"
            self._names[target] = name
            self.defs[name] = {}
            self._waiting.append((name, target, path))
        return name

    def _object(self, schema: JsonObject, path: Path, depth: int) -> JsonObject:
        if self._is_30:
            schema = _from_30(schema)
        hidden = self._hidden(schema)
        found: JsonObject = {}
        for keyword, value in schema.items():
            if not (self._for_answer and (keyword in _RELAXED or (keyword, value) == ("additionalProperties", False))):
                self._keyword(keyword, value, (*path, keyword), depth, found)
        for name in hidden:
            found["properties"].pop(name, None)
        if hidden and "required" in found:
            found["required"] = [name for name in found["required"] if name not in hidden]
        return found

    def _keyword(self, keyword: str, value: Any, here: Path, depth: int, found: JsonObject) -> None:
        """Convert one member of a schema; what is no keyword of JSON Schema is left out."""
        if keyword in _PLAIN:
            is_valid, expected = _PLAIN[keyword]
            if not is_valid(value):
                raise Bad(here, f"must be {expected}")
            found[keyword] = value
        elif keyword == "examples" and isinstance(value, list):
            found[keyword] = value
        elif keyword in _ONE:
            found[keyword] = self.convert(value, here, depth + 1)
        elif keyword in _SEVERAL:
            found[self._listed_as(keyword)] = self._list(value, here, depth)
        elif keyword in _NAMED:
            found[keyword] = self._map(value, here, depth)

    def _listed_as(self, keyword: str) -> str:
        return "anyOf" if self._for_answer and keyword == "oneOf" else keyword

    def _list(self, value: Any, path: Path, depth: int) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise Bad(path, "must be a list of schemas")
        return [self.convert(item, (*path, at), depth + 1) for at, item in enumerate(value)]

    def _map(self, value: Any, path: Path, depth: int) -> JsonObject:
        if not isinstance(value, dict):
            raise Bad(path, "must be a map of schemas")
        return {name: self.convert(item, (*path, name), depth + 1) for name, item in value.items()}

    def _hidden(self, schema: JsonObject) -> frozenset[str]:
        """Properties that only the other direction has."""
        keyword = "writeOnly" if self._for_answer else "readOnly"
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return frozenset()
        return frozenset(n for n, item in properties.items() if isinstance(item, dict) and item.get(keyword) is True)


def _from_30(schema: JsonObject) -> JsonObject:
    """A Schema Object of 3.0 with what JSON Schema says differently said its way."""
    schema = dict(schema)
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)
    if "example" in schema:
        schema.setdefault("examples", [schema.pop("example")])
    if schema.pop("nullable", False) is not True:
        return schema
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
        return schema
    return {"anyOf": [schema, {"enum": [None]}]} if schema.keys() & {"$ref", "allOf", "anyOf", "oneOf"} else schema


def is_object(schema: Any) -> bool:
    """Whether a converted schema is one of objects, and says so by itself."""
    if not isinstance(schema, dict):
        return False
    if "type" in schema:
        return bool(schema["type"] == "object")
    return "properties" in schema or any(is_object(part) for part in schema.get("allOf", ()))
