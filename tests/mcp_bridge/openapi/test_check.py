"""Arguments that are checked: what JSON Schema says of them, and that no document and no arguments hold the hub."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest

from mcp_bridge.openapi import check as module
from mcp_bridge.openapi.check import Check

MANY = 5_000


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"anyOf": [schema, schema]}
    return schema


def doubling(keyword: str) -> dict[str, Any]:
    """A schema of references that are followed 2^30 times."""
    defs: dict[str, Any] = {f"s{n}": {keyword: [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(30)}
    return {"$ref": "#/$defs/s0", "$defs": {**defs, "s30": {"type": "array"}}}


def check_of(schema: dict[str, Any]) -> Check:
    return Check({"properties": {"x": schema}, "$defs": schema.get("$defs", {})})


HOSTILE: dict[str, tuple[dict[str, Any], Any]] = {
    "references": (doubling("allOf"), []),
    "alternatives": (nested(16), 1),
    "items": ({"items": {"properties": {"a": {"minimum": 0}}}}, [{"a": 1}] * MANY),
    "enum": ({"items": {"enum": [f"v{n}" for n in range(2_000)]}}, ["v1999"] * MANY),
    "enum of lists": ({"items": {"enum": [[0] * 2_000 + [True]]}}, [[0] * 2_000 + [1]] * 8),
    "contains": ({"contains": {"anyOf": [{"const": n} for n in range(50)]}}, [-1] * MANY),
    "uniqueItems": ({"uniqueItems": True}, [{"n": n} for n in range(MANY)]),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.attack("2.1/28", "2.1/29")
def test_a_check_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The clock goes on by one whenever it is read: it must be read again and again, and not once more than it may."""
    schema, value = HOSTILE[name]
    clock = count()
    monkeypatch.setattr(module, "thread_time", lambda: next(clock))
    assert check_of(schema).faults({"x": value}, 1_000) is None
    assert next(clock) == 1_002


def test_what_is_unevaluated_is_left_to_the_service() -> None:
    assert check_of({**doubling("anyOf"), "unevaluatedItems": False}).faults({"x": [1]}, 60) == []


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"enum": [1, "a", None]}, [1, 1.0, "a", None], [True, "b", 0, [1]]),
        ({"enum": [[1, {"a": True}]]}, [[1, {"a": True}], [1.0, {"a": True}]], [[1, {"a": 1}], [True, {"a": True}]]),
        ({"const": 0}, [0, 0.0], [False, None, "0"]),
        ({"const": {"a": [False]}}, [{"a": [False]}], [{"a": [0]}, {"a": []}, {}]),
    ],
)
def test_true_is_not_one(schema: Any, good: list[Any], bad: list[Any]) -> None:
    check = Check({"properties": {"x": schema}})
    for value in good:
        assert check.faults({"x": value}, 60) == [], json.dumps(value)
    for value in bad:
        (fault,) = check.faults({"x": value}, 60) or ()
        assert "is not one of" in fault
