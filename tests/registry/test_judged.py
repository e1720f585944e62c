import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidRequest, ParseFailed
from registry.judged import (
    MAX_DEPTH,
    body,
    check_spelling,
    decode,
    encode,
    is_plain,
    plain,
    read_array,
    read_object,
    read_string,
)

DECIDING = frozenset({"model", "taskId"})
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=6))
def test_what_was_read_and_written_anew_says_the_same(value: dict[str, object]) -> None:
    assert json.loads(encode(body(json.dumps(value).encode(), frozenset()))) == value


@given(json_values, st.booleans())
def test_the_depth_that_is_counted_is_the_depth_of_the_value(value: object, ascii_only: bool) -> None:
    def depth(item: object) -> int:
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        return max(map(depth, inner), default=0) + isinstance(item, dict | list)

    filler = "[" * (MAX_DEPTH - 1) + json.dumps(value, ensure_ascii=ascii_only) + "]" * (MAX_DEPTH - 1)
    data = f'{{"x":{filler}}}'.encode()
    if depth(value) == 0:
        body(data, frozenset())
    else:
        with pytest.raises(ParseFailed, match="nested"):
            body(data, frozenset())


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":[' + b"{}," * 200 + b"[" * 1000,
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    ],
)
@pytest.mark.attack("2.1/27", defence="registry.judged:_check_depth")
def test_depth_without_end_is_refused(data: bytes) -> None:
    with pytest.raises(ParseFailed):
        body(data, DECIDING)


def test_brackets_in_texts_do_not_count_as_depth() -> None:
    text = '[{"\\' * 500
    assert decode(body(json.dumps({"x": text}).encode(), DECIDING)["x"]) == text


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"a":}', b'{"a":1}x', b"\xff\xfe", b'{"a":"\xff"}', b'{"a":NaN}', b"{'a':1}"]
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(ParseFailed):
        body(data, DECIDING)


@pytest.mark.parametrize("data", [b"[]", b"1", b'"x"', b"null"])
def test_json_that_is_no_object_is_an_invalid_request(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        body(data, DECIDING)


@pytest.mark.parametrize(
    "data",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"mod\\u0065l":"a","\\u006dodel":"b"}',
        b'{"x":{"y":[{"taskId":1,"taskId":2}]}}',
    ],
)
@pytest.mark.attack("2.1/27", defence="registry.judged:_check_duplicates")
def test_a_deciding_member_that_stands_twice_is_refused_wherever_it_stands(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="stands twice"):
        body(data, DECIDING)


def test_a_deciding_member_may_stand_once_in_each_of_several_objects() -> None:
    assert set(body(b'{"model":"a","x":[{"model":1},{"model":2}]}', DECIDING)) == {"model", "x"}


@pytest.mark.attack("2.1/27")
def test_a_number_of_any_length_is_passed_on_as_it_came() -> None:
    number = b"1" * 5000
    data = b'{"model":"a","x":{"model":' + number + b"}}"
    assert number in encode(body(data, DECIDING))


@pytest.mark.parametrize("name", ["task_id", "TaskId", "task-id", "TASKID", "ta\u017fkId"])
@pytest.mark.attack("2.1/27", defence="registry.judged:check_spelling")
def test_another_spelling_of_a_deciding_member_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="taskId"):
        check_spelling(read_object(json.dumps({name: 1}).encode()), DECIDING)


def test_members_that_decide_nothing_may_be_spelt_freely() -> None:
    check_spelling(read_object(b'{"taskId":1,"context_id":2}'), DECIDING)


def test_a_text_is_read_as_a_text_only() -> None:
    read = read_object(b'{"a":"x","b":null,"c":1}')
    assert read_string(read, "a") == "x"
    assert read_string(read, "b") is None
    assert read_string(read, "absent") is None
    with pytest.raises(InvalidRequest, match="c must be a string"):
        read_string(read, "c")


def test_an_array_is_read_as_an_array_only() -> None:
    read = read_object(b'{"a":[1,{"b":2}],"c":{}}')
    assert [bytes(item) for item in read_array(read["a"], "a")] == [b"1", b'{"b":2}']
    with pytest.raises(InvalidRequest):
        read_array(read["c"], "c")


SPELLINGS = ["taskId", "task_id", "TASK-ID", "Taskid", "model", "mo\\u0064el", "ta\u017fkId", "other", "id"]
members = st.recursive(
    st.sampled_from(['""', "1", '"taskId"', '"x \\"model\\": y"']),
    lambda inner: (
        st.lists(st.tuples(st.sampled_from(SPELLINGS), inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}"
        )
        | st.lists(inner, max_size=2).map(lambda items: "[" + ",".join(items) + "]")
    ),
    max_leaves=6,
)


@given(st.lists(st.tuples(st.sampled_from(SPELLINGS), members), max_size=4))
def test_a_plain_body_has_each_deciding_member_once_and_spelt_as_it_is(pairs: list[tuple[str, str]]) -> None:
    data = ("{" + ",".join(f'"{name}" : {value}' for name, value in pairs) + "}").encode()
    found: list[str] = []

    def note(members: list[tuple[str, object]]) -> None:
        folded = [(name.replace("_", "").replace("-", "").casefold(), name) for name, _ in members]
        found.extend(name for fold, name in folded if fold in {"model", "taskid"})

    json.loads(data, object_pairs_hook=note)
    if is_plain(data, DECIDING):
        assert len(found) == len(set(found))
        assert DECIDING.issuperset(found)
    elif data.isascii() and b"\\u" not in data:
        assert not DECIDING.issuperset(found) or data.count(b'"taskId"') > 1 or data.count(b'"model"') > 1


NAMES = ["a", "b", "\\u0061", '\\":', ":"]
values = st.recursive(
    st.sampled_from(
        ['"a"', '"x\\":y"', '":"', "1.50", "-0", "1e400", "12345678901234567890123", '"\\ud800"', "NaN", "null"]
    ),
    lambda inner: (
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([":", " : ", "\n:"]), inner), max_size=3).map(
            lambda members: "{" + ",".join(f'"{name}"{colon}{value}' for name, colon, value in members) + "}"
        )
        | st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
    ),
    max_leaves=8,
)


@given(values)
def test_what_is_plain_is_what_a_reader_of_pairs_sees_and_no_member_stands_twice_in_it(text: str) -> None:
    def pairs(members: list[tuple[str, object]]) -> dict[str, object]:
        assert len(dict(members)) == len(members), "a member stands twice"
        return dict(members)

    found = plain(text.encode())
    if found is not msgspec.UNSET:
        assert repr(found) == repr(json.loads(text, object_pairs_hook=pairs))
    elif ":" not in text:  # then it is one of those that readers see differently
        assert any(odd in text for odd in ("1e400", "ud800", "NaN"))
