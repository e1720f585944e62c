"""Arguments against an operation's schema, by `jsonschema` (docs/decisions/0015-openapi.md). Pure.

What could hold a processor is bounded or left out: a document or arguments that are made for it take as long as is allowed and
no longer, regular expressions of the document are not run, and nothing outside the schema is ever fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from threading import local
from time import thread_time
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators  # type: ignore[import-untyped]
from referencing import Registry

from registry.judged import JsonObject, encode

MAX_VALUES = 20_000
"""Values in the arguments of one call."""

MAX_TOLD = 3
MAX_VALUES_TOLD = 50
_MAX_TEXT = 300

Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


class _TooCostly(Exception):
    pass


_run = local()
"""`until`: when the check of this thread ends, by the thread's own processor time."""


class Check:
    """The arguments of one operation. May be used by several threads."""

    def __init__(self, schema: JsonObject) -> None:
        self._validator = _Validator(schema, registry=Registry())

    def faults(self, arguments: JsonObject, within_s: float) -> list[str] | None:
        """What is wrong with the arguments, each naming its member; empty: nothing is.

        None: that cannot be said within `within_s` seconds of processor time.
        """
        _run.until = thread_time() + within_s
        try:
            if _count(arguments) > MAX_VALUES:
                return [f"arguments: more than {MAX_VALUES} values"]
            return [_told(error) for error in islice(self._validator.iter_errors(arguments), MAX_TOLD)]
        except _TooCostly:
            return None
        except RecursionError:
            return ["arguments: too deep to be checked"]


def _tick() -> None:
    """End the check if its time is over. What lies between two ticks takes a moment; it is their number that grows."""
    if thread_time() > _run.until:
        raise _TooCostly


def _timed(keyword: Keyword) -> Keyword:
    def timed(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        _tick()
        yield from keyword(validator, value, instance, schema) or ()

    return timed


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


def _enum(_validator: Any, values: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    for value in values:
        _tick()
        if value == instance and _same(value, instance):
            return
    few = len(values) <= MAX_VALUES_TOLD and not isinstance(instance, dict | list)
    yield ValidationError(f"{instance!r} is not one of {values!r}" if few else "is not one of the values of its schema")


def _const(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    return _enum(validator, [value], instance, schema)


def _same(one: Any, other: Any) -> bool:
    """Whether two values that Python calls equal are so in JSON, where true is not 1."""
    _tick()
    if isinstance(one, list):
        return all(map(_same, one, other))
    if isinstance(one, dict):
        return all(_same(value, other[name]) for name, value in one.items())
    return isinstance(one, bool) == isinstance(other, bool)


def _canonical(item: Any) -> bytes:
    _tick()
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


_UNCHECKED = ("pattern", "patternProperties", "unevaluatedItems", "unevaluatedProperties")
"""Left to the service: expressions are the document's, and what is unevaluated is found by checking all again."""

_KEYWORDS: dict[str, Keyword] = {
    **Draft202012Validator.VALIDATORS,
    **dict.fromkeys(_UNCHECKED, _unchecked),
    "additionalProperties": _additional,
    "const": _const,
    "enum": _enum,
    "uniqueItems": _unique,
}
_Validator = validators.extend(Draft202012Validator, {name: _timed(keyword) for name, keyword in _KEYWORDS.items()})
