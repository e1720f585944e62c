"""Arguments against an operation's schema, by `jsonschema` (docs/decisions/0015-openapi.md). Pure.

What could hold the event loop is bounded or left out: regular expressions of the document are not run, references are
counted, and nothing outside the schema is ever fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators  # type: ignore[import-untyped]
from referencing import Registry

from registry.judged import JsonObject, encode

MAX_VALUES = 20_000
"""Values in the arguments of one call."""

MAX_STEPS = 5_000
"""References followed while one call's arguments are checked."""

MAX_TOLD = 3
_MAX_TEXT = 300


class _TooCostly(Exception):
    pass


class Check:
    """The arguments of one operation. Not to be used by several threads."""

    def __init__(self, schema: JsonObject) -> None:
        self._steps = 0
        bounded = dict.fromkeys(("pattern", "patternProperties", "unevaluatedProperties"), _unchecked)
        kind = validators.extend(
            Draft202012Validator,
            {
                **bounded,
                "$ref": self._reference,
                "additionalProperties": _additional,
                "uniqueItems": _unique,
            },
        )
        self._validator = kind(schema, registry=Registry())

    def faults(self, arguments: JsonObject) -> list[str]:
        """What is wrong with the arguments, each naming its member; empty: nothing is."""
        self._steps = 0
        try:
            if _count(arguments) > MAX_VALUES:
                return [f"arguments: more than {MAX_VALUES} values"]
            return [_told(error) for error in islice(self._validator.iter_errors(arguments), MAX_TOLD)]
        except (_TooCostly, RecursionError):
            return ["arguments: too deep or too many to be checked"]

    def _reference(self, validator: Any, reference: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise _TooCostly
        yield from Draft202012Validator.VALIDATORS["$ref"](validator, reference, instance, schema)


def _unchecked(_validator: Any, _value: Any, _instance: Any, _schema: Any) -> Iterator[ValidationError]:
    return iter(())


def _additional(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if "patternProperties" not in schema:  # which of them a pattern would match is left to the service
        yield from Draft202012Validator.VALIDATORS["additionalProperties"](validator, value, instance, schema)


def _unique(_validator: Any, value: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if value and isinstance(instance, list):
        written = {encode(item) if not isinstance(item, dict | list) else _canonical(item) for item in instance}
        if len(written) < len(instance):
            yield ValidationError("has an item twice")


def _canonical(item: Any) -> bytes:
    if isinstance(item, dict):
        return b"{%b}" % b",".join(encode(name) + _canonical(item[name]) for name in sorted(item))
    if isinstance(item, list):
        return b"[%b]" % b",".join(map(_canonical, item))
    return encode(item)


def _count(value: Any) -> int:
    """How many values there are, counted no further than `MAX_VALUES` and one."""
    waiting, found = [value], 0
    while waiting and found <= MAX_VALUES:
        item = waiting.pop()
        found += 1
        if isinstance(item, dict | list):
            waiting.extend(item.values() if isinstance(item, dict) else item)
    return found


def _told(error: ValidationError) -> str:
    member = ".".join(str(part) for part in error.absolute_path) or "arguments"
    text = error.message if len(error.message) <= _MAX_TEXT else f"does not match {error.validator!r} of its schema"
    return f"{member[:_MAX_TEXT]}: {text}"
