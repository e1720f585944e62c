"""JSON Patch as RFC 6902 has it, and no larger than it may become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agents.bridges.json_patch import Patched, PatchInvalid
from registry.judged import MAX_DEPTH, encode, nesting

MOST = 1000


def op(kind: str, path: str, *value: Any, source: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"op": kind, "path": path}
    return made | ({"value": value[0]} if value else {}) | ({} if source is None else {"from": source})


DONE = {
    "A.1 a member is added": ({"foo": "bar"}, op("add", "/baz", "qux"), {"baz": "qux", "foo": "bar"}),
    "A.2 an element is added": ({"foo": ["bar", "baz"]}, op("add", "/foo/1", "qux"), {"foo": ["bar", "qux", "baz"]}),
    "A.3 a member is removed": ({"baz": "qux", "foo": "bar"}, op("remove", "/baz"), {"foo": "bar"}),
    "A.4 an element is removed": ({"foo": ["a", "b", "c"]}, op("remove", "/foo/1"), {"foo": ["a", "c"]}),
    "A.5 a value is replaced": ({"baz": "qux"}, op("replace", "/baz", "boo"), {"baz": "boo"}),
    "an element is replaced in its place": ([1, 2, 3], op("replace", "/1", 5), [1, 5, 3]),
    "A.6 a value is moved": (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        op("move", "/qux/thud", source="/foo/waldo"),
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    "A.7 an element is moved": ({"foo": [1, 2, 3, 4]}, op("move", "/foo/3", source="/foo/1"), {"foo": [1, 3, 4, 2]}),
    "A.8 a test passes": ({"foo": ["a", 2]}, op("test", "/foo/1", 2), {"foo": ["a", 2]}),
    "members have no order, and numbers no form": (
        [{"a": 1, "b": [2]}],
        op("test", "/0", {"b": [2.0], "a": 1}),
        [{"a": 1, "b": [2]}],
    ),
    "A.14 names are escaped": ({"/": 9, "~1": 10}, op("add", "/~01", 11), {"/": 9, "~1": 11}),
    "A.16 a list is added to a list": ({"foo": ["bar"]}, op("add", "/foo/-", ["abc"]), {"foo": ["bar", ["abc"]]}),
    "the whole is replaced": ({"foo": 1}, op("replace", "", [2]), [2]),
    "a value is copied": ({"a": [1]}, op("copy", "/b", source="/a"), {"a": [1], "b": [1]}),
}


@pytest.mark.parametrize("name", DONE)
def test_an_operation_does_what_the_specification_says(name: str) -> None:
    before, operation, after = DONE[name]
    patched = Patched(before, most=MOST)
    patched.apply([operation])
    assert patched.value == after


REFUSED = {
    "A.9 a test fails": ({"baz": "qux"}, op("test", "/baz", "bar")),
    "A.12 no parent": ({"foo": "bar"}, op("add", "/baz/bat", "qux")),
    "A.15 a string is no number": ({"/": 9, "~1": 10}, op("test", "/~01", "10")),
    "true is not 1": ({"a": 1}, op("test", "/a", True)),
    "nothing there to remove": ({}, op("remove", "/foo")),
    "nothing there to replace": ({}, op("replace", "/foo", 1)),
    "beyond the end": ([1], op("add", "/2", 1)),
    "a leading zero": ([1, 2], op("replace", "/01", 1)),
    "a number below zero": ([1, 2], op("remove", "/-1")),
    "into itself": ({"a": {}}, op("move", "/a/b", source="/a")),
    "no pointer": ({}, op("add", "foo", 1)),
    "no value": ({}, op("add", "/foo")),
    "no kind": ({}, op("grow", "/foo", 1)),
    "no object": ({}, 5),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused(name: str) -> None:
    value, operation = REFUSED[name]
    with pytest.raises(PatchInvalid):
        Patched(value, most=MOST).apply([operation])


def test_copies_of_copies_stay_within_the_bound() -> None:
    patched = Patched({"a": "x" * 100}, most=MOST)
    with pytest.raises(PatchInvalid, match="too large"):
        patched.apply([op("copy", f"/{n}", source="") for n in range(40)])


@pytest.mark.parametrize(
    "grow", [lambda n: op("add", "/a" * (n + 1), {}), lambda n: op("copy", "/a" * (n + 1), source="")]
)
def test_a_value_is_not_nested_beyond_what_the_hub_reads(grow: Callable[[int], dict[str, Any]]) -> None:
    patched = Patched({}, most=1 << 20)
    with pytest.raises(PatchInvalid, match="deep"):
        patched.apply([grow(n) for n in range(MAX_DEPTH + 1)])
    assert nesting(encode(patched.value))[0] <= MAX_DEPTH


def test_what_is_replaced_over_and_over_is_not_too_large() -> None:
    patched = Patched({"a": ""}, most=MOST)
    patched.apply([op("replace", "/a", "x" * 300) for _ in range(40)])
    assert patched.value == {"a": "x" * 300}


def test_what_was_given_is_left_as_it_is() -> None:
    given = {"a": [1]}
    patched = Patched(given, most=MOST)
    patched.apply([op("copy", "/b", source="/a"), op("add", "/b/-", 2)])
    assert (given, patched.value) == ({"a": [1]}, {"a": [1], "b": [1, 2]})
