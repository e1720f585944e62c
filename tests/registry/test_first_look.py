"""The first look of guards: what it clears holds nothing that a closer look would find."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.judged import encode
from registry.rules import guards
from registry.rules.guard_kinds import build
from registry.rules.guards import Check, Guard, GuardSpec, Pipeline, is_clear, lines, read
from registry.rules.redacting import Fields

PIECES = [
    *("ssn", "s_S-n", "\u017fsn", "cust", "a", "Go", "ACME-7", "https://", "ftp:", "x.example/", "é", "ß"),
    *(
        '"',
        "\\",
        "/",
        "\n",
        "\t",
        "\x01",
        " ",
        "",
        "{",
        "[",
        "}",
        "]",
        ",",
        ":",
        ' {"ssn": 1}',
        '["a", {"s\\u0073n":2}]',
    ),
    *("12345678.10", "100000000000000000000", "1e9", "0" * 9),
]
texts = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
numbers = st.sampled_from([12345678.1, 12345678.125, 1e15, 10**20, 10**9, 1e9, -12345678.5, 0, 1, None, True])
values = st.recursive(
    texts | numbers, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
PATTERNS = (
    *("Go", "^Go", "Go$", r"\bGo\b", r"\BGo", "[^G]o", r"\AGo", r"Go\z", r"\Qo.", r"\^|o", r"\[^G]", r"\$|G", "(?i)gO"),
    *(
        r"8\.1$",
        r"\.1\b",
        r"e\+",
        "^$",
        "[[^]o",
        "o]^",
        "(?m)^o$",
        r"G\\\\o",
        "(?P<n>o)",
        '"',
        r"\.125",
        "0{9}",
        "-1234",
    ),
)


@st.composite
def checks(draw: Any) -> Check:
    """Some guard of each type whose first look is not a type's own."""
    kind = draw(st.sampled_from(["patterns", "urls", "size", "fields"]))
    if kind == "patterns":
        some = st.lists(st.sampled_from(PATTERNS), max_size=3)
        deny, allow = draw(some), draw(some)
        return build(kind, {"deny": deny, "allow": allow or ([] if deny else ["Go"])})
    if kind == "urls":
        return build(kind, draw(st.sampled_from([{"allow": ["x.example"]}, {"deny": ["*.example"]}])))
    if kind == "size":
        return build(kind, {draw(st.sampled_from(["bytes", "items", "depth"])): draw(st.integers(1, 40))})
    return Fields(draw(st.lists(st.sampled_from(["ssn", "cust.ssn", "a", "ss", "a b", "go"]), min_size=1, max_size=2)))


@pytest.mark.attack("2.1/12")
@given(
    value=values,
    looks=st.lists(checks(), min_size=1, max_size=2),
    ascii=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
@example(value={"n": 12345678.10}, looks=[build("patterns", {"deny": [r"8\.1$"]})], ascii=True, indent=None)
@example(value=["Go"], looks=[build("patterns", {"deny": ["^Go"]})], ascii=True, indent=None)
@example(value={"a": '{"s\\u0073n": 1}'}, looks=[Fields(["ssn"])], ascii=True, indent=None)
@example(value=[1e15], looks=[build("size", {"bytes": 10})], ascii=True, indent=None)
@example(value='{"a": [[[]]]}', looks=[build("size", {"depth": 2})], ascii=True, indent=None)
def test_what_the_first_look_clears_no_closer_look_finds(
    value: Any, looks: list[Check], ascii: bool, indent: int | None
) -> None:
    asked = Pipeline([Guard.of(GuardSpec(str(number), "block"), look) for number, look in enumerate(looks)])
    written = json.dumps(value, ensure_ascii=ascii, indent=indent).encode()
    for data in (
        written,
        written.replace(b"/", b"\\/"),
        written.replace(b"12345678.1,", b"12345678.10,"),
        encode(value),
    ):
        if guards.is_clear(asked, "results", data):
            seen = read(data, "x")
            for one in (seen, [seen], [_opened(seen)]):  # as models' answers are looked at
                assert [look.check(one, "#") for look in looks] == [None] * len(looks), data


def _opened(value: Any) -> Any:
    """A value with what its texts say that are JSON."""
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except ValueError:
            return value
        return found if isinstance(found, dict | list) else value
    if isinstance(value, list):
        return [_opened(one) for one in value]
    return {name: _opened(one) for name, one in value.items()} if isinstance(value, dict) else value


@given(value=values, look=checks())
def test_a_check_finds_nothing_where_its_hint_matches_no_line(value: Any, look: Any) -> None:
    assert look.hint is None or look.hint.search(lines(value).encode()) is not None or look.check(value, "#") is None


SAID = {
    "id": "c-1",
    "created": 1763890000,
    "content": [{"type": "text", "text": 'He said:\n"Go/\tnow" for $5'}],
    "é": 0.25,
}


@pytest.mark.parametrize(
    "look",
    [
        build("patterns", {"deny": ["ACME-[0-9]+", r"(?i)\bsecret\b", "[^a-z]Q", r"\$[67]"]}),
        build("urls", {"allow": ["acme.example"]}),
        build("size", {"bytes": 1000, "items": 20, "depth": 5}),
        Fields(["d", "customer.address"]),
    ],
    ids=["patterns", "urls", "size", "fields"],
)
def test_ordinary_answers_are_cleared_where_each_kind_finds_nothing(look: Check) -> None:
    said = {name: value for name, value in SAID.items() if name != "é"} if isinstance(look, Fields) else SAID
    asked = Pipeline(
        [Guard.of(GuardSpec("one", "block"), look), Guard.of(GuardSpec("two", "redact"), build("secrets", {}))]
    )
    for data in (encode(said), json.dumps(said, ensure_ascii=False, indent=1).encode()):
        assert is_clear(asked, "results", data)


def test_what_is_translated_is_cleared_of_what_no_translation_changes_alone() -> None:
    of_form = [build("patterns", {"deny": ["ROLE_USER"]}), build("size", {"items": 9}), Fields(["contextId"])]
    for look in of_form:
        assert not is_clear(Pipeline([Guard.of(GuardSpec("one", "block"), look)]), "results", b"{}", is_as_seen=False)
    of_texts = [Guard.of(GuardSpec(kind, "block"), build(kind, {})) for kind in ("secrets", "pii")]
    of_texts.append(Guard.of(GuardSpec("urls", "block"), build("urls", {"deny": ["*"]})))
    assert is_clear(Pipeline(of_texts), "results", b"{}", is_as_seen=False)


def test_patterns_that_are_too_large_together_are_looked_for_one_by_one() -> None:
    large = [f"{letter}{{1000}}[a-z]{{1000}}" for letter in "abcdefghij"]
    for patterns in (large * 5, large * 10):
        each = [Guard.of(GuardSpec(one, "block"), build("patterns", {"deny": [one]})) for one in patterns]
        together = Guard.of(GuardSpec("all", "block"), build("patterns", {"deny": patterns}))
        for asked in (each * 10, [together]):
            assert not is_clear(Pipeline(asked), "results", b'{"text":"x"}')
        assert is_clear(Pipeline(each[:1]), "results", b'{"text":"x"}')
